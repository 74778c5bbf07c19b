"""torch.compile, where it pays: a first compilation takes about a minute, and a kernel cache helps only later ones."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch

Function = TypeVar("Function", bound=Callable[..., Any])
WORTHWHILE = 2e16  # FLOPs: some four minutes of a large GPU without compiling


def compiled(network: Callable[..., Any], device: torch.device, work: float, mode: str = "auto") -> Any:
    """The network to call, compiled where `mode` is `always`, or where it is `auto`, on a GPU with `work` FLOPs ahead
    that make compiling worthwhile.
    """
    worthwhile = device.type == "cuda" and work > WORTHWHILE
    # A compiled module shares the parameters, so checkpoints and averages never see the wrapper.
    return torch.compile(network) if mode == "always" or (mode == "auto" and worthwhile) else network


def constant_when_compiled(function: Function) -> Function:
    """As torch.compiler.assume_constant_result: what the function returns while compiling is a constant of the result.

    That one imports the compiler, seconds of every job.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function
