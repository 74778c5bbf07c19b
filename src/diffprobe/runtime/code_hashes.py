"""Hashes of the behaviour of source files: comments, docstrings and layout do not count.

To parse a hundred files takes a third of a second of every job. So the hashes are remembered in the user's cache, by
the files' bytes and the version of Python.
"""

import ast
import hashlib
import os
import platform
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

from diffprobe.runtime.files import digest, recorded, user_cache, write_json
from diffprobe.runtime.places import project_name

MOST = 20_000  # hashes that are remembered


def code_version() -> dict[str, str]:
    """The hash of every file of this project that this process has loaded, by its path in a clone."""
    known = len(hashes())
    version = {name: module_hash(str(file)) for name, file in loaded().items()}
    if len(hashes()) > known:
        remember()
    return version


def loaded() -> dict[str, Path]:
    """The files of this project that this process has loaded, by their paths in a clone, in order."""
    # A list, since another thread may import while this one iterates.
    files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    folder = cache(os.path.realpath)  # resolved one by one, thousands of files take a quarter of a second

    def resolved(file: str) -> str:
        above, name = os.path.split(file)
        return os.path.realpath(file) if Path(file).is_symlink() else f"{folder(above)}/{name}"

    paths = [resolved(file) for file in files if file and file.endswith(".py")]
    return dict(sorted((name, Path(path)) for path in paths if (name := project_name(path))))


@cache
def module_hash(path: str) -> str:
    """A hash of a source file's behaviour. Raises FileNotFoundError and SyntaxError."""
    source = Path(path).read_bytes()  # once: it may be saved meanwhile, and what is remembered would be of two texts
    content = hashlib.sha256(source).hexdigest()
    if content not in hashes():
        hashes()[content] = behaviour(source)
    return hashes()[content]


def behaviour(source: str | bytes) -> str:
    # `ast.unparse` writes one layout without comments. Docstrings are statements and must be dropped here.
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            value = body[0].value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                body[:] = body[1:] or [ast.Pass()]
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()[:12]


# --- the user's cache


@cache
def hashes() -> dict[str, str]:
    """Hashes of behaviour by those of bytes: what is remembered, and what this process adds."""
    with suppress(OSError, RuntimeError):  # there may be no home
        return remembered()
    return {}


def remembered() -> dict[str, str]:
    kept = recorded(place(), "hashes")
    return kept if isinstance(kept, dict) and recorded(place(), "digest") == digest(kept) else {}


def remember() -> None:
    """Add this process's hashes to those that others may have added meanwhile."""
    with suppress(OSError, RuntimeError):  # it takes longer, that is all
        kept = remembered() | hashes()
        kept = kept if len(kept) <= MOST else hashes()
        place().parent.mkdir(parents=True, exist_ok=True)
        write_json(place(), {"hashes": kept, "digest": digest(kept)}, durable=False)


def place() -> Path:
    return user_cache() / "code" / f"{platform.python_version()}.json"
