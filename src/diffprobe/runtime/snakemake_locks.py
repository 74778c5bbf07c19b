"""Snakemake's locks, each of which ends with its process.

A run of Snakemake writes the names of the files that it reads and makes to two files in `.snakemake/locks`. A killed
one leaves them behind, and one that ends removes those of all others too. Here a process holds its two by flock, which
the system releases when it dies, and removes no others. Beside each stands `NAME.owner`. A lock without that is of
another workflow, or of an older version, and counts as held.
"""

import fcntl
import os
import socket
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

FOREIGN = "another Snakemake"
holder = FOREIGN  # whose lock was read last
descriptors: dict[Path, int] = {}  # of this process's own locks


def owner(lock: Path) -> Path:
    return lock.with_name(f"{lock.name}.owner")


def remove(lock: Path) -> None:
    """The lock first: without an owner it would count as held."""
    lock.unlink(missing_ok=True)
    owner(lock).unlink(missing_ok=True)


def remove_stale(lock: Path) -> bool:
    """Remove a lock whose process is dead; whether it was so."""
    if not owner(lock).exists():
        return False
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:  # its process ended meanwhile
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Another may have removed it, and a third written its own under this name.
        if lock.exists() and os.path.samestat(os.fstat(descriptor), lock.stat()):
            remove(lock)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def read_locks(persistence: Any) -> Iterator[tuple[str, str]]:
    """The kind and the files of each lock that is held. Those of dead processes are removed."""
    global holder
    stale = False
    for lock in sorted(Path(persistence._lockdir).glob("*.lock")):
        if remove_stale(lock):
            stale = True
            continue
        holder = owner(lock).read_text() if owner(lock).exists() else FOREIGN
        for file in lock.read_text().splitlines():
            yield lock.suffixes[-2].removeprefix("."), file
    if stale:
        print("The last run was killed; its lock is removed and the run continues.", file=sys.stderr)


def refusal() -> str:
    """The line that refuses a run, after `read_locks` has come to a file that another makes."""
    remedy = "wait for it, or stop it"
    if holder == FOREIGN:
        remedy = "wait for it; if none runs here, remove .snakemake/locks"
    return f"{Path.cwd()}: {holder} already makes files that this command asks for; {remedy}"


def hold(lock: Path) -> None:
    """Hold a lock that this process has written, until it ends."""
    descriptors[lock] = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    fcntl.flock(descriptors[lock], fcntl.LOCK_EX)
    owner(lock).write_text(f"process {os.getpid()}@{socket.gethostname()}")


def release() -> None:
    """Remove this process's locks."""
    for lock, descriptor in descriptors.items():
        remove(lock)
        os.close(descriptor)
    descriptors.clear()


def replace(persistence: type[Any]) -> None:
    """Let Snakemake's class of files about a workflow read, write and remove its locks in this way."""
    if persistence._read_locks is read_locks:  # a second inclusion of the rules
        return
    theirs = persistence._write_locks

    def write_locks(self: Any, kind: str, files: Iterable[str]) -> None:
        theirs(self, kind, files)
        if written := self._lockfile.get(kind):  # of no file it writes none
            hold(Path(written))

    # `--unlock` removes all, as before.
    persistence.cleanup_locks = persistence._delete_locks
    persistence._read_locks, persistence._write_locks = read_locks, write_locks
    persistence._delete_locks = lambda self: release()
