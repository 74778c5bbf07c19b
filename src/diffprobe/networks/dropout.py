"""Dropout whose masks cost a CPU little."""

import torch
from torch import Tensor, nn

STEPS = 2**16  # of a probability: 16 random bits decide on a number
LANES = 4  # numbers that 64 bits, a draw of torch's generator, decide on


class Dropout(nn.Module):
    """In training, every number of x is 0 with probability p, from 0 to below 1, the others are larger in compensation
    (Srivastava et al. 2014, section 10): the mean stays. In evaluation x itself.

    Masks come from torch's generator of the device. On a CPU, p is rounded to a multiple of 2^-16. torch's own masks
    are drawn number by number, 64 bits for each, by one thread: a tenth of a step of a small U-Net.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and self.p):
            return x
        if x.device.type == "cpu":
            return x * mask(x, self.p)
        return nn.functional.dropout(x, self.p)  # not in place, where a GPU draws other masks, by more kernels


def drops(module: nn.Module) -> bool:
    """Whether some layer of a module drops anything."""
    return any(isinstance(layer, Dropout) and layer.p > 0 for layer in module.modules())


def mask(x: Tensor, p: float) -> Tensor:
    """Of the shape, dtype and memory order of x, on the CPU: 0 with probability p, otherwise 1 / (1 - p)."""
    dropped = min(round(STEPS * p), STEPS - 1)  # of the values of 16 bits
    bits = torch.empty(-(-x.numel() // LANES), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
    factors = torch.empty_like(x, requires_grad=False)
    in_order = factors.as_strided((x.numel(),), (1,))  # of memory, in which a new tensor has no gaps
    torch.ge(bits[: x.numel()], dropped - STEPS // 2, out=in_order)
    in_order.mul_(STEPS / (STEPS - dropped))
    return factors
