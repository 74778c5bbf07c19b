"""Checkpoints of DDAE (names as in github.com/FutureXiang/ddae: model/unet.py, model/block.py, train.py): files with
MODEL, a diffusion model in DDP, and EMA, ema-pytorch's average of it with the online model beside.
"""

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from diffprobe.config.problems import Problem
from diffprobe.interop.names import Map, Place, Scheme, State, unet_map
from diffprobe.networks.unet import UNet

# What of that network is no option.
NETWORK = {
    "groups": 32,
    "head_groups": 8,
    "norm_eps": 1e-5,
    "down_padding": "both",
    "skip_scale": 1.0,
    "time_scale": 1.0,
}
WRAPPERS = ("ema_model.", "module.", "nn_model.")  # ema-pytorch's, DDP's, the diffusion's; from the outside in
BESIDE = "augpipe."  # the augmentation's filters, no weights
PARTS = {"encoder": "down", "decoder": "up"}


def unet_names(network: UNet) -> Map:
    """Our names to DDAE's."""
    return unet_map(network, scheme(network.blocks))


def scheme(blocks: int) -> Scheme:
    """`down` and `up` are flat lists: each stage's blocks, then its resampler."""
    last = {"encoder": blocks, "decoder": blocks + 1}  # the resampler's number in its stage

    def place(part: str, stage: int, i: int) -> str:
        return f"{PARTS[part]}.{stage * (last[part] + 1) + i}"

    def block(part: str, stage: int, i: int) -> Place:
        return Place(f"{place(part, stage, i)}.res", f"{place(part, stage, i)}.attn")

    def resampler(part: str, stage: int, residual: bool) -> str:
        return f"{place(part, stage, last[part])}.{'op' if residual else 'conv'}"

    return Scheme(
        layers={
            "embed.0": "time_emb.lin1",
            "embed.2": "time_emb.lin2",
            "augment": "time_emb.aug_emb",
            "stem": "image_proj",
            "head.0": "norm",
            "head.2": "final",
        },
        residual={
            "norm1": "norm1",
            "conv1": "conv1",
            "emb": "time_emb.1",
            "norm2": "norm2",
            "conv2": "conv2.1",
            "shortcut": "shortcut",
        },
        attention={"norm": ("norm",), "qkv": ("projection",), "out": ("output",)},
        middle=(Place("middle.res1", "middle.attn"), Place("middle.res2", "")),
        block=block,
        resampler=resampler,
    )


def sets(content: dict[str, Any]) -> dict[str, State]:
    """The sets of weights in a file: `ema`, and `raw` where it has both. A file of tensors alone is one set, `ema`."""
    if "EMA" not in content and "MODEL" not in content:
        return {"ema": bare(content)}
    parts = {"ema": content.get("EMA"), "raw": content.get("MODEL")}
    return {name: bare(state) for name, state in parts.items() if state is not None}


def bare(state: dict[str, Any]) -> State:
    """The network's tensors under its own names, of the average where a copy of the online model lies beside it."""
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    for wrapper in WRAPPERS:
        if any(name.startswith(wrapper) for name in tensors):
            inside = ((name, value) for name, value in tensors.items() if name.startswith((wrapper, BESIDE)))
            tensors = {name.removeprefix(wrapper): value for name, value in inside}
    return {name: value for name, value in tensors.items() if not name.startswith(BESIDE)}


def refused_process(process: dict[str, Any]) -> Iterator[Problem]:
    """What of an experiment's process is not as these networks are told their noise level."""
    if process["kind"] == "flow":
        yield "kind", "flow", "ddpm or edm, as DDAE trains"
    if process.get("time_input") == "index":
        yield "time_input", "index", "fraction, as DDAE tells its network"
