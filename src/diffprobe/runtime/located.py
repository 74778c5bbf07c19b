"""Code by its name, so that a kind of the config can say where its code lives without importing it."""

import sys
from hashlib import sha256
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any


def located(code: str) -> Any:
    """The object that "package.module:name" or "/folder/file.py:name" names.

    Raises ImportError, with the string, where there is none.
    """
    module, _, name = code.rpartition(":")
    try:
        return getattr(import_file(Path(module)) if module.endswith(".py") else import_module(module), name)
    except (ImportError, OSError, AttributeError, ValueError) as error:
        raise ImportError(f"{code}: {error}") from error


def import_file(path: Path) -> ModuleType:
    """The module in a file, imported once, under a name that its path alone decides."""
    name = f"{path.stem}_{sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError("no Python file")
    module = module_from_spec(spec)
    sys.modules[name] = module  # before its code runs: pydantic looks up a model's annotations in its module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
