"""The diffusion transformer: published sizes and keys, diffusers as an independent reference, positions, labels."""

import pytest
import torch
from diffusers import DiTTransformer2DModel
from torch import Tensor, nn

from diffprobe.networks.condition import Condition
from diffprobe.networks.dit import DiT, grid_positions, sinusoid


def small(classes: int = 10, out_channels: int | None = None) -> DiT:
    """With all weights at work, as adaLN-Zero's are not before training."""
    torch.manual_seed(0)
    network = DiT(4, width=48, depth=2, heads=4, patch=2, classes=classes, out_channels=out_channels).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    return network


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({"width": 384, "depth": 12, "heads": 6, "patch": 2}, 32_865_056),
        ({"width": 768, "depth": 12, "heads": 12, "patch": 8}, 130_869_248),
        ({"width": 1024, "depth": 24, "heads": 16, "patch": 4}, 457_988_224),
        ({"width": 1152, "depth": 28, "heads": 16, "patch": 2}, 674_834_720),
    ],
    ids=["S/2", "B/8", "L/4", "XL/2"],
)
def test_published_parameter_counts(options: dict, count: int) -> None:
    """Trainable ones, of latents with learned variance and 1,000 classes (Peebles & Xie 2023)."""
    with torch.device("meta"):
        network = DiT(4, classes=1000, out_channels=8, **options)
    assert sum(parameter.numel() for parameter in network.parameters()) == count


def test_keys_are_those_of_the_published_checkpoints() -> None:
    with torch.device("meta"):
        keys = DiT(4, 1152, 28, 16, 2, classes=1000, out_channels=8).state_dict()
    assert len(keys) == 291  # and the table of positions, which we compute
    assert keys["blocks.27.attn.qkv.weight"].shape == (3456, 1152)
    assert keys["y_embedder.embedding_table.weight"].shape == (1001, 1152)
    assert keys["final_layer.linear.weight"].shape == (32, 1152)


def in_diffusers(network: DiT) -> DiTTransformer2DModel:
    """The same weights in diffusers' network, its frequencies put right (it divides by 127 where DiT has 128)."""
    other = DiTTransformer2DModel(
        num_attention_heads=4, attention_head_dim=12, in_channels=4, out_channels=8, num_layers=2, sample_size=8,
        patch_size=2, num_embeds_ada_norm=10, norm_eps=1e-6,
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
    for module in other.modules():
        if hasattr(module, "downscale_freq_shift"):
            module.downscale_freq_shift = 0
    return other


@torch.no_grad()
def test_diffusers_computes_the_same() -> None:
    network = small(out_channels=8)
    x, t, label = torch.randn(3, 4, 8, 8), torch.tensor([0.0, 500.0, 999.0]), torch.tensor([1, 2, 9])
    expected = in_diffusers(network)(x, t, label).sample
    torch.testing.assert_close(network(x, t, Condition(label))[0], expected, rtol=1e-4, atol=1e-4)


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
    tokens = network.tokens(x, 4, 2)
    x[0, :, 4:6, 2:4] = 1  # the patch in row 2, column 1
    changed = (network.tokens(x, 4, 2) - tokens).abs().sum(2)[0].nonzero().flatten()
    assert changed.tolist() == [2 * 2 + 1]
    patches = torch.zeros(1, 8, 16, dtype=torch.float64)
    patches[0, 5, 0:4] = torch.arange(1.0, 5)  # its first pixel, all channels
    image = network.image(patches, 4, 2)
    assert image[0, :, 4, 2].tolist() == [1, 2, 3, 4] and image.count_nonzero() == 4
