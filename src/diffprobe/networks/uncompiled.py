"""Count on the meta device without torch's compiler.

torch's rules for that device are written in Python and marked as functions that the compiler must skip. The first call
of one imports the compiler, more than a second, only to mark it.
"""

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from types import ModuleType
from typing import Any

COMPILER = "torch._dynamo"


class NoCompiler(ModuleType):
    """Stands in for the compiler where nothing is compiled. Whoever wants more of it than marks gets the real one."""

    def disable(self, function: Callable[..., Any], *_: object, **__: object) -> Callable[..., Any]:
        return function

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        stand_down(self)
        return getattr(importlib.import_module(COMPILER), name)


@contextmanager
def uncompiled() -> Iterator[None]:
    """For a process that compiles nothing, such as a command. Without effect where the compiler is loaded."""
    import torch

    if COMPILER in sys.modules:
        yield
        return
    stand_in, spec = NoCompiler(COMPILER), find_spec(COMPILER)
    stand_in.__path__ = spec.submodule_search_locations or [] if spec else []  # where its submodules are found
    sys.modules[COMPILER] = torch._dynamo = stand_in  # type: ignore[assignment]
    try:
        yield
    finally:
        stand_down(stand_in)


def stand_down(stand_in: NoCompiler) -> None:
    import torch

    if sys.modules.get(COMPILER) is stand_in:
        del sys.modules[COMPILER], torch._dynamo
