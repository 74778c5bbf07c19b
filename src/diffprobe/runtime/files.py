"""Atomic files: a reader sees the old content or the new, never part of it."""

import errno
import glob
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from diffprobe.runtime.errors import UserError
from diffprobe.runtime.removal import PARTIAL

UMASK = os.umask(0o077)
os.umask(UMASK)  # the only way to read it is to set it

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # a disk, a quota, the largest file of a file system
UNWRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE)


@contextmanager
def atomic(path: str | Path, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary name beside `path`; rename it to `path` when the block succeeds, else remove it.

    With `durable` a file and its new name are on the disk before this returns: not even a loss of power leaves an empty
    or cut file.

    The temporary name keeps the suffix (writers such as numpy look at it) and contains the process id, so that an
    orphaned job and its successor never write the same temporary file. The block may make a folder instead of a file;
    a folder never replaces one that is not empty (UserError).
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    remove_partial(partial)  # of an earlier process with this number
    try:
        yield partial
        if partial.is_dir():  # `replace` would say "Directory not empty"
            refuse_existing(path)
        is_file = partial.is_file()
        if is_file:
            partial.chmod(0o666 & ~UMASK)  # some writers make files that the group cannot read
            if durable:
                sync(partial)
        partial.replace(path)
        if is_file and durable:
            with suppress(OSError):  # some network disks cannot do this for a folder
                sync(path.parent)
    except BaseException as error:
        remove_partial(partial)
        if isinstance(error, OSError) and error.errno in FULL and error.filename is None:
            error.filename = str(path)  # a write does not say to which file
        raise


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's names, are on the disk. A network disk says here that it is full."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def refuse_existing(path: Path) -> None:
    """Raise UserError where writing a folder at `path` would replace anything but an empty folder."""
    if os.path.lexists(path) and (path.is_symlink() or not path.is_dir() or any(path.iterdir())):
        raise UserError(f"{path}: exists and is not an empty folder; nothing is replaced, choose another name")


@contextmanager
def disk_errors(path: Path, needs: int | None = None, again: str = "run again") -> Iterator[None]:
    """Turn the errors of a disk that is full or refuses access into one line; `needs` in bytes."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        number = disk_error(error)
        if number is None:
            raise
        reason = os.strerror(number)  # HDF5's own message is a paragraph
        if number not in FULL:
            raise UserError(
                f"{final_name(getattr(error, 'filename', None) or path)}: {reason}; fix that and {again}"
            ) from None
        free = shutil.disk_usage(next(folder for folder in path.absolute().parents if folder.exists())).free
        amounts = f"{free / 1e9:.3g} GB free" + (f" of {needs / 1e9:.3g} GB needed" if needs else "")
        raise UserError(f"{path}: cannot be written ({reason}; {amounts}); free some space and {again}") from None


def final_name(path: object) -> str:
    """The name for a user of a file that `atomic` is writing; of any other its own."""
    return re.sub(r"(^|/)\.([^/]*)\.\d+\.part(\.[^/]*)?$", r"\1\2\3", str(path))


def disk_error(error: Exception) -> int | None:
    """The number of the system's error where a disk is full or refuses access; None for any other failure."""
    number = error.errno if isinstance(error, OSError) else None
    text = str(error)
    if number is None and type(error).__module__.startswith("safetensors"):
        match = re.search(r"\(os error (\d+)\)", text)
        number = int(match[1]) if match else None
    elif number is None and isinstance(error, OSError) and re.fullmatch(r"\d+ requested and \d+ written", text):
        number = errno.ENOSPC  # numpy's `tofile` does not say why
    return number if number in FULL + UNWRITABLE else None


def clear_partials(path: str | Path) -> None:
    """Remove what killed processes left half-written beside `path`; the caller must hold its job's lock."""
    path = Path(path)
    # A glob cannot say "digits only", and `.a.backup.part.npz` may be the user's.
    name = re.compile(rf"\.{re.escape(path.stem)}\.\d+\.part{re.escape(path.suffix)}")
    for partial in path.parent.glob(f".{glob.escape(path.stem)}.*.part*"):
        if name.fullmatch(partial.name):
            remove_partial(partial)


def remove_partial(path: Path) -> None:
    """Remove a half-written file or folder of `atomic`, if it is there."""
    assert PARTIAL.fullmatch(path.name), path  # the only names that are removed with all that is in them
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def canonical(value: object) -> str:
    """JSON with sorted keys and no spaces: equal configs give equal text. ValueError for NaN and infinity."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: object) -> str:
    """A content hash of 16 hex digits, of anything that JSON can hold."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:16]  # 64 bits: names collide by no accident


def sha256(path: str | Path) -> str:
    """The SHA-256 of a file's bytes, or of the names and bytes of all files in a folder."""
    path = Path(path)
    if path.is_dir():
        inside = sorted(file.relative_to(path) for file in path.rglob("*") if file.is_file())
        return hashlib.sha256("".join(f"{file}\0{sha256(path / file)}\n" for file in inside).encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_bytes(path: str | Path, data: bytes) -> None:
    with atomic(path) as partial:
        partial.write_bytes(data)


def write_json(path: str | Path, value: object, durable: bool = True) -> None:
    with atomic(path, durable) as partial:
        partial.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: str | Path) -> Any:
    return json.loads(Path(path).read_text())


def recorded(path: str | Path, *keys: str) -> Any:
    """What one of our JSON files holds under these keys, one below the other; None where it is missing or damaged."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        value = read_json(path)
        for key in keys:
            value = value[key]
        return value
    return None


def user_cache() -> Path:
    """This user's folder for what takes long to make again, by the XDG Base Directory Specification.

    Raises RuntimeError where there is no home.
    """
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser(), "diffprobe")


def write_jsonl(path: str | Path, rows: Iterable[Mapping[str, object]], durable: bool = True) -> None:
    with atomic(path, durable) as partial:
        partial.write_text("".join(json.dumps(row) + "\n" for row in rows))
