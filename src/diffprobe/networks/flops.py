"""What networks cost: FLOPs, counted operator by operator. One multiply-add is 2 FLOPs.

On the meta device tensors have shapes and no memory, so that any network is counted in a second.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from diffprobe.networks.build import Settings, build
from diffprobe.networks.condition import Condition


class FlopCounter(TorchDispatchMode):
    """Adds up the FLOPs of all operators that run in its context, by torch's own formulas.

    torch's FlopCounterMode has the same totals, by module too, but imports torch's compiler: a second of every job.
    """

    def __init__(self) -> None:
        from torch.utils.flop_counter import flop_registry  # loads triton, which most jobs never need

        super().__init__()
        self.formulas, self.total = flop_registry, 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else torch imports the compiler only to turn it off in `__torch_dispatch__`

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        with self:
            out = func.decompose(*args, **kwargs)  # into operators that have a formula, as attention has
        if out is NotImplemented:
            out = func(*args, **kwargs)
            if formula := self.formulas.get(func.overloadpacket):
                self.total += formula(*args, **kwargs, out_val=out)
        return out


class CreationCounter(FlopCounter):
    """Remembers the FLOPs that were counted when each tensor was made, by its id; valid while the tensor lives."""

    def __init__(self) -> None:
        super().__init__()
        self.created: dict[int, int] = {}

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = super().__torch_dispatch__(func, types, args, kwargs)
        # Some operators return their input as it is, which is no later for that; others write into it.
        given = set() if func._schema.is_mutable else {id(arg) for arg in args}
        for tensor in out if isinstance(out, list | tuple) else [out]:
            if id(tensor) not in given:
                self.created[id(tensor)] = self.total
        return out


def flops(run: Callable[[], object]) -> int:
    """The FLOPs of a call, its backward pass included where it makes one."""
    with FlopCounter() as counter:
        run()
    return counter.total


Inputs = tuple[Tensor, Tensor, Condition]


def on_meta(network: Settings, image: tuple[int, int, int], **shape: int) -> tuple[nn.Module, Inputs]:
    """The network of its settings, and its inputs for one image (C, H, W): x (1, C, H, W), c_noise (1,) and, for an
    encoder if it has one, the image as the source of a condition.

    `shape` as in `build`; the channels may be left out. In evaluation mode, as batch norms need a batch otherwise.
    """
    with torch.device("meta"):
        module = build(network, **{"image_channels": image[0]} | shape).eval()
        x = torch.zeros(1, *image)
        return module, (x, torch.zeros(1), Condition(source=x))


def training_flops(module: nn.Module, inputs: Inputs) -> int:
    """Forward and backward pass of one image."""
    return pass_flops(module, inputs)[1]


def pass_flops(module: nn.Module, inputs: Inputs) -> tuple[int, int]:
    """A forward pass of one image; that and the backward pass."""
    with FlopCounter() as counter:
        output = module(*inputs)[0]
        forward = counter.total
        output.sum().backward()  # the sum itself costs next to nothing
    return forward, counter.total
