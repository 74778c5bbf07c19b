"""DiT's tables of positions, which follow the grid; compiled networks and recomputed activations."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch._dynamo.testing import CompileCounter
from toy_dit import small
from toy_training import KilledError, equal, run_once, slice_of, stream

from diffprobe.config.built import parse_model
from diffprobe.config.networks import Network
from diffprobe.config.training import HalfLife
from diffprobe.diffusion.flow import Flow
from diffprobe.interop.exporting import export
from diffprobe.networks.build import build
from diffprobe.networks.dit import DiT
from diffprobe.networks.positions import grid_positions
from diffprobe.training import checkpoints
from diffprobe.training.optimizers import Options
from diffprobe.training.state import State
from diffprobe.training.tasks.diffusion import Diffusion


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
