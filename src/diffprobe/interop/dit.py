"""Published checkpoints of DiT (Peebles & Xie 2023) and of its relatives: RoPE and GTA (Miyato et al. 2024), SiT (Ma et
al. 2024), REPA (Yu et al. 2025).

All name their tensors as `networks.dit` does. What a file does not say is what its code had fixed: the schedule of
betas, the direction of time, the sign of the output, the rows of the label table.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffprobe.config.networks.dit import LETTERS
from diffprobe.config.networks.dit import DiT as DiTSettings
from diffprobe.interop import source
from diffprobe.interop.names import State
from diffprobe.interop.source import SourceWeights
from diffprobe.interop.wrappers import unwrapped, weights_of
from diffprobe.networks.dit import DiT
from diffprobe.runtime.errors import UserError

PATCHES, OUTPUT = "x_embedder.proj.weight", "final_layer.linear.weight"
TABLE, TIME_BIAS, POSITIONS = "y_embedder.embedding_table.weight", "t_embedder.mlp.2.bias", "pos_embed"
BLOCK = re.compile(r"blocks\.(\d{1,4})\.")
LATER_BLOCK = re.compile(r"decoder_blocks\.(\d{1,4})\.")  # in older files of REPA: those after its encoder's depth
ROTATIONS = ("rope", "gta")
PROJECTORS = "projectors."  # REPA's heads, which training alone needs
IMAGENET = 1000  # classes of the published models
# Options of our DiT that these codes do not have: their values there.
FIXED = {"time_scale": 1.0, "time_embedding": "dit", "mlp_norm_eps": 1e-6}
PLAIN = {"reversed_flow": False, "discard_variance": False}
BETAS = {"time_input": "index", "steps": 1000, "beta_min": 1e-4, "beta_max": 0.02, "beta_schedule": "linear"}
ROUNDING = {torch.float16: 1e-3, torch.bfloat16: 1e-2}  # of a table of sines; 1e-5 in float32


def from_dit(origin: str, network: DiTSettings) -> SourceWeights:
    """A file of DiT or fast-DiT: tensors alone, or `model`, `ema`, `opt` and `args`."""
    file, state, _ = read(origin)
    if POSITIONS not in state:
        raise UserError(f"{file}: lacks {POSITIONS}; files of RoPE and GTA are read by --format gta")
    return SourceWeights(file, {"ema": state}, numbers(state, file) | FIXED | PLAIN | {"position": "abs"}, betas(state))


def from_gta(origin: str, network: DiTSettings) -> SourceWeights:
    """A file of GTA's code for DiT, which has three position codes; the file holds the table of one of them."""
    file, state, arguments = read(origin)
    position: Any = "abs"
    note = ""
    if POSITIONS not in state:
        position = getattr(arguments, "posenc", None)
        if position not in ROTATIONS:
            position = network.position if network.position in ROTATIONS else ROTATIONS[1]
            note = f"rope and gta have the same tensors: read as {position}, by network.position"
    required = numbers(state, file) | FIXED | PLAIN | {"position": position}
    return SourceWeights(file, {"ema": state}, required, betas(state), note=note)


def from_sit(origin: str, network: DiTSettings) -> SourceWeights:
    """A file of SiT or REPA, which differ in the direction of time and the sign of the velocity."""
    file, state, _ = read(origin)
    discards, note = learns_variance(state), ""
    later = [name for name in state if LATER_BLOCK.match(name)]
    if discards:
        sit = True
    elif later or any(name.startswith(PROJECTORS) for name in state) or numbers(state, file)["qk_norm"]:
        sit = False
    else:  # SiT without the channels of a variance, or REPA without its projectors
        sit = network.reversed_flow
        name = "SiT's" if sit else "REPA's"
        note = f"SiT's and REPA's velocities differ in sign, the files need not: read as {name}, by reversed_flow"
    state = {name: value for name, value in state.items() if not name.startswith(PROJECTORS)}
    first = depth(state)
    for name in later:
        state[LATER_BLOCK.sub(lambda match: f"blocks.{int(match[1]) + first}.", name)] = state.pop(name)
    required = numbers(state, file) | FIXED | {"reversed_flow": sit, "discard_variance": discards, "position": "abs"}
    return SourceWeights(file, {"ema": state}, required, {"kind": "flow"}, note=note)


def read(origin: str) -> tuple[Path, State, Any]:
    """The file, its tensors (the average where it has one), and the command line of its training, if it holds that."""
    file = Path(origin)
    content = source.read(file)
    state = unwrapped(weights_of(content), str(file))
    for name, dimensions in ((PATCHES, 4), (OUTPUT, 2)):
        if name not in state or state[name].ndim != dimensions or not state[name].numel():
            raise UserError(f"{file}: no transformer of this form, since it has no {name} of {dimensions} dimensions")
    return file, state, content.get("args")


def depth(state: Mapping[str, Tensor]) -> int:
    return len({match[1] for name in state if (match := BLOCK.match(name))})


def learns_variance(state: Mapping[str, Tensor]) -> bool:
    """Whether the last layer has two outputs for each input."""
    channels, patch = state[PATCHES].shape[1:3]
    return len(state[OUTPUT]) == 2 * channels * patch**2


def betas(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The process of DiT's code: noise predicted, with the variance where the last layer has the channels for it."""
    return {"kind": "iddpm" if learns_variance(state) else "ddpm", **BETAS}


def numbers(state: Mapping[str, Tensor], file: Path) -> dict[str, Any]:
    """The network's settings that the shapes of tensors show. Heads are in no shape: those of the published sizes."""
    width, _, patch, _ = state[PATCHES].shape
    shown: dict[str, Any] = {"width": width, "depth": depth(state), "patch": patch, "qk_norm": False}
    if hidden := rows(state, "blocks.0.mlp.fc1.weight"):
        shown["mlp_ratio"] = hidden / width
    for size in LETTERS.values():
        if (size["width"], size["depth"]) == (width, shown["depth"]):
            shown["heads"] = size["heads"]
    for kind, qk_norm in (("scale", True), ("weight", "layer")):
        if head_width := rows(state, f"blocks.0.attn.q_norm.{kind}"):
            shown |= {"qk_norm": qk_norm, "heads": width // head_width}
    return shown


def rows(state: Mapping[str, Tensor], name: str) -> int:
    """The first dimension of a tensor; 0 where it is missing or has none."""
    return len(state[name]) if name in state and state[name].ndim else 0


# --- labels


def with_labels(state: State, classes: int, file: Path, names: tuple[str, str]) -> tuple[State, str]:
    """The tensors of a network conditioned on so many classes, and what is to be said of it.

    An unconditional network (0) is the conditional one without a label, so its table's last row becomes part of the
    noise level's bias. A table without a row for no label, as trained without dropped labels, gets the mean of its
    rows. `names` are those of the table and of the bias. Raises UserError where the network has no labels and the
    table no such row.
    """
    name, bias = names
    labels = rows(state, name)
    if not labels or state[name].ndim != 2 or (classes and labels != classes) or bias not in state:
        return state, ""  # where they do not fit, the shapes show it
    table = state[name]
    if classes:
        mean = table.float().mean(0, keepdim=True).to(table.dtype)  # (1, D)
        note = "its label table has no row for no label: that is the mean of the others, and guidance means nothing"
        return state | {name: torch.cat([table, mean])}, note
    if labels == IMAGENET:
        raise UserError(f"{file}: its label table has no row for no label; set network.conditional: true")
    rest = {key: value for key, value in state.items() if key != name}
    if table.shape[1:] == state[bias].shape:
        rest[bias] = state[bias].float() + table[-1].float()  # both are added to the condition c
    return rest, f"without labels: row {labels - 1} of its label table, for no label, is part of {bias}"


# --- positions


def expected_positions(module: DiT, image: tuple[int, int]) -> State:
    """The fixed table of an image of height and width, under its name in published files; none of other positions."""
    if module.position != "abs":
        return {}
    height, width = (size // module.patch for size in image)
    return {POSITIONS: module.position_table(height, width, torch.device("cpu"))}


def refuse_other_positions(table: Tensor, own: Tensor, dtype: torch.dtype, file: Path) -> None:
    """Raise UserError where a file's table of positions (1, T, D) is not the fixed one."""
    difference = (table - own).abs().max().item()
    if not difference <= ROUNDING.get(dtype, 1e-5):
        raise UserError(
            f"{file}: its {POSITIONS} differs by up to {difference:.2g} from the table of sines and cosines that this "
            "network computes: trained or made in another way; use its own code"
        )
