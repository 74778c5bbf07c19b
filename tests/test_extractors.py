"""The extractors against pytorch-fid's own network and plain functional convolutions."""

import os
from pathlib import Path
from urllib.error import URLError

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffprobe.config.built import parse_network
from diffprobe.config.extractors.inception import InceptionExtractor
from diffprobe.evaluation.generation.extractors import FeatureExtractor, make
from diffprobe.evaluation.generation.extractors.inception import head_of
from diffprobe.networks.build import build
from diffprobe.plan.arguments import parse_extractor
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import sha256
from diffprobe.training import checkpoints

State = dict[str, Tensor]
BN_EPS = 1e-3
CPU = torch.device("cpu")


def inception(dims: int, weights: Path | None) -> FeatureExtractor:
    return make(InceptionExtractor(kind="inception", dims=dims), weights, CPU)


@pytest.fixture(scope="module")
def real_weights() -> Path:
    """The public weights up to Mixed_6e, batch norm folded; they are no part of the project."""
    folder = os.environ.get("DIFFPROBE_TEST_DATA")
    if not folder:
        pytest.skip("DIFFPROBE_TEST_DATA is not set: no real Inception weights here")
    return Path(folder) / "weights" / "fid_inception_2015_12_05_to_mixed_6e.safetensors"


@pytest.fixture(scope="module")
def unfolded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A .pth as pytorch-fid publishes it, up to Mixed_6e: random convolutions, norms with random moments."""
    import torchvision

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = torchvision.models.inception_v3(num_classes=1008, aux_logits=False, weights=None, init_weights=False)
        for norm in (m for m in network.modules() if isinstance(m, nn.BatchNorm2d)):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, std=0.3)
            nn.init.normal_(norm.running_mean, std=0.1)
            nn.init.uniform_(norm.running_var, 0.1, 0.4)
    layers = ("Conv2d", "Mixed_5", "Mixed_6")
    path = tmp_path_factory.mktemp("weights") / "unfolded.pth"
    torch.save({name: value for name, value in network.state_dict().items() if name.startswith(layers)}, path)
    return path


def fold(state: State) -> State:
    """Every norm's scale moved into its convolution and its shift into a bias; the norm left neutral."""
    folded = {}
    for name in (name.removesuffix(".conv.weight") for name in state if name.endswith(".conv.weight")):
        weight, bias, mean, var = (state[f"{name}.bn.{x}"] for x in ("weight", "bias", "running_mean", "running_var"))
        scale = weight / (var + BN_EPS).sqrt()
        folded[f"{name}.conv.weight"] = state[f"{name}.conv.weight"] * scale[:, None, None, None]
        folded[f"{name}.bn.bias"] = bias - mean * scale
        folded[f"{name}.bn.weight"] = torch.ones_like(weight)
        folded[f"{name}.bn.running_mean"] = torch.zeros_like(mean)
        folded[f"{name}.bn.running_var"] = torch.full_like(var, 1 - BN_EPS)
    return folded


def pytorch_fid(state: State, images: Tensor, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """768 features of images (B, H, W, 3) by pytorch-fid's network, whose blocks are loaded one by one."""
    import pytorch_fid.inception as fid

    monkeypatch.setattr(fid, "load_state_dict_from_url", lambda *_, **__: {})
    monkeypatch.setattr(nn.Module, "load_state_dict", lambda *_: None)
    network = fid.InceptionV3([2]).eval()
    monkeypatch.undo()
    layers = dict.fromkeys(name.split(".")[0] for name in state)  # in the order of computation
    modules = [m for block in network.blocks for m in block if not isinstance(m, nn.MaxPool2d)]
    for layer, module in zip(sorted(layers), modules, strict=True):
        module.load_state_dict(
            {name.removeprefix(f"{layer}."): value for name, value in state.items() if name.startswith(layer)},
            strict=False,
        )
    return network(images.permute(0, 3, 1, 2) / 255)[0].mean((2, 3))


def functional_64(state: State, images: Tensor) -> Tensor:
    """64 features of images (B, H, W, 3), from the weights alone: three convolutions and a pooling."""
    x = F.interpolate(images.permute(0, 3, 1, 2) / 255, (299, 299), mode="bilinear") * 2 - 1
    for name, stride, padding in (("Conv2d_1a", 2, 0), ("Conv2d_2a", 1, 0), ("Conv2d_2b", 1, 1)):
        x = F.conv2d(x, state[f"{name}_3x3.conv.weight"], None, stride, padding)
        mean, var, weight, bias = (
            state[f"{name}_3x3.bn.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
        )
        x = F.relu((x - mean) / (var + BN_EPS).sqrt() * weight + bias)
    return F.max_pool2d(x, 3, 2).mean((2, 3))


def images(channels: int = 3) -> Tensor:
    """Noise and a ramp, uint8 (2, 32, 32, C)."""
    noise = torch.randint(0, 256, (32, 32, channels), generator=torch.Generator().manual_seed(1))
    ramp = torch.arange(0, 256, 8)[:, None, None].expand_as(noise)
    return torch.stack([noise, ramp]).to(torch.uint8)


def close(features: Tensor, expected: Tensor) -> bool:
    return torch.allclose(features, expected, rtol=1e-4, atol=1e-4 * expected.abs().mean().item())


def test_folded_and_unfolded_files_give_pytorch_fids_features(
    unfolded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = torch.load(unfolded, weights_only=True)
    folded = tmp_path / "folded.safetensors"
    safetensors.torch.save_file(fold(state), folded)
    expected = pytorch_fid(state, images(), monkeypatch)
    assert expected.std(0).mean() > 0.02 * expected.mean()  # what `close` allows is far below the signal
    for path in (unfolded, folded):
        extractor = inception(768, path)
        features = extractor.apply(images()).pooled
        assert (extractor.name, extractor.dim, extractor.weights) == ("inception_768", 768, sha256(path))
        assert features.dtype == torch.float32
        assert features.shape == (2, 768)
        assert close(features, expected)
    assert close(inception(64, unfolded).apply(images()).pooled, functional_64(state, images()))


def test_real_file_gives_pytorch_fids_features(real_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = safetensors.torch.load_file(real_weights)
    extractor = inception(768, real_weights)
    assert close(extractor.apply(images()).pooled, pytorch_fid(state, images(), monkeypatch))
    assert close(inception(64, real_weights).apply(images()).pooled, functional_64(state, images()))
    with pytest.raises(UserError, match=r"lack Mixed_7a.branch3x3_1.conv.weight") as error:
        inception(2048, real_weights)
    assert "\n" not in str(error.value)


def test_gray_is_repeated_and_a_partial_file_serves_only_its_dims(unfolded: Path, tmp_path: Path) -> None:
    state = torch.load(unfolded, weights_only=True)
    path = tmp_path / "start.safetensors"
    safetensors.torch.save_file({name: state[name] for name in state if "Mixed" not in name}, path)
    apply = inception(192, path).apply
    gray = images(channels=1)
    assert torch.equal(apply(gray).pooled, apply(gray.expand(-1, -1, -1, 3)).pooled)
    for dims, missing in ((768, "Mixed_5b.branch1x1.conv.weight"), (2048, "Mixed_5b.branch1x1.conv.weight")):
        with pytest.raises(UserError, match=f"dims {dims} lack {missing}"):
            inception(dims, path)


class Unsafe:
    """What a .pth with code in it would hold."""


def test_bad_weights_end_in_one_line(tmp_path: Path) -> None:
    torch.save({"Conv2d_1a_3x3.conv.weight": Unsafe()}, tmp_path / "code.pth")
    (tmp_path / "cut.safetensors").write_bytes(b"cut")
    torch.save([torch.zeros(3)], tmp_path / "list.pth")
    torch.save({0: torch.zeros(3)}, tmp_path / "numbers.pth")
    torch.save({"Conv2d_1a_3x3.conv.weight": torch.zeros(99, 99)}, tmp_path / "flipped.pth")
    data = bytearray((tmp_path / "flipped.pth").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "flipped.pth").write_bytes(data)
    cases = {"none.pth": "cannot be read", "code.pth": "cannot be read", "cut.safetensors": "cannot be read",
             "list.pth": "holds a list, expected tensors by name", "numbers.pth": "expected tensors by name",
             "flipped.pth": "checksum", "weights.h5": "expected a .safetensors or .pth file"}  # fmt: skip
    for name, message in cases.items():
        with pytest.raises(UserError, match=message) as error:
            inception(64, tmp_path / name)
        assert name in str(error.value)
        assert "\n" not in str(error.value)


def test_the_head_is_checked_as_the_layers_are() -> None:
    head = torch.randn(5, 2048).half()
    assert torch.equal(head_of({"fc.weight": head}, Path("a.pth")), head.float())
    with pytest.raises(UserError, match=r"a\.pth: fc\.weight .*; download them again"):
        head_of({"fc.weight": head[:, :9]}, Path("a.pth"))


def test_offline_download_names_the_remedies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", offline)
    with pytest.raises(
        UserError, match=r"Name or service not known.*hub/checkpoints/pt_inception.*`weights:`"
    ) as error:
        inception(2048, None)
    assert "\n" not in str(error.value)
    assert error.value.__suppress_context__
    assert not list(tmp_path.rglob("*.p*")), "a broken download is left behind"


def test_classifier_gets_images_from_minus_one_to_one(tmp_path: Path) -> None:
    config, shape = {"kind": "classifier", "channels": 4}, {"image_channels": 3, "classes": 5}
    network, weights = build(parse_network(config), **shape).eval(), tmp_path / "ema.safetensors"
    checkpoints.write(weights, {"ema": network.state_dict()}, {"network": config, "shape": shape})
    extractor = make(parse_extractor({"kind": "classifier"}), weights, CPU)
    assert (extractor.name, extractor.dim, extractor.classes) == ("classifier", 16, 5)
    assert extractor.weights == sha256(weights)
    features = network.features(images().permute(0, 3, 1, 2) / 127.5 - 1)
    torch.testing.assert_close(extractor.apply(images()).pooled, features)
    torch.testing.assert_close(extractor.apply(images()).logits, network.head(features))
