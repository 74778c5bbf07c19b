"""What networks cost: FLOPs, counted operator by operator. One multiply-add is 2 FLOPs.

On the meta device tensors have shapes and no memory, so that any network is counted in a second.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from diffprobe.networks.build import Settings, build


def flops(run: Callable[[], object]) -> int:
    """The FLOPs of a call, its backward pass included where it makes one."""
    from torch.utils.flop_counter import FlopCounterMode  # loads triton, which most jobs that import this never need

    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def on_meta(network: Settings, image: tuple[int, int, int], **shape: int) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """The network of its settings, and its inputs for one image (C, H, W): x (1, C, H, W) and c_noise (1,).

    `shape` as in `build`; the channels may be left out.
    """
    with torch.device("meta"):
        module = build(network, **{"image_channels": image[0]} | shape)
        return module, (torch.zeros(1, *image), torch.zeros(1))


def training_flops(module: nn.Module, inputs: tuple[Tensor, ...]) -> int:
    """Forward and backward pass of one image."""
    return flops(lambda: module(*inputs)[0].sum().backward())  # the sum itself costs next to nothing
