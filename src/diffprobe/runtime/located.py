"""Code by its name, so that a kind of the config can say where its code lives without importing it."""

from importlib import import_module
from typing import Any


def located(code: str) -> Any:
    """The object that "package.module:name" names. Raises ImportError, with the string, where there is none."""
    module, _, name = code.partition(":")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ImportError(f"{code}: {error}") from error
