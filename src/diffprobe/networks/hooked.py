"""A pass through a model whose code is not ours: activations are read by hooks."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn


class LastTap(Exception):  # noqa: N818 (not an error)
    """Ends a forward pass from within: the model's own code offers no early exit."""


def hooked(
    forward: Callable[[], Tensor], tapped: Mapping[str, nn.Module], features_only: bool
) -> tuple[Tensor | None, dict[str, Tensor]]:
    """The result of `forward()` and, by name, the outputs of the modules `tapped` in it, in the order of computation.

    With `features_only` nothing after the last of them is computed and the result is None.
    """
    activations: dict[str, Tensor] = {}

    def hook(name: str) -> Callable[..., None]:
        def keep(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            activations[name] = output
            if features_only and len(activations) == len(tapped):
                raise LastTap

        return keep

    # Hooks live for one pass only, so that a copy of the network never keeps another's.
    handles = [module.register_forward_hook(hook(name)) for name, module in tapped.items()]
    try:
        return forward(), activations
    except LastTap:
        return None, activations
    finally:
        for handle in handles:
            handle.remove()
