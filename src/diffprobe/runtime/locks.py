"""Advisory locks that die with their owner (flock): nothing to clean up after a SIGKILL."""

import errno
import fcntl
import os
import socket
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from diffprobe.runtime.errors import UserError

LOOKS = 10  # attempts to take a lock that others are looking at


def open_lock(path: str | Path) -> int:
    """Open the file of a lock, made if it is not there, and return its descriptor.

    Raises UserError where the path is a link or no regular file: writing the owner would truncate whatever lies there.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # CLOEXEC: a child process would inherit the descriptor and so hold the lock after its parent's end.
    # NOFOLLOW: see above; only the last component counts, so a results folder may be a link.
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EISDIR):
            raise
        raise UserError(f"{path}: is a link or a folder where a lock file belongs; remove it and run again") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):  # of the open file: the name may point elsewhere by now
        os.close(descriptor)
        raise UserError(f"{path}: is no regular file where a lock file belongs; remove it and run again")
    return descriptor


def try_lock(path: str | Path) -> int | None:
    """Take the lock and return its descriptor, to be kept open as long as the lock is needed; None where it is held.

    The file then names the owner as `pid@host`. Raises UserError as `open_lock`.
    """
    descriptor = open_lock(path)
    try:
        if not taken(descriptor):
            os.close(descriptor)
            return None
        # The file itself is never removed: a process could then lock the old file while another locks a new one.
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}@{socket.gethostname()}".encode(), 0)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def taken(descriptor: int) -> bool:
    """Take the lock for this process alone; False where it has an owner. Who looks at it shares it for a moment."""
    for _ in range(LOOKS):
        if acquired(descriptor, fcntl.LOCK_EX):
            return True
        if not acquired(descriptor, fcntl.LOCK_SH):
            return False
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        time.sleep(0.001)
    return False


def acquired(descriptor: int, kind: int) -> bool:
    """Whether a lock, LOCK_SH or LOCK_EX, could be had without waiting."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def owner_of(path: Path) -> str:
    """Who took the lock last, as its file says."""
    return path.read_text() or "unknown"


def held(path: str | Path, sharing: int = fcntl.LOCK_SH) -> bool:
    """Whether a process holds the lock at `path`, a file that exists; LOCK_EX finds those that share it too."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return not acquired(descriptor, sharing)  # shared: two that only look do not take each other for the owner
    finally:
        os.close(descriptor)


@contextmanager
def exclusive(path: str | Path, waiting: Callable[[str], None], poll: float = 0.5) -> Iterator[None]:
    """Hold the lock at `path`. Where it has an owner already, call `waiting(owner)` once and wait."""
    path = Path(path)
    descriptor = try_lock(path)
    if descriptor is None:
        waiting(owner_of(path))
    while descriptor is None:
        time.sleep(poll)
        descriptor = try_lock(path)
    try:
        yield
    finally:
        os.close(descriptor)
