"""Atomic files: a reader sees the old content or the new, never a part of it."""

import glob
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from diffprobe.runtime.errors import UserError
from diffprobe.runtime.removal import PARTIAL

UMASK = os.umask(0o077)
os.umask(UMASK)  # it can only be read by setting it


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; rename it to `path` when the block ends well, else remove it.

    The temporary name keeps the suffix (writers such as numpy look at it) and holds the process id, so that an
    orphaned job and its successor never write the same temporary file. A folder may be made instead of a file; it
    never takes the place of another that holds something (UserError).
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    remove_partial(partial)  # of an earlier process with this number
    try:
        yield partial
        if partial.is_dir():
            refuse_existing(path)
        if partial.is_file():
            partial.chmod(0o666 & ~UMASK)  # safetensors alone would keep it from the rest of the group
        partial.replace(path)
    except BaseException:
        remove_partial(partial)
        raise


def refuse_existing(path: Path) -> None:
    """Raise UserError where writing a folder at `path` would replace anything but an empty folder."""
    if os.path.lexists(path) and (path.is_symlink() or not path.is_dir() or any(path.iterdir())):
        raise UserError(f"{path}: exists and is not an empty folder; nothing is replaced, choose another name")


def clear_partials(path: str | Path) -> None:
    """Remove what killed processes left half-written beside `path`; to be called by whoever holds its job's lock."""
    path = Path(path)
    name = re.compile(rf"\.{re.escape(path.stem)}\.\d+\.part{re.escape(path.suffix)}")
    for partial in path.parent.glob(f".{glob.escape(path.stem)}.*.part*"):
        if name.fullmatch(partial.name):
            remove_partial(partial)


def remove_partial(path: Path) -> None:
    """Remove a half-written file or folder of `atomic`, if it is there."""
    assert PARTIAL.fullmatch(path.name), path
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal configs give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any) -> str:
    """A short content hash of anything that JSON can hold."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:16]


def sha256(path: str | Path) -> str:
    """Of a file's bytes; of a folder, of the names and bytes of all files in it."""
    path = Path(path)
    if path.is_dir():
        inside = sorted(file.relative_to(path) for file in path.rglob("*") if file.is_file())
        return hashlib.sha256("".join(f"{file}\0{sha256(path / file)}\n" for file in inside).encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_bytes(path: str | Path, data: bytes) -> None:
    """Whole, and on the disk: a crash leaves no half of it, and a network disk says at once that it is full."""
    with atomic(path) as partial, partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def write_json(path: str | Path, value: Any) -> None:
    with atomic(path) as partial:
        partial.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: str | Path) -> Any:
    return json.loads(Path(path).read_text())


def write_jsonl(path: str | Path, rows: Iterable[dict]) -> None:
    with atomic(path) as partial:
        partial.write_text("".join(json.dumps(row) + "\n" for row in rows))


def read_jsonl(path: str | Path) -> list[dict]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]
