"""torch.compile, where it pays: a first compilation takes about a minute, and a kernel cache helps only later ones."""

from typing import Any

import torch
from torch import nn

PAYS = 2e16  # FLOPs: some four minutes of a large GPU without compiling


def compiled(network: nn.Module, device: torch.device, work: float, asked: str = "auto") -> Any:
    """The network to be called, compiled on a GPU where `work` FLOPs are ahead, or as is `asked`: always, never.

    Its weights are those of the module itself.
    """
    worth = device.type == "cuda" and work > PAYS
    return torch.compile(network) if asked == "always" or (asked == "auto" and worth) else network
