"""The diffusion transformer: published sizes and keys, diffusers as an independent reference, positions, labels."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers import DiTTransformer2DModel
from pydantic import ValidationError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter
from toy_training import KilledError, equal, run_once, slice_of, stream

from diffprobe.config.built import parse_model
from diffprobe.config.networks import Network
from diffprobe.config.training import HalfLife
from diffprobe.diffusion.flow import Flow
from diffprobe.interop.exporting import export
from diffprobe.networks.build import build
from diffprobe.networks.condition import Condition
from diffprobe.networks.dit import DiT
from diffprobe.networks.dit_blocks import sinusoid
from diffprobe.networks.flops import on_meta
from diffprobe.networks.positions import grid_positions
from diffprobe.reporting.network_cost import tap_costs, whole_cost
from diffprobe.training import checkpoints
from diffprobe.training.optimizers import Options
from diffprobe.training.state import State
from diffprobe.training.tasks.diffusion import Diffusion


def small(classes: int = 10, out_channels: int | None = None, **options: object) -> DiT:
    """With all weights at work, as adaLN-Zero's are not before training."""
    torch.manual_seed(0)
    network = DiT(4, width=48, depth=2, heads=4, patch=2, classes=classes, out_channels=out_channels, **options).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    return network


IMAGENET = {"classes": 1000, "out_channels": 8}  # latents with learned variance (Peebles & Xie 2023)
LATENTS = (4, 32, 32)
PUBLISHED = {  # parameters with the fixed table, those trained, forward GMAC (the paper's "Gflops")
    "S/2": (32_963_360, 32_865_056, 6.06),
    "S/4": (32_945_024, 32_920_448, 1.41),
    "S/8": (33_148_160, 33_142_016, 0.36),
    "B/2": (130_512_416, 130_315_808, 23.01),
    "B/4": (130_475_648, 130_426_496, 5.57),
    "B/8": (130_881_536, 130_869_248, 1.42),
    "L/2": (458_102_816, 457_840_672, 80.70),
    "L/4": (458_053_760, 457_988_224, 19.70),
    "L/8": (458_594_816, 458_578_432, 5.01),
    "XL/2": (675_129_632, 674_834_720, 118.6),
    "XL/4": (675_074_432, 675_000_704, 29.04),
    "XL/8": (675_683_072, 675_664_640, 7.39),
}


def sizes(image: tuple[int, int, int] = LATENTS, shape: dict = IMAGENET, **settings: object) -> tuple[int, int, float]:
    counted = whole_cost(*on_meta(Network.member({"kind": "dit", **settings}), image, **shape))
    return counted["parameters"], counted["trainable"], counted["forward_flops"] / 2e9


@pytest.mark.parametrize("size", PUBLISHED)
def test_published_sizes(size: str) -> None:
    parameters, trainable, gmac = sizes(size=size)
    assert (parameters, trainable) == PUBLISHED[size][:2]
    assert gmac == pytest.approx(PUBLISHED[size][2], abs=0.05 if gmac > 100 else 0.005)


def test_published_sizes_of_relatives() -> None:
    assert sizes((4, 64, 64), size="XL/2")[0] == 676_014_368  # of 512 pixels
    assert sizes((4, 64, 64), size="XL/2")[2] == pytest.approx(524.5, abs=0.05)
    for position in ("rope", "gta"):
        assert sizes(size="B/2", position=position, qk_norm=True)[0] == 130_317_344
    assert sizes(size="B/2", qk_norm=True)[0] == 130_513_952
    # SiT-XL/2 with its discarded variance has DiT's tensors; DiT-PyTorch's for CelebA-HQ holds no table.
    assert sizes(shape={"classes": 1000}, size="XL/2", discard_variance=True)[0] == PUBLISHED["XL/2"][0]
    faces = {"size": "B/2", "position": "abs_rows", "time_embedding": "dit_pytorch"}
    assert sizes(shape={}, **faces)[:2] == (129_927_952, 129_927_952)


def test_a_size_by_name_is_the_same_network_as_by_numbers() -> None:
    named = Network.member({"kind": "dit", "size": "L/4", "mlp_ratio": 2.0})
    numbered = Network.member({"kind": "dit", "width": 1024, "depth": 24, "heads": 16, "patch": 4, "mlp_ratio": 2.0})
    assert named.argument() == numbered.argument() and named.options == numbered.options
    assert Network.member(named.argument()).options == named.options
    assert not list(Network.member({"kind": "dit", "size": "S/2", "width": 384}).problems("network", 32))
    contradicting = Network.member({"kind": "dit", "size": "S/2", "width": 768})
    assert list(contradicting.problems("network", 32)) == [
        ("network.size", "S/2", "null, for width 768; or S/2 without them")
    ]
    with pytest.raises(ValidationError):
        Network.member({"kind": "dit", "size": "M/2"})


def test_later_keys_are_in_no_argument_of_a_network_without_them() -> None:
    built = {"width", "depth", "heads", "patch", "mlp_ratio", "time_scale"}
    assert set(Network.member({"kind": "dit"}).argument()) == built | {*Network.usage}


def test_keys_are_those_of_the_published_checkpoints() -> None:
    with torch.device("meta"):
        keys = DiT(4, 1152, 28, 16, 2, classes=1000, out_channels=8).state_dict()
    assert len(keys) == 291  # and the table of positions, which exports add
    with torch.device("meta"):
        gta = DiT(4, 768, 12, 12, 2, classes=1000, out_channels=8, position="gta", qk_norm=True).state_dict()
    assert gta["blocks.11.attn.q_norm.scale"].shape == gta["blocks.0.attn.k_norm.scale"].shape == (64,)
    assert keys["blocks.27.attn.qkv.weight"].shape == (3456, 1152)
    assert keys["y_embedder.embedding_table.weight"].shape == (1001, 1152)
    assert keys["final_layer.linear.weight"].shape == (32, 1152)


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


def test_taps_cost_more_from_one_to_the_next() -> None:
    costs = tap_costs(*on_meta(Network.member({"kind": "dit", "size": "S/8"}), LATENTS))
    counts = [tap["flops"] for tap in costs]
    assert len(costs) == 36 and costs[0]["shape"] == [384, 4, 4] and sorted(set(counts))[-1] == counts[-2]


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
    """DiT-PyTorch's has sines first and the tokens' width; diffusers' slowest wave is 10,000 times the fastest."""
    seen: list[Tensor] = []
    network = small(time_embedding="dit_pytorch")
    network.t_embedder.mlp.register_forward_hook(lambda _m, inputs, _y: seen.append(inputs[0][0]))
    network(torch.zeros(1, 4, 8, 8), torch.tensor([3.0]))
    angles = 3 / 10000 ** (torch.arange(24) / 24)
    torch.testing.assert_close(seen[0], torch.cat([angles.sin(), angles.cos()]))
    assert sinusoid(torch.tensor([1e4]), 256, last=1)[0, 127] == pytest.approx(math.cos(1), abs=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("position", ["abs", "rope", "gta"])
def test_tables_follow_the_grid(position: str) -> None:
    """Computed once for each; of any size, in no state dict, and usable for training after inference mode."""
    network, c = small(position=position), torch.zeros(1)
    with torch.inference_mode():
        network(torch.zeros(1, 4, 8, 8), c)
    table = network.rotations if network.rotary else network.pos_embed
    network(torch.zeros(2, 4, 8, 8), torch.zeros(2))
    assert (network.rotations if network.rotary else network.pos_embed) is table and not table.is_inference()
    network(torch.zeros(1, 4, 4, 12), c)
    following = network.rotations if network.rotary else network.pos_embed
    assert following.shape[1] == 12 and table.shape[1] == 16 and dict(network.named_buffers())
    assert network.state_dict().keys() == small(position=position).state_dict().keys()
    with torch.enable_grad():
        network(torch.randn(1, 4, 4, 12), c)[0].sum().backward()


def test_published_tables_load_and_others_are_refused() -> None:
    network = small()
    state = network.state_dict()
    for h, w in ((4, 4), (2, 8)):
        small().load_state_dict(state | {"pos_embed": grid_positions(h, w, 48, torch.device("cpu"))[None]})
    for table in (torch.randn(1, 16, 48), grid_positions(4, 4, 48, torch.device("cpu"), rows_first=True)[None]):
        with pytest.raises(RuntimeError, match="pos_embed: not the fixed table"):
            small().load_state_dict(state | {"pos_embed": table})
    with pytest.raises(RuntimeError, match="Unexpected key"):
        small(position="rope").load_state_dict(state | {"pos_embed": torch.zeros(1, 16, 48)})


@pytest.mark.parametrize("position", ["abs", "rope", "gta"])
def test_recomputation_changes_no_gradient(position: str) -> None:
    def gradients(recompute: bool) -> tuple[list[Tensor], int]:
        network, calls = small(position=position, qk_norm=True).train(), []
        network.recompute = recompute
        for block in network.blocks:
            block.attn.register_forward_hook(lambda *_: calls.append(1))
        generator = torch.Generator().manual_seed(0)
        x, t = torch.randn(2, 4, 8, 8, generator=generator), torch.rand(2, generator=generator)
        network(x, t)[0].square().sum().backward()
        return [parameter.grad for parameter in network.parameters()], len(calls)

    (plain, once), (again, twice) = gradients(False), gradients(True)
    assert (once, twice) == (2, 4)
    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))


@pytest.mark.parametrize("position", ["abs", "rope", "gta"])
@pytest.mark.parametrize("recompute", [False, True])
def test_one_graph_compiles_for_a_grid(position: str, recompute: bool) -> None:
    """The table is a constant of it: nothing is compiled twice, and another grid makes another graph."""
    torch._dynamo.reset()
    network, counter = small(position=position, qk_norm=True).train(), CompileCounter()
    network.recompute = recompute
    compiled = torch.compile(network, backend=counter, fullgraph=True)
    for shape, graphs in (((2, 4, 8, 8), 1), ((2, 4, 8, 8), 1), ((2, 4, 4, 8), 2)):
        x, t = torch.randn(shape), torch.rand(2)
        assert torch.allclose(compiled(x, t)[0], network(x, t)[0], atol=1e-6)
        assert counter.frame_count == graphs


def test_the_module_loads_no_compiler() -> None:
    code = "import sys, diffprobe.networks.dit; assert 'torch._dynamo' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_run_with_recomputation_goes_on_bit_for_bit(tmp_path: Path) -> None:
    """As one without, and over a stop."""
    options = Options(batch=4, lr=0.01, averages={"ema": HalfLife(kind="half_life", kimg=1.0)})

    def task(recompute: bool) -> Diffusion:
        torch.manual_seed(0)
        network = DiT(1, width=16, depth=2, heads=2, patch=2, position="gta", qk_norm=True)
        network.recompute = recompute
        return Diffusion(network, Flow())

    def run(name: str, recompute: bool, **options_of_run: object) -> State:
        part = slice_of(tmp_path / name, 1, 0, 6)
        return run_once(part, task(recompute), stream(8, 1), options, **options_of_run)[0]

    plain = run("plain", recompute=False)
    with pytest.raises(KilledError):
        run("stopped", recompute=True, die_at=3, autosave=0)
    assert equal(plain, run("whole", recompute=True)) and equal(plain, run("stopped", recompute=False))


@pytest.mark.parametrize("position", ["abs", "gta"])
def test_exports_hold_the_table_of_positions_and_load(tmp_path: Path, position: str) -> None:
    settings = Network.member({"kind": "dit", "width": 16, "depth": 1, "heads": 2, "patch": 2, "position": position})
    network, path, out = build(settings, image_channels=4), tmp_path / "own.safetensors", tmp_path / "out.safetensors"
    header = {"network": settings.argument(), "process": {"kind": "flow"}, "shape": {"image_channels": 4}}
    checkpoints.write(path, {"ema": network.state_dict()}, header | {"image": [4, 8, 8], "images": 1})
    export(path, "ema", "safetensors", out)
    tensors = load_file(out)
    assert ("pos_embed" in tensors) == (position == "abs") and "pos_embed" not in load_file(path)
    if position == "abs":
        assert torch.equal(tensors["pos_embed"], grid_positions(4, 4, 16, torch.device("cpu"))[None])
    loaded, _ = checkpoints.load(out, torch.device("cpu"), parse_model)
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), network.parameters(), strict=True))
