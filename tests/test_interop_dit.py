"""Published checkpoints of DiT, GTA, SiT and REPA: official names and shapes, what their code fixed, refusals."""

import argparse
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from toy_networks import config, refusal

from diffprobe.config.built import parse_model
from diffprobe.config.models import Config
from diffprobe.interop.exporting import export
from diffprobe.interop.importing import Written, import_weights
from diffprobe.networks.condition import Condition
from diffprobe.networks.dit import DiT
from diffprobe.networks.positions import grid_positions
from diffprobe.training import checkpoints

CPU = torch.device("cpu")
WIDTH, DEPTH, HEADS, PATCH, TOKENS = 16, 3, 2, 2, 16
NETWORK = {"kind": "dit", "width": WIDTH, "depth": DEPTH, "heads": HEADS, "patch": PATCH, "augment": False}
X, LABEL = torch.randn(3, 1, 8, 8, generator=torch.manual_seed(1)), torch.tensor([7, 0, 3])
STEPS, TIMES = torch.tensor([0.0, 121.0, 999.0]), torch.tensor([0.1, 0.5, 0.9])


def official(outputs: int = 2, rows: int = 11, position: bool = True, qk_norm: str = "") -> dict[str, Tensor]:
    """A state dict with the names and shapes of the official code (1 channel, 8 x 8), of random numbers."""
    torch.manual_seed(0)
    state: dict[str, Tensor] = {}

    def layer(name: str, out: int, into: int) -> None:
        state[f"{name}.weight"], state[f"{name}.bias"] = 0.2 * torch.randn(out, into), 0.1 * torch.randn(out)

    layer("x_embedder.proj", WIDTH, PATCH**2)
    state["x_embedder.proj.weight"] = state["x_embedder.proj.weight"].unflatten(1, (1, PATCH, PATCH))
    if position:
        state["pos_embed"] = grid_positions(4, 4, WIDTH, CPU)[None]
    layer("t_embedder.mlp.0", WIDTH, 256)
    layer("t_embedder.mlp.2", WIDTH, WIDTH)
    state["y_embedder.embedding_table.weight"] = 0.5 * torch.randn(rows, WIDTH)
    for i in range(DEPTH):
        layer(f"blocks.{i}.attn.qkv", 3 * WIDTH, WIDTH)
        layer(f"blocks.{i}.attn.proj", WIDTH, WIDTH)
        for norm in ("q_norm", "k_norm"):
            kinds = {"": (), "gta": ("scale",), "repa": ("weight", "bias")}[qk_norm]
            state |= {f"blocks.{i}.attn.{norm}.{kind}": 1 + 0.1 * torch.randn(WIDTH // HEADS) for kind in kinds}
        layer(f"blocks.{i}.mlp.fc1", 4 * WIDTH, WIDTH)
        layer(f"blocks.{i}.mlp.fc2", WIDTH, 4 * WIDTH)
        layer(f"blocks.{i}.adaLN_modulation.1", 6 * WIDTH, WIDTH)
    layer("final_layer.linear", PATCH**2 * outputs, WIDTH)
    layer("final_layer.adaLN_modulation.1", 2 * WIDTH, WIDTH)
    return state


IDDPM = {"kind": "iddpm"}
FLOW = {"kind": "flow"}
SIT = {"reversed_flow": True, "discard_variance": True}


def made(process: dict, **changes: object) -> Config:
    sampler = {"kind": "heun"} if process["kind"] == "flow" else {"kind": "ddim", "steps": 10}
    plain = config(NETWORK | changes, FLOW).model_dump(mode="json", exclude_unset=True)
    plain["experiments"]["x"] |= {"process": process, "sample": {"samplers": {"s": sampler}}}
    return Config.model_validate(plain)


def imported(tmp_path: Path, content: object, format: str, process: dict, **changes: object) -> tuple[Written, DiT]:
    torch.save(content, tmp_path / "theirs.pt")
    written = import_weights(
        made(process, **changes), "x", format, str(tmp_path / "theirs.pt"), tmp_path / "x.safetensors"
    )
    network, header = checkpoints.load(written.path, CPU, parse_model)
    assert (header["format"], header["weights"]) == (format, ["ema"])
    return written, network


def plain(state: dict[str, Tensor], **options: object) -> DiT:
    """The network without any of an import's code between it and the tensors."""
    network = DiT(1, WIDTH, DEPTH, HEADS, PATCH, classes=10, **options).eval().requires_grad_(False)
    network.load_state_dict(state)
    return network


def of_training(state: dict[str, Tensor], wrapped: bool = False) -> dict:
    """A checkpoint as train.py writes it, with another `model` beside the average."""
    other = {f"module.{name}" if wrapped else name: value + 1 for name, value in state.items()}
    adam = {"state": {0: {"step": torch.tensor(7.0)}}, "param_groups": [{"lr": 1e-4, "params": [0]}]}
    return {"model": other, "ema": state, "opt": adam, "args": argparse.Namespace(model="DiT-XL/2", num_classes=1000)}


@pytest.mark.parametrize("form", ["bare", "training", "ddp", "half"])
def test_dit_is_read_bare_or_out_of_a_training_checkpoint(tmp_path: Path, form: str) -> None:
    state = official()
    if form == "half":
        state = {name: value.bfloat16() for name, value in state.items()}
    content = state if form in ("bare", "half") else of_training(state, form == "ddp")
    _, network = imported(tmp_path, content, "dit", IDDPM)
    full = {name: value.float() for name, value in state.items()}
    expected = plain(full, out_channels=2)
    assert torch.equal(network(X, STEPS, Condition(LABEL))[0], expected(X, STEPS, Condition(LABEL))[0])
    assert torch.equal(network(X, STEPS)[0], expected(X, STEPS, Condition(torch.tensor([10, 10, 10])))[0])


def test_fixed_variance_is_ddpm(tmp_path: Path) -> None:
    state = official(outputs=1)
    _, network = imported(tmp_path, state, "dit", {"kind": "ddpm"})
    assert torch.equal(network(X, STEPS, Condition(LABEL))[0], plain(state)(X, STEPS, Condition(LABEL))[0])


@pytest.mark.parametrize("position", ["abs", "rope", "gta"])
@pytest.mark.parametrize("named", [True, False])
def test_gta_has_normed_queries_and_keys_with_each_position_code(tmp_path: Path, position: str, named: bool) -> None:
    state = official(position=position == "abs", qk_norm="gta")
    content = {"ema": state, "args": argparse.Namespace(posenc=position)} if named else state
    written, network = imported(tmp_path, content, "gta", IDDPM, position=position, qk_norm=True)
    expected = plain(state, out_channels=2, position=position, qk_norm=True)
    assert torch.equal(network(X, STEPS, Condition(LABEL))[0], expected(X, STEPS, Condition(LABEL))[0])
    assert ("same tensors" in written.source) == (not named and position != "abs")


@torch.no_grad()
def test_sits_time_and_velocity_are_reversed(tmp_path: Path) -> None:
    """Theirs is told t = 1 for data and predicts x - n, so ours takes its output at 1 - t, negated."""
    state = official()
    _, network = imported(tmp_path, state, "sit", FLOW, **SIT)
    theirs = plain(state, out_channels=2)(X, 1 - TIMES, Condition(LABEL))[0][:, :1]
    assert torch.equal(network(X, TIMES, Condition(LABEL))[0], -theirs)


@pytest.mark.parametrize("qk_norm", ["", "repa"])
@pytest.mark.parametrize("older", [False, True])
@torch.no_grad()
def test_repa_is_our_flow_without_its_projectors(tmp_path: Path, qk_norm: str, older: bool) -> None:
    state = official(outputs=1, qk_norm=qk_norm)
    theirs = {name: value for name, value in state.items() if not (older and name.startswith("blocks.2."))}
    if older:  # the blocks after the encoder's depth, here 2, under names of their own
        later = {name: value for name, value in state.items() if name.startswith("blocks.2.")}
        theirs |= {name.replace("blocks.2.", "decoder_blocks.0."): value for name, value in later.items()}
    theirs |= {"projectors.0.0.weight": torch.randn(8, WIDTH), "projectors.0.0.bias": torch.randn(8)}
    qk = {"qk_norm": "layer"} if qk_norm else {}
    written, network = imported(tmp_path, {"ema": theirs, "steps": 4}, "sit", FLOW, **qk)
    expected = plain(state, **qk)
    assert torch.equal(network(X, TIMES, Condition(LABEL))[0], expected(X, TIMES, Condition(LABEL))[0])
    assert "(" not in written.source


@pytest.mark.parametrize("reversed_flow", [False, True])
def test_a_file_of_sit_or_repa_that_does_not_show_which(tmp_path: Path, reversed_flow: bool) -> None:
    written, _ = imported(tmp_path, official(outputs=1), "sit", FLOW, reversed_flow=reversed_flow)
    assert f"read as {'SiT' if reversed_flow else 'REPA'}'s, by reversed_flow" in written.source


@torch.no_grad()
def test_without_labels_the_row_for_no_label_is_kept(tmp_path: Path) -> None:
    """As DDAE probes ImageNet's DiT on other images: the conditional network at its null label."""
    state = official(rows=101)
    written, network = imported(tmp_path, state, "dit", IDDPM, conditional=False)
    theirs = DiT(1, WIDTH, DEPTH, HEADS, PATCH, classes=100, out_channels=2).eval()
    theirs.load_state_dict(state)
    torch.testing.assert_close(network(X, STEPS)[0], theirs(X, STEPS)[0], atol=1e-5, rtol=1e-5)
    assert "row 100 of its label table, for no label" in written.source


def test_a_label_table_without_a_row_for_no_label(tmp_path: Path) -> None:
    state = official(rows=10)
    written, network = imported(tmp_path, state, "dit", IDDPM)
    rows = network.y_embedder.embedding_table.weight
    assert torch.equal(rows[:10], state["y_embedder.embedding_table.weight"]) and rows.shape == (11, WIDTH)
    torch.testing.assert_close(rows[10], rows[:10].mean(0))
    assert "guidance means nothing" in written.source


@pytest.mark.parametrize("format", ["dit", "gta"])
def test_official_names_come_and_go_byte_by_byte(tmp_path: Path, format: str) -> None:
    state = official(position=format == "dit", qk_norm="gta" if format == "gta" else "")
    options = {"position": "gta", "qk_norm": True} if format == "gta" else {}
    written, _ = imported(tmp_path, state, format, IDDPM, **options)
    export(written.path, None, "safetensors", tmp_path / "again.safetensors")
    again = load_file(tmp_path / "again.safetensors")
    assert {name: value.numpy().tobytes() for name, value in again.items()} == {
        name: value.numpy().tobytes() for name, value in state.items()
    }
    arguments = (made(IDDPM, **options), "x", format, str(tmp_path / "again.safetensors"), tmp_path / "y.safetensors")
    second = load_file(import_weights(*arguments).path)
    assert all(torch.equal(value, second[name]) for name, value in state.items() if name != "pos_embed")


CHANGES = {
    "position": lambda state: state | {"pos_embed": state["pos_embed"] + 1e-3},
    "rows first": lambda state: state | {"pos_embed": grid_positions(4, 4, WIDTH, CPU, rows_first=True)[None]},
    "grid": lambda state: state | {"pos_embed": grid_positions(8, 8, WIDTH, CPU)[None]},
    "no table": lambda state: {name: value for name, value in state.items() if name != "pos_embed"},
    "integers": lambda state: state | {"final_layer.linear.bias": torch.zeros(8, dtype=torch.int8)},
    "scalars": lambda state: {name: value.sum() for name, value in state.items()},
    "scalar": lambda state: state | {"blocks.0.mlp.fc1.weight": torch.zeros(())},
    "flat labels": lambda state: state | {"y_embedder.embedding_table.weight": torch.zeros(11)},
    "many blocks": lambda state: state | {f"blocks.{'9' * 5000}.x": torch.zeros(1)},
    "unet": lambda state: {"conv_in.weight": torch.zeros(2)},
}


@pytest.mark.parametrize(
    ("change", "format", "process", "options", "line"),
    [
        ("position", "dit", IDDPM, {}, "its pos_embed differs by up to 0.001 from the table of sines"),
        ("rows first", "dit", IDDPM, {}, "from the table of sines and cosines"),
        ("grid", "dit", IDDPM, {}, "pos_embed has shape (1, 64, 16), expected (1, 16, 16)"),
        ("no table", "dit", IDDPM, {}, "lacks pos_embed; files of RoPE and GTA are read by --format gta"),
        ("integers", "dit", IDDPM, {}, "final_layer.linear.bias is int8"),
        ("scalars", "dit", IDDPM, {}, "no transformer of this form, since it has no x_embedder.proj.weight of 4"),
        ("scalar", "dit", IDDPM, {}, "blocks.0.mlp.fc1.weight has shape (), expected (64, 16)"),
        ("flat labels", "dit", IDDPM, {}, "y_embedder.embedding_table.weight has shape (11,), expected (11, 16)"),
        ("many blocks", "sit", FLOW, SIT, "has no place in this network"),
        ("unet", "dit", IDDPM, {}, "no transformer of this form, since it has no x_embedder.proj.weight"),
        ("", "dit", {"kind": "ddpm"}, {}, "process.kind: ddpm is refused; allowed: iddpm"),
        ("", "dit", FLOW, {}, "process.kind: flow is refused; allowed: iddpm"),
        ("", "dit", IDDPM | {"beta_max": 0.01}, {}, "process.beta_max: 0.01 is refused; allowed: 0.02"),
        ("", "dit", IDDPM | {"time_input": "fraction"}, {}, "time_input: fraction is refused; allowed: index"),
        ("", "dit", IDDPM, {"width": 32}, "network.width: 32 is refused; allowed: 16"),
        ("", "dit", IDDPM, {"depth": 2}, "network.depth: 2 is refused; allowed: 3"),
        ("", "dit", IDDPM, {"position": "gta"}, "network.position: gta is refused; allowed: abs"),
        ("", "dit", IDDPM, {"qk_norm": True}, "network.qk_norm: True is refused; allowed: False"),
        ("", "dit", IDDPM, {"time_scale": 1000.0}, "network.time_scale: 1000.0 is refused; allowed: 1.0"),
        ("", "dit", IDDPM, {"time_embedding": "diffusers"}, "time_embedding: diffusers is refused; allowed: dit"),
        ("no table", "gta", IDDPM, {"position": "abs"}, "network.position: abs is refused; allowed: gta"),
        ("", "sit", FLOW, {}, "network.reversed_flow: False is refused; allowed: True"),
        ("", "sit", FLOW, {"reversed_flow": True}, "network.discard_variance: False is refused; allowed: True"),
        ("", "sit", IDDPM, SIT, "process.kind: iddpm is refused; allowed: flow"),
        ("", "dit", IDDPM, {"kind": "unet"}, "network.kind: unet is refused; allowed: dit, for --format dit"),
    ],
)
def test_what_is_not_as_the_file_is_refused(
    tmp_path: Path, change: str, format: str, process: dict, options: dict, line: str
) -> None:
    torch.save(CHANGES.get(change, dict)(official()), tmp_path / "m.pt")
    if options == {"kind": "unet"}:
        experiment = config({"kind": "unet", "channels": 32, "groups": 8}, {"kind": "ddpm"})
    else:
        experiment = made(process, **options)
    source, out = str(tmp_path / "m.pt"), tmp_path / "x.safetensors"
    assert line in refusal(import_weights, experiment, "x", format, source, out) and not out.exists()


def test_augmentation_labels_are_refused(tmp_path: Path) -> None:
    experiment = config(NETWORK | {"augment": True}, FLOW, augment={"p": 0.12})
    line = refusal(import_weights, experiment, "x", "sit", "none.pt", tmp_path / "x.safetensors")
    assert "network.augment: True is refused; allowed: false" in line


def test_tensors_that_do_not_fit_stand_in_one_table(tmp_path: Path) -> None:
    state = official(rows=7)
    del state["blocks.1.attn.proj.bias"], state["final_layer.linear.bias"]
    save_file(state | {"extra.weight": torch.zeros(2, 3)}, tmp_path / "m.safetensors")
    said: list[str] = []
    arguments = (made(IDDPM), "x", "dit", str(tmp_path / "m.safetensors"), tmp_path / "x.safetensors", said.append)
    line = refusal(import_weights, *arguments)
    assert "y_embedder.embedding_table.weight has shape (7, 16), expected (11, 16); set experiments.x.network" in line
    assert [row.split("  ")[0] for row in said[0].splitlines()] == [
        "tensor",
        "blocks.1.attn.proj.bias",
        "final_layer.linear.bias",
        "y_embedder.embedding_table.weight",
        "extra.weight",
    ]
    assert said[0].splitlines()[1].split()[1:] == ["(16,)", "-"]
    assert said[0].splitlines()[3].split("  ")[-2:] == ["(11, 16)", "(7, 16)"]
    assert said[0].splitlines()[4].split()[1] == "-"
