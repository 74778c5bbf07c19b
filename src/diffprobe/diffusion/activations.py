"""The activations of a network's taps for images at one level, with noise or as they are."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from diffprobe.diffusion.levels import Levels
from diffprobe.diffusion.process import Network, Process, perturb
from diffprobe.networks.condition import Condition
from diffprobe.runtime.devices import memory_format


def activations(
    network: Network,
    process: Process,
    x: Tensor,
    level: Levels,
    noise: Tensor | None,
    cond: Condition,
    taps: Sequence[str],
    encoded: bool = False,
) -> Mapping[str, Tensor]:
    """The taps' activations of images x (B, C, H, W), each (B, ...); nothing after the last of them is computed.

    With noise (B, C, H, W) the network sees x at the level, without noise x as it is, both scaled by the process. With
    `encoded` it is given x itself too, for a code of it, and without noise always, since an encoder sees nothing else.
    """
    form = memory_format(x.device)
    clean = x.contiguous(memory_format=form)
    seen = clean if noise is None else perturb(x, level, noise).contiguous(memory_format=form)
    cond = cond._replace(source=clean if encoded or noise is None else None)
    return process.denoise(network, seen, level, cond, taps, features_only=True).activations
