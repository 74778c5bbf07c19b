"""Batch norms over the processes that train together: the statistics are those of the whole step's batch.

torch's SyncBatchNorm refuses CPU tensors. This one runs with any backend, and with shares of different sizes.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from diffprobe.runtime.errors import UserError
from diffprobe.training.world import World

BatchNorm = nn.modules.batchnorm._BatchNorm
PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)  # subclasses may compute something else


class Sum(torch.autograd.Function):
    """The sum of a tensor over all processes. Each process's loss depends on it, so gradients are summed too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return total(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        return total(grad)


def total(x: Tensor) -> Tensor:
    x = x.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(x)
    return x


class SharedBatchNorm(BatchNorm):
    """In training, normalises by the mean and variance over the images of all processes; else as any batch norm.

    Every process has to call it as often, in the same order, with at least one image. Running statistics are the same
    in all of them.
    """

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, ...) to the same shape; B may differ between processes."""
        if not self.training:
            return super().forward(x)
        mean, var, n = whole_batch(x)  # each (C,)
        if self.running_mean is not None:
            self.follow(mean.detach(), (var * n / (n - 1)).detach())
        scale = (var + self.eps).rsqrt()
        if self.affine:
            scale = scale * self.weight
        shift = (self.bias if self.affine else 0) - mean * scale
        scale, shift = (value.float().unflatten(0, (-1, *[1] * (x.ndim - 2))) for value in (scale, shift))  # (C, 1, ..)
        return (x * scale + shift).to(x.dtype)

    def follow(self, mean: Tensor, var: Tensor) -> None:
        """Move the running statistics (C,) towards those of a batch."""
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        # Without a momentum they are the means over all batches so far.
        share = 1 / self.num_batches_tracked.float() if self.momentum is None else self.momentum
        for running, value in ((self.running_mean, mean), (self.running_var, var)):
            running.copy_(running + share * (value - running))

    def _check_input_dim(self, x: Tensor) -> None:
        """Any number of axes: the classes that it stands for have checked it by their names alone."""


def whole_batch(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The mean and biased variance of channels (C,), and the number of their values (1,), over all processes' x (B, C,
    ...); float64.
    """
    var, mean = (value.double() for value in torch.var_mean(x.float(), (0, *range(2, x.ndim)), correction=0))
    n = mean.new_tensor([x.numel() // len(mean)])
    # One message. In float64, the difference of squares below loses nothing that float32 would show.
    sums = Sum.apply(torch.cat([n * mean, n * (var + mean.square()), n]))
    means, squares, n = sums.split([len(mean), len(mean), 1])
    means = means / n
    return means, squares / n - means.square(), n


def share_batch_norms(module: nn.Module, world: World) -> None:
    """Make the batch norms of a module those of all processes, in place; parameters, buffers and names stay.

    Raises UserError for a kind of batch norm that is not torch's own.
    """
    if world.size == 1:
        return  # torch's own is faster
    for part in batch_norms(module):
        if type(part) not in PLAIN:
            raise UserError(
                f"train.devices: {type(part).__name__} would normalise each device's images by themselves; "
                "use torch's BatchNorm, or leave train.devices out"
            )
        part.__class__ = SharedBatchNorm


def batch_norms(module: nn.Module) -> list[BatchNorm]:
    return [part for part in module.modules() if isinstance(part, BatchNorm)]
