"""Plugins: kinds defined in Python files that a config lists, or in installed packages.

A plugin subclasses the families (see `kinds`). Editing it triggers reruns: the hash of the files that implement a kind
is part of every job argument that contains the kind.
"""

import hashlib
import os
import re
from collections.abc import Iterable
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from diffprobe.config.base import expanded
from diffprobe.config.kinds import Kind
from diffprobe.runtime.errors import UserError, one_line
from diffprobe.runtime.located import import_file

PLUGINS = "DIFFPROBE_PLUGINS"  # environment variable that passes the config's plugin paths to jobs, separated by colons
BESIDE = re.compile(r"([\w./-]+\.py):(\w+)")  # code in a file beside the plugin, named by `build` or another attribute
WITHIN = re.compile(r"([A-Za-z_]\w*(?:\.\w+)*):(\w+)")  # code in an installed package
GROUP = "diffprobe.plugins"  # entry-point group; each entry point is a module


def load(paths: object, source: str = "config") -> None:
    """Import installed plugins and those at the given paths, each once. Raises UserError."""
    for point in installed():
        try:
            adopt(point.load())
        except Exception as error:
            raise UserError(f"the installed plugin {point.name} ({point.value}) fails: {one_line(error)}") from None
    if not (isinstance(paths, list) and all(isinstance(path, str) for path in paths)):
        return  # validation reports it
    for path in paths:
        try:
            adopt(import_file(Path(expanded(path)).resolve()))
        except FileNotFoundError as error:
            raise UserError(f"{source}: plugins: {error.filename or path}: no such file; check the path") from None
        except (Exception, SystemExit) as error:
            reason = f"{type(error).__name__}: {one_line(error)}"
            raise UserError(f"{source}: plugins: {path}: fails: {reason}; correct it") from None


def load_for_job() -> None:
    """Import the plugins listed in the config of the workflow that runs this job."""
    load([path for path in os.environ.get(PLUGINS, "").split(":") if path], PLUGINS)


@cache
def installed() -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=GROUP))


def adopt(module: ModuleType) -> None:
    """Set the code hash of each kind that a module defines, and resolve its relative file references."""
    for kind in vars(module).values():
        own = isinstance(kind, type) and issubclass(kind, Kind) and kind.__module__ == module.__name__
        if own and kind.plugin is None:
            folder, files = Path(str(module.__file__)).parent, [Path(str(module.__file__))]
            for attribute, value in list(vars(kind).items()):
                if match := BESIDE.fullmatch(value) if isinstance(value, str) else None:
                    files.append(folder / match[1])
                    setattr(kind, attribute, f"{files[-1]}:{match[2]}")
                elif match := WITHIN.fullmatch(value) if isinstance(value, str) else None:
                    spec = find_spec(match[1])  # imports no more than the packages around it
                    files += [Path(spec.origin)] if spec and spec.origin else []
            kind.plugin = content_hash(files)


def content_hash(files: Iterable[Path]) -> str:
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()[:16]
