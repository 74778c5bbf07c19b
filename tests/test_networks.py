"""The U-Net: published sizes and shapes, taps, early exit."""

import pytest
import torch
from diffusers.models.embeddings import get_timestep_embedding
from torch import Tensor, nn

from diffprobe.config.built import parse_network
from diffprobe.config.names import unet_taps
from diffprobe.networks.condition import Condition
from diffprobe.networks.unet import UNet
from diffprobe.networks.unet_blocks import BlockOptions, RightPadded, SpatialAttention, sinusoid


def small() -> UNet:
    torch.manual_seed(0)
    return UNet(3, 16, (1, 2, 2), blocks=2, attention=(1,), groups=8).eval()


def options_network(**options) -> UNet:
    torch.manual_seed(0)
    return UNet(3, 16, (1, 2), blocks=1, attention=(1,), groups=8, **options).eval()


DDPM = {"multipliers": (1, 2, 2, 2), "blocks": 2}
DDPMPP = {"multipliers": (2, 2, 2), "blocks": 4, "resample": "block"}


@pytest.mark.parametrize(
    ("options", "count"), [(DDPM, 35_746_307), (DDPMPP, 56_524_291), (DDPMPP | {"augment": 9}, 56_525_443)]
)
def test_published_parameter_counts(options, count):
    """DDAE's U-Nets (Xiang et al. 2023, their code's counts)."""
    with torch.device("meta"):
        network = UNet(3, 128, attention=(1,), dropout=0.1, **options)
    assert sum(parameter.numel() for parameter in network.parameters()) == count


EDM = DDPMPP | {"head_groups": 32, "norm_eps": 1e-6, "skip_scale": 0.5**0.5, "init": "edm", "augment": 9}
EDM |= {"shortcut_conv": True, "decoder_attention": "last", "label_layer": "scaled"}


@pytest.mark.parametrize(("classes", "count"), [(0, 55_733_891), (10, 55_735_299)])
def test_edms_parameter_counts(classes, count):
    """EDM's DDPM++ for CIFAR-10, by its code: with the augmentation label, unconditional and conditional."""
    with torch.device("meta"):
        network = UNet(3, 128, attention=(1,), dropout=0.13, classes=classes, **EDM)
    assert sum(parameter.numel() for parameter in network.parameters()) == count
    attention = [isinstance(block.attention, SpatialAttention) for block in [*network.encoder, *network.decoder]]
    assert [i for i, attends in enumerate(attention) if attends] == [4, 5, 6, 7, 12 + 9]
    assert [tuple(module.shortcut.weight.shape) for module in [*network.downs, *network.ups]] == [(256, 256, 1, 1)] * 4


def test_scaled_labels_add_their_column_and_the_bias():
    """EDM: labels are scaled by sqrt(classes); no label adds the bias alone."""
    network = options_network(classes=4, label_layer="scaled")
    torch.nn.init.normal_(network.label.bias)
    without = options_network().embed.requires_grad_(False)
    c_noise, labels = torch.tensor([0.3, -0.5, 0.1]), torch.tensor([2, -1, 0])
    added = torch.stack([2 * network.label.weight[:, 2], torch.zeros(16), 2 * network.label.weight[:, 0]])
    without.load_state_dict(network.embed.state_dict())
    for label, expected in ((labels, added), (None, torch.zeros(3, 16))):
        embedding = network.embedding(c_noise, Condition(label=label))
        assert torch.allclose(embedding, without(sinusoid(c_noise, 16) + expected + network.label.bias), atol=1e-6)


@pytest.mark.parametrize(
    ("options", "shapes"),
    [
        (DDPM, [(256, 4, 4)] * 3 + [(256, 8, 8)] * 3 + [(256, 16, 16)] * 3 + [(128, 32, 32)] * 3),
        (DDPMPP, [(256, 8, 8)] * 5 + [(256, 16, 16)] * 5 + [(256, 32, 32)] * 5),
    ],
)
def test_published_tap_shapes(options, shapes):
    with torch.device("meta"):
        network = UNet(3, 128, attention=(1,), **options)
        _, tapped = network(torch.zeros(1, 3, 32, 32), torch.zeros(1), taps=network.taps)
    sizes = {name: tuple(h.shape[1:]) for name, h in tapped.items()}
    assert [sizes[f"out_{i}"] for i in range(1, len(shapes) + 1)] == shapes
    assert f"out_{len(shapes) + 1}" not in sizes
    assert sizes["mid"] == shapes[0] and sizes["in_1"][1:] == (32, 32)


def test_taps_are_named_without_the_network():
    assert small().taps == unet_taps(levels=3, blocks=2)


OPTIONS = {"resample": "block", "skip_scale": 0.5**0.5, "init": "edm", "norm_eps": 1e-6, "classes": 3, "augment": 9}


@pytest.mark.parametrize("options", [{}, OPTIONS, {"down_padding": "right"}])
def test_early_exit_gives_the_same_features(options):
    network, x, c = options_network(**options), torch.randn(2, 3, 8, 8), torch.randn(2)
    cond = Condition(torch.tensor([0, -1]), torch.randn(2, 9))
    _, whole = network(x, c, cond, taps=network.taps)
    assert list(whole) == network.taps
    for tap in network.taps:
        out, tapped = network(x, c, cond, taps=[tap], features_only=True)
        assert out is None
        assert torch.equal(tapped[tap], whole[tap])


def test_early_exit_computes_no_more():
    network, x, c = small(), torch.randn(2, 3, 16, 16), torch.randn(2)
    calls = []
    network.head.register_forward_hook(lambda *_: calls.append(1))
    network.decoder[-1].register_forward_hook(lambda *_: calls.append(1))
    network(x, c, taps=["out_1"], features_only=True)
    assert not calls
    network(x, c)
    assert len(calls) == 2


@pytest.mark.parametrize("options", [{}, {"down_padding": "right"}, {"resample": "block", "skip_scale": 0.5}])
@pytest.mark.parametrize("weights", [torch.channels_last, torch.contiguous_format])
def test_all_maps_keep_one_memory_format(options, weights):
    """Norms, convolutions, resampling, attention, blocks: channels last from the image to the output, on a CPU."""
    network = options_network(**options).to(memory_format=weights)
    seen = []

    def look(module, _, out):
        if torch.is_tensor(out) and out.ndim == 4 and out.shape[1] > 1:
            seen.append((type(module).__name__, out.is_contiguous(memory_format=torch.channels_last)))

    for module in network.modules():
        module.register_forward_hook(look)
    network(torch.randn(2, 3, 8, 8).contiguous(memory_format=torch.channels_last), torch.zeros(2))
    names = {name for name, _ in seen}
    assert {"GroupNorm", "Conv2d", "SpatialAttention", "ResBlock"} <= names and names & {"Upsample", "Double"}
    assert [name for name, kept in seen if not kept] == []


def test_attention_is_the_plain_formula():
    """softmax((q d^-1/4) (k d^-1/4)^T) v, as DDAE and DDPM write it."""
    attention = SpatialAttention(16, BlockOptions(64, 4, 1e-5, 0.0, 1.0))
    x = torch.randn(2, 16, 4, 4)
    q, k, v = attention.qkv(attention.norm(x).flatten(2).mT).chunk(3, dim=-1)
    weights = ((q * 16**-0.25) @ (k * 16**-0.25).mT).softmax(dim=-1)
    expected = x + attention.out(weights @ v).mT.reshape(x.shape)
    torch.testing.assert_close(attention(x), expected)


def test_what_it_is_told_and_what_it_is_not():
    """No label (-1) and an augmentation of zeros add nothing; others do."""
    network = options_network(classes=3, augment=9)
    x, c = torch.randn(2, 3, 8, 8), torch.tensor([0.1, 0.2])
    plain = network(x, c)[0]
    nothing = Condition(torch.tensor([-1, -1]), torch.zeros(2, 9))
    torch.testing.assert_close(network(x, c, nothing)[0], plain)
    for cond in (Condition(torch.tensor([0, -1])), Condition(augment=torch.eye(9)[:2] * torch.tensor([[1.0], [0]]))):
        out = network(x, c, cond)[0]
        assert not torch.allclose(out[0], plain[0]) and torch.allclose(out[1], plain[1], atol=1e-6)


def test_noise_levels_are_embedded_as_in_ddpm():
    """Sines, then cosines, the last frequency 1/10000; for DDPM's steps and for EDM's logarithms alike."""
    c = torch.tensor([-1.55, 0.0, 0.011, 500.0])
    torch.testing.assert_close(
        sinusoid(c, 128), get_timestep_embedding(c, 128, downscale_freq_shift=1), rtol=0, atol=1e-4
    )


def test_time_scale_multiplies_the_noise_level():
    x, c = torch.randn(2, 3, 8, 8), torch.tensor([0.1, 0.2])
    scaled = options_network(time_scale=1000.0)(x, c)[0]
    assert torch.equal(scaled, options_network()(x, 1000 * c)[0])


def test_padding_on_the_right_is_that_of_ddpm():
    """TensorFlow's SAME for stride 2: the window of output 0 begins at input 0, the last one reaches one beyond."""
    right, both = (
        options_network(down_padding=padding).downs[0].requires_grad_(False) for padding in ("right", "both")
    )
    assert isinstance(right, RightPadded)
    x = torch.randn(1, 16, 8, 8)

    def window(rows: slice, kernel: slice) -> Tensor:
        return torch.einsum("oihw,ihw->o", right.weight[:, :, kernel, kernel], x[0, :, rows, rows]) + right.bias

    torch.testing.assert_close(right(x)[0, :, 0, 0], window(slice(0, 3), slice(3)))
    torch.testing.assert_close(right(x)[0, :, -1, -1], window(slice(6, 8), slice(2)))
    torch.testing.assert_close(both(x)[0, :, 0, 0], window(slice(0, 2), slice(1, 3)))
    assert right(x).shape == both(x).shape == (1, 16, 4, 4)


@pytest.mark.parametrize(("init", "join"), [("ddpm", 0.0), ("edm", 1e-5)])
def test_initial_weights_leave_branches_almost_silent(init, join):
    network = options_network(init=init).requires_grad_(False)
    block = network.encoder[1]
    for module in (block.res.conv2, block.attention.out, network.head[2]):
        fan = module.weight[0].numel() + module.weight[:, 0].numel()
        assert module.weight.std() == pytest.approx(join * (2 / fan) ** 0.5, rel=0.15, abs=1e-12)
    fan = block.res.conv1.weight[0].numel() + block.res.conv1.weight[:, 0].numel()
    assert block.res.conv1.weight.std() == pytest.approx((2 / fan) ** 0.5, rel=0.1)
    assert not any(m.bias.any() for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear))
    shared = {"ddpm": (2 / (32 + 32)) ** 0.5, "edm": (0.2 * 2 / (32 + 96)) ** 0.5}[init]
    assert block.attention.qkv.weight.std() == pytest.approx(shared, rel=0.05)


def test_residual_sums_are_scaled():
    """Of blocks and of attention alike: where their branches are silent, the whole is a factor."""
    block = options_network(init="ddpm", skip_scale=0.5).mid1
    x, emb = torch.randn(1, 32, 4, 4), torch.randn(1, 64)
    assert torch.equal(block.res(x, emb), x / 2) and torch.equal(block(x, emb), x / 4)
    torch.manual_seed(0)
    plain = SpatialAttention(16, BlockOptions(64, 4, 1e-5, 0.0, 1.0))
    torch.manual_seed(0)
    half = SpatialAttention(16, BlockOptions(64, 4, 1e-5, 0.0, 0.5))
    assert torch.equal(half(x[:, :16]), plain(x[:, :16]) / 2)


def test_norms_take_their_options():
    network = options_network(norm_eps=1e-3, head_groups=4)
    norms = [module for module in network.modules() if isinstance(module, nn.GroupNorm)]
    assert {(norm.num_groups, norm.eps) for norm in norms[:-1]} == {(8, 1e-3)}
    assert (network.head[0].num_groups, network.head[0].eps) == (4, 1e-3)


def test_squares_of_pixels_are_channels_of_one_position():
    """The network within is the plain one, on images of a quarter of the positions and four times the channels."""
    whole = options_network(patch=2)
    torch.manual_seed(0)
    within = UNet(12, 16, (1, 2), blocks=1, attention=(1,), groups=8).eval()
    within.load_state_dict(whole.state_dict())
    x, c_noise = torch.randn(2, 3, 8, 8), torch.tensor([0.3, -0.5])
    squares = x.view(2, 3, 4, 2, 4, 2).permute(0, 1, 3, 5, 2, 4).reshape(2, 12, 4, 4)
    expected, taps = within(squares, c_noise, taps=["out_2"])
    output, seen = whole(x, c_noise, taps=["out_2"])
    torch.testing.assert_close(seen["out_2"], taps["out_2"])
    restored = expected.view(2, 3, 2, 2, 4, 4).permute(0, 1, 4, 2, 5, 3).reshape(2, 3, 8, 8)
    torch.testing.assert_close(output, restored)


UNET = {"kind": "unet", "channels": 8, "blocks": 1}


@pytest.mark.parametrize(
    ("network", "key"),
    [
        (UNET | {"multipliers": [1, 1, 1], "groups": 8}, "n.groups"),
        (UNET | {"multipliers": [1, 1, 1], "groups": 4}, None),
        (UNET | {"multipliers": [1], "groups": 4, "head_groups": 8, "patch": 4, "attention": []}, "n.head_groups"),
        ({"kind": "dit", "width": 16, "depth": 1, "heads": 1, "patch": 2, "mlp_ratio": 0.01}, "n.mlp_ratio"),
    ],
)
def test_layers_that_would_be_empty_are_refused(network: dict, key: str | None) -> None:
    """A group of one channel at one position has no deviation; a layer of no channels no output."""
    assert [place for place, *_ in parse_network(network).problems("n", 4)] == ([key] if key else [])
