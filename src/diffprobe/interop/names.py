"""Name maps between our U-Net and the same network in other code: tensors are renamed, never changed.

A map goes from the name of each of our tensors to their names: one, or three (q, k, v) that are stacked in ours.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from diffprobe.evaluation.generation.extractors.weights import checked
from diffprobe.networks.unet import UNet
from diffprobe.networks.unet_blocks import ResBlock
from diffprobe.runtime.errors import UserError

# Options of our U-Net that neither DDAE's nor diffusers' has: their values there.
OUR_OPTIONS = {"shortcut_conv": False, "decoder_attention": "all", "label_layer": "plain", "patch": 1}

MOST_ROWS = 60  # of a table of tensors: a network of another depth has thousands

NameMap = dict[str, tuple[str, ...]]
State = dict[str, Tensor]


class Place(NamedTuple):
    """The names in other code of one of our blocks: its residual block and its attention."""

    residual: str
    attention: str


@dataclass(frozen=True)
class Scheme:
    """How other code names the modules of this U-Net; `part` is encoder or decoder, stages are counted as computed."""

    layers: dict[str, str]  # modules that occur once
    residual: dict[str, str]  # the layers of a residual block
    attention: dict[str, tuple[str, ...]]  # the layers of an attention
    middle: tuple[Place, Place]
    block: Callable[[str, int, int], Place]  # (part, stage, number in the stage)
    resampler: Callable[[str, int, bool], str]  # (part, stage, whether it is a residual block)


def unet_map(network: UNet, scheme: Scheme) -> NameMap:
    """Our names to theirs, for every tensor that their code has a name for."""
    theirs = dict(named_modules(network, scheme))
    tensors = ((name, *name.rsplit(".", 1)) for name in network.state_dict())  # name, module, weight or bias
    return {
        name: tuple(f"{other}.{kind}" for other in theirs[module]) for name, module, kind in tensors if module in theirs
    }


def named_modules(network: UNet, scheme: Scheme) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The name of each of our layers with weights, and theirs."""
    yield from ((ours, (layer,)) for ours, layer in scheme.layers.items())
    for ours, place in zip(("mid1", "mid2"), scheme.middle, strict=True):
        yield from block_layers(ours, place, scheme)
    # Our blocks are one list over all levels, theirs a list per stage; the decoder has one more block per stage.
    for part, per_stage in (("encoder", network.blocks), ("decoder", network.blocks + 1)):
        for i in range(len(getattr(network, part))):
            yield from block_layers(f"{part}.{i}", scheme.block(part, *divmod(i, per_stage)), scheme)
    for part, ours, resamplers in (("encoder", "downs", network.downs), ("decoder", "ups", network.ups)):
        for stage, module in enumerate(resamplers):
            residual = isinstance(module, ResBlock)
            theirs = scheme.resampler(part, stage, residual)
            if residual:
                yield from residual_layers(f"{ours}.{stage}", theirs, scheme)
            else:  # our upsampling is followed by its convolution
                yield f"{ours}.{stage}" + (".after" if part == "decoder" else ""), (theirs,)


def block_layers(ours: str, place: Place, scheme: Scheme) -> Iterator[tuple[str, tuple[str, ...]]]:
    yield from residual_layers(f"{ours}.res", place.residual, scheme)
    for layer, theirs in scheme.attention.items():
        yield f"{ours}.attention.{layer}", tuple(f"{place.attention}.{name}" for name in theirs)


def residual_layers(ours: str, theirs: str, scheme: Scheme) -> Iterator[tuple[str, tuple[str, ...]]]:
    for layer, name in scheme.residual.items():
        yield f"{ours}.{layer}", (f"{theirs}.{name}",)


def to_ours(state: State, names: NameMap, shapes: State, what: str, remedy: str) -> State:
    """Their tensors under our names, float32. `shapes` are our tensors, on any device.

    Raises UserError, which begins with `what` and ends with `remedy`, for the first tensor that is missing, of
    another shape or type, not finite, or left over.
    """
    ours: State = {}
    for name, theirs in names.items():
        rows, *rest = shapes[name].shape
        shape = torch.Size([rows // len(theirs), *rest])  # of each of those that are stacked
        parts = [whole(state, other, shape, what, remedy) for other in theirs]
        ours[name] = torch.cat(parts) if len(parts) > 1 else parts[0]  # not copied: it may be in a file of gigabytes
    used = {other for theirs in names.values() for other in theirs}
    if left := [name for name in state if name not in used]:
        extra = tuple(state[left[0]].shape)
        raise UserError(f"{what}: {left[0]} of shape {extra} has no place in this network (expected: none); {remedy}")
    return ours


class Misfit(NamedTuple):
    """A tensor that is missing, left over, or of another shape."""

    name: str  # in their code
    expected: tuple[int, ...] | None  # None: no tensor of ours
    shape: tuple[int, ...] | None  # None: not in the file


def misfits(state: State, names: NameMap, shapes: State) -> list[Misfit]:
    """All tensors that `to_ours` would refuse by name or shape: those missing, then of other shapes, then left over."""
    expected = {
        other: (shapes[ours].shape[0] // len(theirs), *shapes[ours].shape[1:])
        for ours, theirs in names.items()
        for other in theirs
    }
    actual = {name: tuple(value.shape) for name, value in state.items()}
    missing = [Misfit(name, shape, None) for name, shape in expected.items() if name not in actual]
    others = [Misfit(name, shape, actual[name]) for name, shape in expected.items() if name in actual]
    left = [Misfit(name, None, shape) for name, shape in actual.items() if name not in expected]
    return [*missing, *(one for one in others if one.shape != one.expected), *left]


def table(rows: Sequence[Misfit]) -> str:
    """Lines with name, expected shape and shape in the file."""
    cells = [("tensor", "expected", "in the file")]
    cells += [(row.name, shown(row.expected), shown(row.shape)) for row in rows[:MOST_ROWS]]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join(lines + [f"and {len(rows) - MOST_ROWS} more"] * (len(rows) > MOST_ROWS))


def shown(shape: tuple[int, ...] | None) -> str:
    return "-" if shape is None else str(shape)


def whole(state: State, name: str, shape: torch.Size, what: str, remedy: str) -> Tensor:
    """state[name], float32. Raises UserError as `to_ours`."""
    if name not in state and (wrapped := next((other for other in state if other.endswith(f".{name}")), None)):
        # The prefix of an unfamiliar wrapper is a better hint than a missing tensor.
        prefix = wrapped.removesuffix(name)
        if all(other.startswith(prefix) for other in state):
            raise UserError(f"{what} lack {name}, but have {wrapped}; save them without the prefix {prefix}")
    return checked(state, name, shape, what, remedy)


def to_theirs(state: State, names: NameMap) -> State:
    """Our tensors under their names: the inverse of `to_ours`."""
    return {
        # safetensors refuses tensors that share memory
        other: stacked.clone() if len(theirs) > 1 else stacked
        for name, theirs in names.items()
        for other, stacked in zip(theirs, state[name].chunk(len(theirs)), strict=True)
    }
