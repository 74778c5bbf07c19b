"""The diffusion transformer: diffusers as an independent reference, positions, labels, taps, its relatives."""

import math

import pytest
import torch
from diffusers import DiTTransformer2DModel
from torch import Tensor
from toy_dit import small

from diffprobe.networks.condition import Condition
from diffprobe.networks.dit import DiT
from diffprobe.networks.dit_blocks import sinusoid
from diffprobe.networks.positions import grid_positions


def in_diffusers(network: DiT) -> DiTTransformer2DModel:
    """The same weights in diffusers' network."""
    other = DiTTransformer2DModel(
        num_attention_heads=4, attention_head_dim=12, in_channels=4, out_channels=8, num_layers=2, sample_size=8,
        patch_size=2, num_embeds_ada_norm=10,
    ).eval()  # fmt: skip
    names = {"x_embedder.proj": ["pos_embed.proj"], "final_layer.linear": ["proj_out_2"]}
    names["final_layer.adaLN_modulation.1"] = ["proj_out_1"]
    for i in range(2):
        ours, theirs = f"blocks.{i}", f"transformer_blocks.{i}"
        names |= {f"{ours}.adaLN_modulation.1": [f"{theirs}.norm1.linear"]}
        names |= {f"{ours}.attn.proj": [f"{theirs}.attn1.to_out.0"]}
        names |= {f"{ours}.attn.qkv": [f"{theirs}.attn1.to_{part}" for part in "qkv"]}
        names |= {f"{ours}.mlp.fc1": [f"{theirs}.ff.net.0.proj"], f"{ours}.mlp.fc2": [f"{theirs}.ff.net.2"]}
    embedders = [f"transformer_blocks.{i}.norm1.emb" for i in range(2)]
    state = {}
    for key, value in network.state_dict().items():
        name, kind = key.rsplit(".", 1)
        if name == "y_embedder.embedding_table":
            state |= {f"{e}.class_embedder.embedding_table.weight": value for e in embedders}
        elif name.startswith("t_embedder"):
            layer = {"0": "linear_1", "2": "linear_2"}[name[-1]]
            state |= {f"{e}.timestep_embedder.{layer}.{kind}": value for e in embedders}
        else:
            parts = value.chunk(len(names[name]))
            state |= {f"{theirs}.{kind}": part for theirs, part in zip(names[name], parts, strict=True)}
    other.load_state_dict(state)
    return other


@torch.no_grad()
def test_diffusers_computes_the_same() -> None:
    """To 1e-5, with its divisor of 127 in the time exponent and its epsilon before MLPs; without them it does not."""
    x, t, label = torch.randn(3, 4, 8, 8), torch.tensor([0.0, 500.0, 999.0]), torch.tensor([1, 2, 9])

    def outputs(**options: object) -> tuple[Tensor, Tensor]:
        network = small(out_channels=8, **options)
        return network(x, t, Condition(label))[0], in_diffusers(network)(x, t, label).sample

    own, theirs = outputs(time_embedding="diffusers", mlp_norm_eps=1e-5)
    torch.testing.assert_close(own, theirs, rtol=1e-5, atol=1e-5)
    own, theirs = outputs(mlp_norm_eps=1e-5)
    assert (own - theirs).abs().max() > 1e-3


def test_the_output_is_zero_before_training() -> None:
    network = DiT(3, 32, 2, 4, 2, classes=5)
    out, _ = network(torch.randn(2, 3, 6, 4), torch.randn(2), Condition(torch.tensor([0, 4])))
    assert out.shape == (2, 3, 6, 4) and not out.any()


def test_positions() -> None:
    """By quarters sines and cosines of the column, then of the row; columns touch the first half only."""
    table = grid_positions(3, 5, 8, torch.device("cpu")).reshape(3, 5, 8)
    assert torch.equal(table[0, 0], torch.tensor([0.0, 0, 1, 1, 0, 0, 1, 1]))
    assert torch.equal(table[0, 1, 4:], table[0, 0, 4:]) and not torch.equal(table[0, 1, :4], table[0, 0, :4])
    assert torch.equal(table[1, 0, :4], table[0, 0, :4]) and not torch.equal(table[1, 0, 4:], table[0, 0, 4:])
    swapped = grid_positions(3, 5, 8, torch.device("cpu"), rows_first=True).reshape(3, 5, 8)
    assert torch.equal(swapped, torch.cat([table[..., 4:], table[..., :4]], dim=2))
    assert torch.equal(sinusoid(torch.zeros(1), 256)[0], torch.cat([torch.ones(128), torch.zeros(128)]))


@torch.no_grad()
def test_no_label_is_a_class_of_its_own() -> None:
    network, x, c = small(), torch.randn(2, 4, 8, 8), torch.randn(2)

    def out(label: list[int] | None) -> Tensor:
        return network(x, c, Condition(None if label is None else torch.tensor(label)))[0]

    assert torch.equal(out(None), out([-1, -1]))
    assert not torch.equal(out([0, 0]), out([-1, -1])) and not torch.equal(out([9, 9]), out([-1, -1]))
    assert torch.equal(out([3, -1])[1], out([-1, -1])[1])
    assert torch.equal(small(classes=0)(x, c, Condition(torch.tensor([3, 3])))[0], small(classes=0)(x, c)[0])


@torch.no_grad()
def test_early_exit_gives_the_same_features_and_computes_no_more() -> None:
    network, x, c = small(), torch.randn(2, 4, 8, 4), torch.randn(2)
    out, whole = network(x, c, taps=network.taps)
    assert out.shape == x.shape and whole["block_1"].shape == (2, 48, 4, 2)
    calls = []
    network.blocks[1].register_forward_hook(lambda *_: calls.append(1))
    nothing, tapped = network(x, c, taps=["block_0"], features_only=True)
    assert nothing is None and torch.equal(tapped["block_0"], whole["block_0"]) and not calls


@torch.no_grad()
def test_maps_keep_the_places_of_patches() -> None:
    """With positions off the only thing that tells places apart is the input: a changed patch stays where it is."""
    network = small().double()
    x = torch.zeros(1, 4, 8, 4, dtype=torch.float64)
    tokens, _ = network.tokens(x, 4, 2)
    x[0, :, 4:6, 2:4] = 1  # the patch in row 2, column 1
    changed = (network.tokens(x, 4, 2)[0] - tokens).abs().sum(2)[0].nonzero().flatten()
    assert changed.tolist() == [2 * 2 + 1]
    patches = torch.zeros(1, 8, 16, dtype=torch.float64)
    patches[0, 5, 0:4] = torch.arange(1.0, 5)  # its first pixel, all channels
    image = network.image(patches, 4, 2)
    assert image[0, :, 4, 2].tolist() == [1, 2, 3, 4] and image.count_nonzero() == 4


@torch.no_grad()
def test_the_null_class_is_the_number_of_classes() -> None:
    network, x, c = small(), torch.randn(2, 4, 8, 8), torch.randn(2)
    table = network.y_embedder.embedding_table.weight
    assert table.shape == (11, 48)
    assert torch.equal(network.y_embedder(torch.tensor([-1, 10, 3])), table[[10, 10, 3]])
    assert torch.equal(network(x, c, Condition(torch.tensor([10, 10])))[0], network(x, c)[0])


@torch.no_grad()
@pytest.mark.parametrize("position", ["abs", "abs_rows", "rope", "gta"])
def test_taps_of_branches_are_what_hooks_read(position: str) -> None:
    """Each alone, by early exit, equals the hooked full pass; `all` leaves the branches out."""
    network, x, c = small(position=position, qk_norm=True), torch.randn(2, 4, 4, 8), torch.randn(2)
    assert network.taps == ["block_0", "block_1"]
    assert network.named_taps == ["attn_0", "mlp_0", "block_0", "attn_1", "mlp_1", "block_1"]
    hooked: dict[str, Tensor] = {}
    for i, block in enumerate(network.blocks):
        block.attn.register_forward_hook(lambda _m, _x, y, name=f"attn_{i}": hooked.update({name: y}))
        block.mlp.register_forward_hook(lambda _m, _x, y, name=f"mlp_{i}": hooked.update({name: y}))
    whole = network(x, c, taps=network.named_taps)[1]
    branches = {name: tap.flatten(2).mT for name, tap in whole.items() if not name.startswith("block")}
    assert branches.keys() == hooked.keys() and all(torch.equal(branches[name], hooked[name]) for name in branches)
    for name in network.named_taps:
        hooked.clear()
        nothing, tapped = network(x, c, taps=[name], features_only=True)
        assert nothing is None and torch.equal(tapped[name], whole[name])
        assert len(hooked) == 1 + 2 * int(name[-1]) + (not name.startswith("attn"))  # and nothing after it


@torch.no_grad()
def test_sit_is_dit_in_the_other_direction() -> None:
    """SiT (Ma et al. 2024): time from noise to data, velocity image minus noise, the variance's channels dropped."""
    network = small(reversed_flow=True, discard_variance=True)
    plain = small(out_channels=8)
    plain.load_state_dict(network.state_dict())
    x, t = torch.randn(2, 4, 8, 8), torch.rand(2)
    assert torch.equal(network(x, t)[0], -plain(x, 1 - t)[0][:, :4])


@torch.no_grad()
def test_time_embeddings() -> None:
    """DiT's has cosines first. DiT-PyTorch's has sines first and the tokens' width; diffusers' slowest wave is 10,000
    times the fastest.
    """
    assert sinusoid(torch.zeros(1), 256)[0].tolist() == [1.0] * 128 + [0.0] * 128
    seen: list[Tensor] = []
    network = small(time_embedding="dit_pytorch")
    network.t_embedder.mlp.register_forward_hook(lambda _m, inputs, _y: seen.append(inputs[0][0]))
    network(torch.zeros(1, 4, 8, 8), torch.tensor([3.0]))
    angles = 3 / 10000 ** (torch.arange(24) / 24)
    torch.testing.assert_close(seen[0], torch.cat([angles.sin(), angles.cos()]))
    assert sinusoid(torch.tensor([1e4]), 256, last=1)[0, 127] == pytest.approx(math.cos(1), abs=1e-3)
