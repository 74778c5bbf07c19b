"""SODA's decoder: published size, the two modulations, parts of the code and their masks."""

import pytest
import torch
from torch import Tensor

from diffprobe.networks.condition import Condition
from diffprobe.networks.modulated_unet import ModulatedBlock, ModulatedUNet, part_lengths
from diffprobe.networks.unet import UNet
from diffprobe.networks.unet_blocks import BlockOptions

LEVELS, Z = 3, 8


def network(**options) -> ModulatedUNet:
    """Three levels; nothing in it is zero."""
    torch.manual_seed(0)
    made = ModulatedUNet(3, 8, (1, 2, 2), blocks=1, attention=(1,), groups=4, z=Z, **options).eval()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return made.requires_grad_(False)


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(3, 3, 8, 8), torch.rand(3), torch.randn(3, Z)


@pytest.mark.parametrize("modulation", ["direct", "residual"])
def test_published_parameter_count(modulation):
    """The re-implementation's decoder for CIFAR-10 and Tiny-ImageNet."""
    with torch.device("meta"):
        decoder = ModulatedUNet(3, 128, (1, 2, 2, 2), modulation, blocks=2, attention=(1,), z=128)
    assert sum(parameter.numel() for parameter in decoder.parameters()) == 39_595_139


def test_the_direct_block_is_the_plain_equation():
    """h = GN(conv1(..)); h = t_s h + t_b; h = z_s h + z_b; SiLU; conv2; shortcut."""
    torch.manual_seed(0)
    options = BlockOptions(emb=16, groups=4, eps=1e-5, dropout=0.0, skip_scale=1.0)
    block = ModulatedBlock(8, 12, options, seen=slice(0, 5), base_scale=0.0)
    x, time, z = torch.randn(2, 8, 6, 6), torch.randn(2, 16), torch.randn(2, 5)
    silu, norm, conv = torch.nn.functional.silu, torch.nn.functional.group_norm, torch.nn.functional.conv2d
    weights = dict(block.named_parameters())

    def scale_and_shift(name: str, condition: Tensor) -> tuple[Tensor, Tensor]:
        values = silu(condition) @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]
        return values[:, :12, None, None], values[:, 12:, None, None]

    h = conv(silu(norm(x, 4, weights["norm1.weight"], weights["norm1.bias"])), weights["conv1.weight"], padding=1)
    h = norm(h + weights["conv1.bias"][:, None, None], 4, weights["norm2.weight"], weights["norm2.bias"])
    (t_s, t_b), (z_s, z_b) = scale_and_shift("emb", time), scale_and_shift("code", z)
    h = t_s * h + t_b
    h = z_s * h + z_b
    h = conv(silu(h), weights["conv2.weight"], weights["conv2.bias"], padding=1)
    h = h + conv(x, weights["shortcut.weight"], weights["shortcut.bias"])
    torch.testing.assert_close(block(x, torch.cat([time, z], dim=1)), h)


def test_residual_modulation_is_silent_at_first():
    """Whatever initialises the rest: the code and the noise level move nothing, but the layers have gradients."""
    for init in ("torch", "edm", "truncated_normal"):
        fresh = ModulatedUNet(3, 8, (1, 2), blocks=1, groups=4, z=Z, init=init)
        x, c_noise, z = inputs()
        out = fresh(x, c_noise, Condition(z=z))[0]
        assert torch.equal(out, fresh(x, 1 - c_noise)[0])
        out.square().mean().backward()
        assert fresh.encoder[0].res.code.weight.grad.abs().max() > 0


@pytest.mark.parametrize("parts", ["all", "levels"])
@pytest.mark.parametrize("modulation", ["direct", "residual"])
def test_masking_all_parts_is_the_unconditional_model(modulation, parts):
    model = network(modulation=modulation, parts=parts)
    x, c_noise, z = inputs()
    k = len(model.part_lengths)
    assert k == {"all": 1, "levels": LEVELS + 1}[parts]
    unconditional = model(x, c_noise)[0]
    masked = model(x, c_noise, Condition(z=z * torch.inf, z_mask=torch.zeros(3, k, dtype=torch.bool)))[0]
    assert torch.equal(masked, unconditional)
    whole = model(x, c_noise, Condition(z=z))[0]
    assert torch.equal(model(x, c_noise, Condition(z=z, z_mask=torch.ones(3, k, dtype=torch.bool)))[0], whole)
    one = torch.tensor([True, False, True])[:, None].expand(3, k)  # per image
    expected = torch.where(one[:, :1, None, None], whole, unconditional)
    torch.testing.assert_close(model(x, c_noise, Condition(z=z, z_mask=one))[0], expected)


@pytest.mark.parametrize("part", range(LEVELS + 1))
def test_a_part_of_the_code_moves_the_blocks_of_its_level_alone(part):
    """In the encoder, the decoder and the resampling between; the last part those of the middle."""
    model = network(parts="levels", resample="block")
    x, c_noise, z = inputs()
    seen: dict[str, list[Tensor]] = {}
    for name, module in model.named_modules():
        if isinstance(module, ModulatedBlock):
            module.code.register_forward_hook(lambda _, __, out, name=name: seen.setdefault(name, []).append(out))
    model(x, c_noise, Condition(z=z))
    model(x, c_noise, Condition(z=z, z_mask=torch.arange(LEVELS + 1).expand(3, -1) != part))
    moved = {name for name, (before, after) in seen.items() if not torch.equal(before, after)}
    levels = [  # blocks = 1: one block per level of the encoder, two of the decoder, which begins at the lowest
        {"encoder.0.res", "downs.0", "ups.1", "decoder.4.res", "decoder.5.res"},
        {"encoder.1.res", "downs.1", "ups.0", "decoder.2.res", "decoder.3.res"},
        {"encoder.2.res", "decoder.0.res", "decoder.1.res"},
        {"mid1.res", "mid2.res"},
    ]
    assert moved == levels[part] and set().union(*levels) == set(seen)


def test_parts_cover_the_code():
    assert part_lengths(128, 5) == [26, 26, 26, 25, 25] and part_lengths(640, 5) == [128] * 5
    assert part_lengths(2, 3) == [1, 1, 0]
    empty = ModulatedUNet(3, 8, (1, 2), blocks=1, groups=4, parts="levels", z=2)
    assert empty.mid1.res.code is None and empty.encoder[1].res.code is not None


def test_without_a_code_it_is_modulated_by_the_noise_level():
    torch.manual_seed(0)
    plain = ModulatedUNet(3, 8, (1, 2), "direct", blocks=1, groups=4, classes=2)
    x, c_noise, _ = inputs()
    outs = [plain(x, c, Condition(label=label))[0] for c in (c_noise, c_noise + 1) for label in (None, torch.zeros(3))]
    assert all(not torch.allclose(outs[0], out) for out in outs[1:])


@pytest.mark.parametrize("modulation", ["direct", "residual"])
def test_both_modulations_learn_to_use_the_code(modulation):
    """A target that only the code tells: its loss falls far below that of the best constant, 1."""
    torch.manual_seed(0)
    model = ModulatedUNet(1, 8, (1, 2), modulation, "levels", z=3, blocks=1, groups=4)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    x, c_noise = torch.zeros(16, 1, 4, 4), torch.zeros(16)
    losses = []
    for _ in range(80):
        z = torch.randn(16, 3)
        out = model(x, c_noise, Condition(z=z))[0]
        losses.append((out - z[:, :1, None, None]).square().mean())
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert sum(losses[-20:]) / 20 < 0.3 < 0.6 < sum(losses[:5]) / 5


def test_truncated_normal_weights():
    """Variance 1 / fan-in, nothing beyond two standard deviations of the uncut distribution, zero biases."""
    torch.manual_seed(0)
    model = UNet(3, 32, (1, 2), blocks=1, init="truncated_normal")
    weight = model.encoder[1].res.conv2.weight * (64 * 9) ** 0.5
    assert weight.std().item() == pytest.approx(1, rel=0.02)
    assert 2.2 < weight.abs().max() <= 2 / 0.8796
    assert not model.encoder[1].res.conv2.bias.any()
