"""Public archives: from where, how large, with which SHA-256; fetched over HTTP or from a mirror, always checked."""

import errno
import http.client
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import atomic, sha256

CHUNK = 1 << 20  # bytes
WAITS = (1.0, 5.0)  # seconds before each further try
TIMEOUT = 60.0  # seconds without a byte
FULL = (errno.ENOSPC, errno.EDQUOT)  # of the disk
TRY_AGAIN = (408, 429)  # of the refusals (4xx), those that pass


class Archive(NamedTuple):
    """A file that others publish."""

    name: str
    url: str
    sha256: str
    bytes: int


MNIST = "https://ossci-datasets.s3.amazonaws.com/mnist"
CIFAR = "https://www.cs.toronto.edu/~kriz"

# fmt: off
FILES: dict[str, tuple[Archive, ...]] = {
    "mnist": (
        Archive("train-images-idx3-ubyte.gz", f"{MNIST}/train-images-idx3-ubyte.gz",
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609", 9_912_422),
        Archive("train-labels-idx1-ubyte.gz", f"{MNIST}/train-labels-idx1-ubyte.gz",
                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c", 28_881),
        Archive("t10k-images-idx3-ubyte.gz", f"{MNIST}/t10k-images-idx3-ubyte.gz",
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6", 1_648_877),
        Archive("t10k-labels-idx1-ubyte.gz", f"{MNIST}/t10k-labels-idx1-ubyte.gz",
                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6", 4_542),
    ),
    "cifar10": (
        Archive("cifar-10-python.tar.gz", f"{CIFAR}/cifar-10-python.tar.gz",
                "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce", 170_498_071),
    ),
    "cifar100": (
        Archive("cifar-100-python.tar.gz", f"{CIFAR}/cifar-100-python.tar.gz",
                "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7", 169_001_437),
    ),
    "tiny_imagenet": (
        Archive("tiny-imagenet-200.zip", "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
                "6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821", 248_100_043),
    ),
}
# fmt: on


def fetch(archive: Archive, target: Path, mirror: str | None, report: Callable[[int], None]) -> None:
    """Bring a file to `target`, whole and with the right SHA-256, or not at all.

    `mirror` is a folder that holds the file, or the http(s) address of one; `report` is told the bytes so far. A
    target that is right is left as it is.

    Raises:
        UserError: no network, no such file at the mirror, another file than the one expected, a full disk.
    """
    if not (target.is_file() and sha256(target) == archive.sha256):
        try:
            bring(archive, target, mirror, report)
        except OSError as error:
            needs = f" (it needs {archive.bytes:,} bytes)" if error.errno in FULL else ""
            raise UserError(f"{error.filename or target}: {error.strerror}{needs}; put it right, run again") from None
    report(archive.bytes)


def bring(archive: Archive, target: Path, mirror: str | None, report: Callable[[int], None]) -> None:
    if mirror is not None and not mirror.startswith(("http://", "https://")):
        return copy(archive, Path(mirror).expanduser() / archive.name, target)
    url = archive.url if mirror is None else f"{mirror.rstrip('/')}/{archive.name}"
    with atomic(target) as partial:
        download(url, partial, report)
        verify(archive, partial, url)
    return None


def copy(archive: Archive, source: Path, target: Path) -> None:
    """Take a file from a folder: the same file under two names where the file system can do that."""
    if not source.is_file():
        raise UserError(f"{source}: no such file; put {archive.name} there, or leave `mirror` out to download it")
    verify(archive, source, str(source))
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:  # another file system, or not ours to link
        with atomic(target) as partial:
            shutil.copyfile(source, partial)


def verify(archive: Archive, path: Path, origin: str) -> None:
    found = sha256(path)
    if found != archive.sha256:
        raise UserError(
            f"{origin}: another file than expected (SHA-256 {found}, expected {archive.sha256}); "
            f"get the right {archive.name} and name its folder in `mirror`"
        )


def download(url: str, path: Path, report: Callable[[int], None]) -> None:
    """Download `url` to `path`; a broken connection is taken up again where it broke, a few times."""
    for wait in (*WAITS, None):
        try:
            return stream(url, path, report)
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, OSError) and error.errno in FULL:
                raise
            if wait is None or refused(error):
                raise UserError(
                    f"{url}: {reason(error)}; try again, or name a folder that holds the file in `mirror`"
                ) from None
            time.sleep(wait)
    return None


def stream(url: str, path: Path, report: Callable[[int], None]) -> None:
    """Append to `path` what it lacks of `url`; where the server cannot give a part, begin again."""
    done = path.stat().st_size if path.exists() else 0
    headers = {"User-Agent": "diffprobe", **({"Range": f"bytes={done}-"} if done else {})}
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT) as response:
        done = done if response.status == http.client.PARTIAL_CONTENT else 0
        length = response.headers.get("Content-Length")
        total = None if length is None else done + int(length)
        with path.open("ab" if done else "wb") as file:
            while chunk := response.read(CHUNK):
                file.write(chunk)
                done += len(chunk)
                report(done)
    if total is not None and done < total:
        raise ConnectionError(f"the connection broke after {done:,} of {total:,} bytes")


def refused(error: Exception) -> bool:
    """Whether the server said no in a way that will not pass."""
    return isinstance(error, urllib.error.HTTPError) and error.code < 500 and error.code not in TRY_AGAIN


def reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answers {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        return f"cannot be reached ({error.reason})"
    return str(error) or type(error).__name__
