"""SODA's encoder and the model of both: torchvision's ResNets by the same weights, published sizes, taps."""

from types import SimpleNamespace

import pytest
import torch
import torchvision
from torch import Tensor, nn

from diffprobe.networks.condition import Condition
from diffprobe.networks.modulated_unet import ModulatedUNet
from diffprobe.networks.resnet import ResNet
from diffprobe.networks.soda import SODA


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(("stem", "count"), [("small", 11_234_496), ("large", 11_242_176)])
def test_published_parameter_counts(stem, count):
    """Those of the re-implementation, for CIFAR-10 and Tiny-ImageNet."""
    with torch.device("meta"):
        assert parameters(ResNet(3, z=128, stem=stem)) == count


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_names_and_shapes_are_torchvisions(depth):
    with torch.device("meta"):
        ours, theirs = ResNet(3, z=1000, depth=depth, stem="large"), getattr(torchvision.models, f"resnet{depth}")()
    shapes = [{name: value.shape for name, value in network.state_dict().items()} for network in (ours, theirs)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("depth", [18, 50])
@pytest.mark.parametrize("stem", ["small", "large"])
def test_outputs_are_torchvisions(depth, stem):
    """By the same weights, in training and by running statistics: the output, all taps, the statistics themselves."""
    torch.manual_seed(0)
    ours = ResNet(3, z=10, depth=depth, stem=stem)
    theirs = getattr(torchvision.models, f"resnet{depth}")(num_classes=10)
    if stem == "small":
        theirs.conv1, theirs.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
    theirs.load_state_dict(ours.state_dict())
    seen: dict[str, Tensor] = {}
    names = {"layer1": "stage_1", "layer2": "stage_2", "layer3": "stage_3", "layer4": "stage_4", "avgpool": "features"}
    for name, tap in names.items():
        theirs.get_submodule(name).register_forward_hook(lambda _, __, out, tap=tap: seen.update({tap: out}))
    x = torch.rand(4, 3, 16, 16) * 2 - 1
    for _ in ("training", "evaluation"):
        z, taps = ours(x)
        expected = theirs((x + 1) / 2)
        seen |= {"z": expected, "features": seen["features"].flatten(1)}
        assert list(taps) == ours.taps
        torch.testing.assert_close((z, taps), (expected, seen), rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(ours.state_dict(), theirs.state_dict())
        ours.eval(), theirs.eval()


def test_images_are_normalised_as_torchvision_does():
    mean, std = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
    encoder = ResNet(3, z=4, width=8, mean=mean, std=std).eval()
    x = torch.rand(2, 3, 8, 8)
    expected = torchvision.transforms.functional.normalize(x, mean, std)
    torch.testing.assert_close(encoder.normalised(2 * x - 1), expected)
    torch.testing.assert_close(encoder(2 * x - 1)[0], encoder.body(expected)[0])
    assert not {"mean", "std"} & set(encoder.state_dict())


def test_initial_weights():
    torch.manual_seed(0)
    for init, fan in (("kaiming", 9 * 128), ("xavier", 9 * 64 + 9 * 128)):
        conv = ResNet(3, z=4, init=init).layer2[0].conv1.weight  # (128, 64, 3, 3)
        assert conv.std().item() == pytest.approx((2 / fan) ** 0.5, rel=0.02)


def soda() -> SODA:
    torch.manual_seed(0)
    options = {"channels": 8, "multipliers": (1, 2), "modulation": "direct", "blocks": 1, "groups": 4}
    network = SimpleNamespace(build="diffprobe.networks.modulated_unet:ModulatedUNet", options=options)
    encoder = SimpleNamespace(depth=18, stem="small", width=4, mean=None, std=None, init="kaiming")
    return SODA(network, SimpleNamespace(z=6, encoder=encoder), image_channels=1).eval().requires_grad_(False)


def test_the_decoder_sees_the_code_of_the_source():
    model = soda()
    x, c_noise, source = torch.randn(2, 1, 8, 8), torch.rand(2), torch.rand(2, 1, 8, 8)
    assert isinstance(model.decoder, ModulatedUNet)
    assert {name.split(".")[0] for name in model.state_dict()} == {"encoder", "decoder"}
    whole, taps = model(x, c_noise, Condition(source=source), taps=model.taps)
    assert list(taps) == model.taps == [*model.encoder.taps, *model.decoder.taps]
    assert torch.equal(taps["z"], model.encode(source))
    by_code = Condition(z=taps["z"])
    assert torch.equal(model(x, c_noise, by_code)[0], whole)
    assert torch.equal(model(x, c_noise, by_code._replace(source=-source))[0], whole)  # z comes first
    assert torch.equal(model(x, c_noise)[0], model.decoder(x, c_noise)[0])  # the unconditional model
    masked = Condition(source=source, z_mask=torch.zeros(2, 1, dtype=torch.bool))
    assert torch.equal(model(x, c_noise, masked)[0], model(x, c_noise)[0])
    with pytest.raises(ValueError, match="source"):
        model(x, c_noise, taps=["features"])


def test_nothing_is_computed_after_the_last_tap():
    model = soda()
    x, c_noise, cond = torch.randn(2, 1, 8, 8), torch.rand(2), Condition(source=torch.rand(2, 1, 8, 8))
    _, whole = model(x, c_noise, cond, taps=model.taps)
    ran: list[str] = []
    for name in ("encoder.layer1", "encoder.layer4", "encoder.fc", "decoder.stem", "decoder.decoder.0", "decoder.head"):
        model.get_submodule(name).register_forward_hook(lambda *_, name=name: ran.append(name))
    order = ["encoder.layer1", "encoder.layer4", "encoder.fc", "decoder.stem", "decoder.decoder.0", "decoder.head"]
    for taps, last in ((["stage_1"], 1), (["features", "stage_1"], 2), (["z"], 3), (["z", "mid"], 4), (["out_1"], 5)):
        ran.clear()
        out, tapped = model(x, c_noise, cond, taps, features_only=True)
        assert out is None and ran == order[:last]
        assert tapped.keys() == set(taps) and all(torch.equal(tapped[tap], whole[tap]) for tap in taps)
    ran.clear()
    assert model(x, c_noise, cond, ["z"])[0] is not None and ran == order  # the output is asked for too
