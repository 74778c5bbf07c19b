"""Archives of public datasets: downloaded or taken from a mirror, always verified by SHA-256."""

import http.client
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from diffprobe.config.sources import Archive
from diffprobe.runtime.errors import UserError, one_line
from diffprobe.runtime.files import FULL, atomic, sha256

CHUNK = 1 << 20  # bytes
WAITS = (1.0, 5.0)  # seconds before each retry
TIMEOUT = 60.0  # seconds without a byte
TEMPORARY = (408, 429)  # client errors (4xx) that are worth a retry: timeout, too many requests


def fetch(archive: Archive, target: Path, mirror: str | None, report: Callable[[int], None]) -> None:
    """Put a file at `target`, complete and with the right SHA-256, or not at all.

    `mirror` is a folder that holds the file, or the http(s) address of one; `report` is called with the number of bytes
    so far. A target that already has the right SHA-256 is kept.

    Raises:
        UserError: no network, no such file at the mirror, a wrong SHA-256, a full disk.
    """
    if not (target.is_file() and archive.matches(sha256(target))):
        try:
            if mirror is not None and not mirror.startswith(("http://", "https://")):
                link_or_copy(archive, Path(mirror).expanduser() / archive.name, target)
            else:
                url = archive.url if mirror is None else f"{mirror.rstrip('/')}/{archive.name}"
                with atomic(target) as partial:
                    download(url, partial, archive.bytes, report)
                    verify(archive, partial, url)
        except OSError as error:
            needs = f" (it needs {archive.bytes:,} bytes)" if error.errno in FULL else ""
            raise UserError(
                f"{error.filename or target}: {error.strerror or one_line(error)}{needs}; fix this and run again"
            ) from None
    report(archive.bytes)


def link_or_copy(archive: Archive, source: Path, target: Path) -> None:
    """Take a file from a folder, as a hard link where the file system allows it."""
    if not source.is_file():
        raise UserError(f"{source}: no such file; put {archive.name} there, or leave `mirror` out to download it")
    verify(archive, source, str(source))  # before anything is replaced
    linked_or_copied(source, target)


def keep(arrived: Path, target: Path, expected: str, address: str) -> None:
    """Put a file that has come from an address at `target`. Raises UserError where its SHA-256 is not the expected."""
    actual = sha256(arrived)
    if actual != expected:
        raise UserError(
            f"{address}: its SHA-256 is {actual}, not {expected} as in the config; put the right file there, or state "
            "its SHA-256 in the config"
        )
    linked_or_copied(arrived, target)


def linked_or_copied(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source.resolve(), target)  # of the file itself, were it a link that may move
    except OSError:  # another file system, or a file of another user
        with atomic(target) as partial:
            shutil.copyfile(source, partial)


def downloaded(archive: Archive, folder: Path) -> Path:
    """A file that an earlier job downloaded into a folder. Raises UserError where it is lost or has changed since."""
    path = folder / archive.name
    if not path.is_file() or not archive.matches(sha256(path)):
        state = "has changed since it was downloaded" if path.is_file() else "no such file, though it was downloaded"
        raise UserError(f"{path}: {state}; delete {folder / 'archives.json'} and run again")
    return path


def verify(archive: Archive, path: Path, origin: str) -> None:
    """Raise UserError unless a file has the published SHA-256; `origin` is for the message."""
    actual = sha256(path)
    if not archive.matches(actual):
        raise UserError(
            f"{origin}: wrong file (SHA-256 {actual}, expected {archive.sha256}); "
            f"get the right {archive.name} and name its folder in `mirror`"
        )


def download(url: str, path: Path, most: int, report: Callable[[int], None]) -> None:
    """Download `url`, of `most` bytes, to `path`, resuming where a connection broke, up to len(WAITS) times."""
    for wait in (*WAITS, None):
        try:
            return stream(url, path, most, report)
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, OSError) and error.errno in FULL:
                raise
            if wait is None or is_permanent(error):
                raise UserError(
                    f"{url}: {reason(error)}; try again, or name a folder that holds the file in `mirror`"
                ) from None
            time.sleep(wait)
    return None


def stream(url: str, path: Path, most: int, report: Callable[[int], None]) -> None:
    """Append to `path` what it lacks of `url`; start over where the server ignores the requested range.

    Raises UserError where there are more than `most` bytes, which is another file and may never end.
    """
    done = path.stat().st_size if path.exists() else 0
    headers = {"User-Agent": "diffprobe", **({"Range": f"bytes={done}-"} if done else {})}
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT) as response:
        # A server that ignores the range answers 200 with the whole file.
        done = done if response.status == http.client.PARTIAL_CONTENT else 0
        length = response.headers.get("Content-Length")
        total = done + int(length) if length and length.isdecimal() else None
        with path.open("ab" if done else "wb") as file:
            while chunk := response.read(CHUNK):
                file.write(chunk)
                done += len(chunk)
                report(done)
                if done > most:
                    raise UserError(f"{url}: wrong file (more than {most:,} bytes); name the right one in `mirror`")
    # http.client does not always raise where a connection ends early.
    if total is not None and done < total:
        raise ConnectionError(f"the connection broke after {done:,} of {total:,} bytes")


def is_permanent(error: Exception) -> bool:
    """Whether a retry would meet the same answer of the server."""
    return isinstance(error, urllib.error.HTTPError) and error.code < 500 and error.code not in TEMPORARY


def reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answered {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        return f"cannot be reached ({error.reason})"
    return str(error) or type(error).__name__
