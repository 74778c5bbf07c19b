"""Import of EDM's weights: against a plain evaluation of its network, written by the paper and its names of tensors."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from toy_networks import config, refusal

from diffprobe.config.built import parse_model
from diffprobe.interop import edm
from diffprobe.interop.importing import import_weights
from diffprobe.networks.condition import Condition
from diffprobe.training import checkpoints

NETWORK = edm.NETWORK | {"kind": "unet", "channels": 128, "multipliers": [1, 2], "blocks": 1, "attention": [1]}
NETWORK |= {"label_layer": "scaled", "conditional": True, "init": "edm", "groups": 32}
SIZE = 8


def theirs() -> dict[str, torch.Tensor]:
    """A state dict with EDM's names and shapes, of random numbers."""
    torch.manual_seed(0)
    state: dict[str, torch.Tensor] = {}

    def layer(name: str, rows: int, *rest: int, bias: bool = True) -> None:
        state[f"{name}.weight"] = torch.randn(rows, *rest) / math.sqrt(math.prod(rest))
        if bias:
            state[f"{name}.bias"] = 0.1 * torch.randn(rows)

    def norm(name: str, width: int) -> None:
        state[f"{name}.weight"], state[f"{name}.bias"] = 1 + 0.1 * torch.randn(width), 0.1 * torch.randn(width)

    def block(name: str, into: int, out: int, attention: bool = False, resampled: bool = False) -> None:
        norm(f"{name}.norm0", into)
        layer(f"{name}.conv0", out, into, 3, 3)
        layer(f"{name}.affine", out, 512)
        norm(f"{name}.norm1", out)
        layer(f"{name}.conv1", out, out, 3, 3)
        if into != out or resampled:
            layer(f"{name}.skip", out, into, 1, 1)
        if resampled:
            state[f"{name}.conv0.resample_filter"] = torch.full((1, 1, 2, 2), 0.25)
        if attention:
            norm(f"{name}.norm2", out)
            layer(f"{name}.qkv", 3 * out, out, 1, 1)
            layer(f"{name}.proj", out, out, 1, 1)

    layer("map_label", 128, 10)
    layer("map_augment", 128, 9, bias=False)
    layer("map_layer0", 512, 128)
    layer("map_layer1", 512, 512)
    layer("enc.8x8_conv", 128, 1, 3, 3)
    block("enc.8x8_block0", 128, 128)
    block("enc.4x4_down", 128, 128, resampled=True)
    block("enc.4x4_block0", 128, 256, attention=True)
    block("dec.4x4_in0", 256, 256, attention=True)
    block("dec.4x4_in1", 256, 256)
    block("dec.4x4_block0", 256 + 256, 256)
    block("dec.4x4_block1", 256 + 128, 256, attention=True)
    block("dec.8x8_up", 256, 256, resampled=True)
    block("dec.8x8_block0", 256 + 128, 128)
    block("dec.8x8_block1", 128 + 128, 128)
    norm("dec.8x8_aux_norm", 128)
    layer("dec.8x8_aux_conv", 1, 128, 3, 3)
    return state


def evaluated(state: dict, x: torch.Tensor, c_noise: torch.Tensor, label: torch.Tensor, augment: torch.Tensor):
    """EDM's network (Karras et al. 2022, appendix F; Song et al. 2021 for DDPM++)."""

    def conv(name: str, h: torch.Tensor) -> torch.Tensor:
        return F.conv2d(
            h, state[f"{name}.weight"], state[f"{name}.bias"], padding=state[f"{name}.weight"].shape[-1] // 2
        )

    def linear(name: str, h: torch.Tensor) -> torch.Tensor:
        return F.linear(h, state[f"{name}.weight"], state.get(f"{name}.bias"))

    def norm(name: str, h: torch.Tensor) -> torch.Tensor:
        return F.group_norm(h, 32, state[f"{name}.weight"], state[f"{name}.bias"], 1e-6)

    def block(name: str, h: torch.Tensor, resample=lambda h: h) -> torch.Tensor:
        inner = (
            conv(f"{name}.conv0", resample(F.silu(norm(f"{name}.norm0", h))))
            + linear(f"{name}.affine", emb)[..., None, None]
        )
        inner = conv(f"{name}.conv1", F.silu(norm(f"{name}.norm1", inner)))
        h = resample(h)
        h = (inner + (conv(f"{name}.skip", h) if f"{name}.skip.weight" in state else h)) / math.sqrt(2)
        if f"{name}.qkv.weight" in state:
            width = h.shape[1]
            qkv = conv(f"{name}.qkv", norm(f"{name}.norm2", h)).flatten(2)  # channel 3 c + i is q, k or v of c
            q, k, v = (qkv[:, i::3] for i in range(3))
            weights = torch.softmax(torch.einsum("ncq,nck->nqk", q, k) / math.sqrt(width), 2)
            mixed = torch.einsum("nqk,nck->ncq", weights, v).reshape(h.shape)
            h = (h + conv(f"{name}.proj", mixed)) / math.sqrt(2)
        return h

    angles = c_noise[:, None] * 10000.0 ** (-torch.arange(64) / 63)
    emb = torch.cat([angles.sin(), angles.cos()], 1)
    emb = emb + linear("map_label", F.one_hot(label, 10) * math.sqrt(10)) + linear("map_augment", augment)
    emb = F.silu(linear("map_layer1", F.silu(linear("map_layer0", emb))))
    stem = conv("enc.8x8_conv", x)
    first = block("enc.8x8_block0", stem)
    down = block("enc.4x4_down", first, lambda h: F.avg_pool2d(h, 2))
    second = block("enc.4x4_block0", down)
    h = block("dec.4x4_in1", block("dec.4x4_in0", second))
    h = block("dec.4x4_block0", torch.cat([h, second], 1))
    h = block("dec.4x4_block1", torch.cat([h, down], 1))
    h = block("dec.8x8_up", h, lambda h: h.repeat_interleave(2, 2).repeat_interleave(2, 3))
    h = block("dec.8x8_block0", torch.cat([h, first], 1))
    h = block("dec.8x8_block1", torch.cat([h, stem], 1))
    return conv("dec.8x8_aux_conv", F.silu(norm("dec.8x8_aux_norm", h)))


@pytest.mark.parametrize("prefix", ["", "model."], ids=["the network's", "the preconditioned network's"])
def test_imported_weights_compute_what_edms_network_does(tmp_path: Path, prefix: str) -> None:
    state, file = theirs(), tmp_path / "edm.pt"
    torch.save({prefix + name: value for name, value in state.items()}, file)
    experiment = config(NETWORK, {"kind": "edm"}, augment={"p": 0.12})
    written = import_weights(experiment, "x", "edm", str(file), tmp_path / "edm.safetensors")
    network, head = checkpoints.load(written.path, torch.device("cpu"), parse_model)
    assert head["shape"] == {"image_channels": 1, "classes": 10, "augment": 9} and written.sets == ["ema"]
    x, c_noise, augment = torch.randn(3, 1, SIZE, SIZE), torch.tensor([-0.9, 0.2, 1.0]), torch.randn(3, 9)
    label = torch.tensor([7, 0, 3])
    actual, _ = network(x, c_noise, Condition(label=label, augment=augment))
    torch.testing.assert_close(actual, evaluated(state, x, c_noise, label, augment), atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"decoder_attention": "all"}, "network.decoder_attention: all is refused; allowed: last"),
        ({"label_layer": "plain"}, "network.label_layer: plain is refused; allowed: scaled"),
        ({"channels": 64}, "network.channels: 64 is refused; allowed: at least 128"),
        ({"blocks": 2}, "config/edm.yaml"),
    ],
)
def test_a_network_that_is_not_edms_is_refused(tmp_path: Path, change: dict, said: str) -> None:
    torch.save(theirs(), tmp_path / "edm.pt")
    experiment = config(NETWORK | change, {"kind": "edm"}, augment={"p": 0.12})
    assert said in refusal(import_weights, experiment, "x", "edm", str(tmp_path / "edm.pt"), tmp_path / "e.safetensors")
    assert not (tmp_path / "e.safetensors").exists()
