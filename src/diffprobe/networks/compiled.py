"""torch.compile, where it pays: a first compilation takes about a minute, and the kept kernels help only later ones."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch

from diffprobe.runtime import keyed

Function = TypeVar("Function", bound=Callable[..., Any])
WORTHWHILE = 2e16  # FLOPs: some four minutes of a large GPU without compiling
FUSED_NODES = 1000  # in one kernel; torch's bound of 64 would cut the draws of a batch into twenty


def is_worthwhile(device: torch.device, work: float, how: str = "auto") -> bool:
    """Whether to compile: `always` and `graphs` do, `never` does not, `auto` does on a GPU with enough FLOPs ahead."""
    return how in ("always", "graphs") or (how == "auto" and device.type == "cuda" and work > WORTHWHILE)


def compiled(network: Callable[..., Any], device: torch.device, work: float, how: str = "auto") -> Any:
    """The network to call, compiled where that pays (`is_worthwhile`), by `graphs` as CUDA graphs too.

    A compiled module shares the parameters, so checkpoints and averages never see the wrapper.
    """
    if not is_worthwhile(device, work, how):
        return network
    keep_kernels()
    return graphed(network) if how == "graphs" else torch.compile(network)


def graphed(network: Callable[..., Any]) -> Callable[..., Any]:
    """Compiled, its kernels recorded once and started as one CUDA graph: for networks whose kernels are shorter than
    their start.

    What a call returns, and the gradients of its backward pass, are overwritten by the next call.
    """
    recorded = torch.compile(network, mode="reduce-overhead")

    def call(*args: Any, **kwargs: Any) -> Any:
        torch.compiler.cudagraph_mark_step_begin()
        return recorded(*args, **kwargs)

    return call


def compiled_draws(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that makes keyed draws, compiled to a few kernels. Its numbers are those of the function itself but
    for rounding.
    """
    keep_kernels()
    constant_when_compiled(keyed.key_words)  # a hash, which cannot be traced
    fused = torch.compile(function, options={"max_fusion_size": FUSED_NODES})
    warm = False

    def call(*args: Any) -> Any:
        nonlocal warm
        if not warm:
            # Once as it is, which puts tables on the device: traced, they would be computed and copied at each step.
            # The result is dropped, since a stopped run must have the same rounding at every step.
            function(*args)
            warm = True
        return fused(*args)

    return call


def keep_kernels() -> None:
    """Let torch keep compiled kernels in the user's cache folder, and not in /tmp, so that later jobs have them."""
    chosen = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    # torch fills in the variable itself where none has set it, when an optimiser is made.
    default = chosen and Path(chosen).parent == Path(tempfile.gettempdir()) and "torchinductor_" in chosen
    if default or not chosen:
        cache = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(Path(cache, "diffprobe", "inductor"))


def constant_when_compiled(function: Function) -> Function:
    """As torch.compiler.assume_constant_result: what the function returns while compiling is a constant of the result.

    That one imports the compiler, seconds of every job.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function
