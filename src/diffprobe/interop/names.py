"""Name maps between our U-Net and the same network in other code: tensors are renamed, never changed.

A map goes from the name of each of our tensors to their names: one, or three (q, k, v) that lie stacked in ours.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from diffprobe.evaluation.generation.extractors.weights import checked
from diffprobe.networks.unet import UNet
from diffprobe.networks.unet_blocks import ResBlock
from diffprobe.runtime.errors import UserError

Map = dict[str, tuple[str, ...]]
State = dict[str, Tensor]


class Place(NamedTuple):
    """How other code calls what ours has at one place: a residual block and its attention."""

    residual: str
    attention: str


@dataclass(frozen=True)
class Scheme:
    """How other code names the modules of this U-Net; `part` is encoder or decoder, stages are counted as computed."""

    layers: dict[str, str]  # modules that are there once
    residual: dict[str, str]  # the layers of a residual block
    attention: dict[str, tuple[str, ...]]  # the layers of an attention
    middle: tuple[Place, Place]
    block: Callable[[str, int, int], Place]  # (part, stage, number in the stage)
    resampler: Callable[[str, int, bool], str]  # (part, stage, whether it is a residual block)


def unet_map(network: UNet, scheme: Scheme) -> Map:
    """Our names to theirs, for every tensor that their code has a name for."""
    modules = dict(modules_of(network, scheme))
    found = ((name, *name.rsplit(".", 1)) for name in network.state_dict())
    return {
        name: tuple(f"{theirs}.{kind}" for theirs in modules[module])
        for name, module, kind in found
        if module in modules
    }


def modules_of(network: UNet, scheme: Scheme) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each of our layers with weights, and theirs."""
    for ours, theirs in scheme.layers.items():
        yield ours, (theirs,)
    for ours, place in zip(("mid1", "mid2"), scheme.middle, strict=True):
        yield from block_layers(ours, place, scheme)
    for part, each in (("encoder", network.blocks), ("decoder", network.blocks + 1)):
        for i in range(len(getattr(network, part))):
            yield from block_layers(f"{part}.{i}", scheme.block(part, *divmod(i, each)), scheme)
    for part, ours, resamplers in (("encoder", "downs", network.downs), ("decoder", "ups", network.ups)):
        for stage, module in enumerate(resamplers):
            yield from resampler_layers(f"{ours}.{stage}", part, stage, module, scheme)


def block_layers(ours: str, place: Place, scheme: Scheme) -> Iterator[tuple[str, tuple[str, ...]]]:
    yield from residual_layers(f"{ours}.res", place.residual, scheme)
    for layer, theirs in scheme.attention.items():
        yield f"{ours}.attention.{layer}", tuple(f"{place.attention}.{name}" for name in theirs)


def residual_layers(ours: str, theirs: str, scheme: Scheme) -> Iterator[tuple[str, tuple[str, ...]]]:
    for layer, name in scheme.residual.items():
        yield f"{ours}.{layer}", (f"{theirs}.{name}",)


def resampler_layers(
    ours: str, part: str, stage: int, module: nn.Module, scheme: Scheme
) -> Iterator[tuple[str, tuple[str, ...]]]:
    residual = isinstance(module, ResBlock)
    theirs = scheme.resampler(part, stage, residual)
    if residual:
        yield from residual_layers(ours, theirs, scheme)
    else:
        yield (ours if part == "encoder" else f"{ours}.after"), (theirs,)


def to_ours(state: State, names: Map, shapes: State, what: str, remedy: str) -> State:
    """Their tensors under our names, float32. `shapes` are our tensors, on any device.

    Raises UserError, which begins with `what` and ends with `remedy`, for the first tensor that is missing, of
    another shape, or left over.
    """
    ours: State = {}
    for name, theirs in names.items():
        rows, *rest = shapes[name].shape
        shape = torch.Size([rows // len(theirs), *rest])
        ours[name] = torch.cat([checked(state, other, shape, what, remedy).float() for other in theirs])
    known = {other for theirs in names.values() for other in theirs}
    if left := [name for name in state if name not in known]:
        shape = tuple(state[left[0]].shape)
        raise UserError(f"{what}: {left[0]} of shape {shape} has no place in this network (expected: none); {remedy}")
    return ours


def to_theirs(state: State, names: Map) -> State:
    """Our tensors under their names: the inverse of `to_ours`."""
    return {
        other: part.clone()
        for name, theirs in names.items()
        for other, part in zip(theirs, state[name].chunk(len(theirs)), strict=True)
    }
