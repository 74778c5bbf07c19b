"""Checkpoints of DDAE (names as in github.com/FutureXiang/ddae: model/unet.py, model/block.py, train.py): files with
MODEL, a diffusion model in DDP, and EMA, ema-pytorch's average of it with the online model beside.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from diffprobe.config.problems import Problem
from diffprobe.config.processes import Process
from diffprobe.interop.names import OUR_OPTIONS, NameMap, Place, Scheme, State, unet_map
from diffprobe.interop.wrappers import unwrapped, weights_of
from diffprobe.networks.unet import UNet
from diffprobe.runtime.errors import UserError

# Keys of our U-Net that DDAE's does not have as options: their values there.
NETWORK = {
    "groups": 32,
    "head_groups": 8,
    "norm_eps": 1e-5,
    "down_padding": "both",
    "skip_scale": 1.0,
    "time_scale": 1.0,
    **OUR_OPTIONS,
}
WRAPPERS = ("ema_model.", "module.", "nn_model.")  # of ema-pytorch, DDP, the diffusion model; from the outside in
FILTERS = "augpipe."  # buffers of the augmentation, not weights
PARTS = {"encoder": "down", "decoder": "up"}


def unet_names(network: UNet) -> NameMap:
    """Our names to DDAE's."""
    return unet_map(network, scheme(network.blocks))


def scheme(blocks: int) -> Scheme:
    """`down` and `up` are flat lists: each stage's blocks, then its resampler."""
    last = {"encoder": blocks, "decoder": blocks + 1}  # the resampler's number in its stage

    # A stage has `last` + 1 entries: its blocks and its resampler. Only the last stage lacks one, which shifts nothing.
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


def sets(content: Mapping[str, Any], where: str) -> dict[str, State]:
    """The sets of weights in a file: `ema`, and `raw` where it has both. A file of tensors alone is one set, `ema`.

    `where` names the file. Raises UserError where a set is anything but tensors by name.
    """
    if "EMA" not in content and "MODEL" not in content:
        return {"ema": network_tensors(weights_of(content), where)}
    states = {"ema": content.get("EMA"), "raw": content.get("MODEL")}
    present = {name: network_tensors(state, where) for name, state in states.items() if state is not None}
    if not present:
        raise UserError(f"{where}: MODEL and EMA hold nothing; save the network's state dict")
    return present


def network_tensors(state: Mapping[str, Any], where: str) -> State:
    """The network's tensors under its own names. Of ema-pytorch's two copies, online and averaged, the average."""
    if isinstance(state, Mapping):  # counters and settings may be among them
        state = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    tensors = unwrapped(state, where)
    # Each wrapper prefixes all that it contains, so prefixes are stripped one after the other.
    for wrapper in WRAPPERS:
        if any(name.startswith(wrapper) for name in tensors):
            inside = ((name, value) for name, value in tensors.items() if name.startswith((wrapper, FILTERS)))
            tensors = {name.removeprefix(wrapper): value for name, value in inside}
    return {name: value for name, value in tensors.items() if not name.startswith(FILTERS)}


def refused_process(process: Process) -> Iterator[Problem]:
    """Processes that feed the noise level to the network in another way than DDAE."""
    if process.kind == "flow":
        yield "kind", "flow", "ddpm or edm, as DDAE trains"
    if getattr(process, "time_input", None) == "index":
        yield "time_input", "index", "fraction, as in DDAE"
    if (schedule := getattr(process, "beta_schedule", "linear")) != "linear":
        yield "beta_schedule", schedule, "linear, as in DDAE"
