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
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

from diffprobe.runtime.locks import exclusive, held

FOREIGN = "another Snakemake"
holder = FOREIGN  # whose lock was read last
descriptors: dict[Path, int] = {}  # of this process's own locks


def guarded(folder: Path) -> AbstractContextManager[None]:
    """One process at a time looks at the locks of a folder and changes them."""
    return exclusive(folder.with_name("locks.guard"), lambda owner: None, poll=0.05)


def owner(lock: Path) -> Path:
    return lock.with_name(f"{lock.name}.owner")


def remove(lock: Path) -> None:
    """The lock first: without an owner it would count as held."""
    lock.unlink(missing_ok=True)
    owner(lock).unlink(missing_ok=True)


def is_stale(lock: Path) -> bool:
    """Whether the process that made a lock is dead. Raises FileNotFoundError where there is no such lock."""
    return owner(lock).exists() and not held(lock)


def live_locks(folder: Path) -> list[tuple[str, str, list[str]]]:
    """Of each lock that is held: its owner, its kind and its files. Those of dead processes are removed."""
    live, stale = [], False
    with guarded(folder):
        for lock in sorted(folder.glob("*.lock")):
            with suppress(FileNotFoundError):  # another workflow's run has just ended, and removed all
                if is_stale(lock):
                    remove(lock)
                    stale = True
                    continue
                by = owner(lock).read_text() if owner(lock).exists() else FOREIGN
                live.append((by, lock.suffixes[-2].removeprefix("."), lock.read_text().splitlines()))
    if stale:
        print("The last run was killed; its lock is removed and the run continues.", file=sys.stderr)
    return live


def read_locks(persistence: Any) -> Iterator[tuple[str, str]]:
    """The kind and the files of each lock that is held, as Snakemake asks for them."""
    global holder
    for by, kind, files in live_locks(Path(persistence._lockdir)):
        holder = by
        for file in files:
            yield kind, file


def refusal() -> str:
    """The line that refuses a run, after `read_locks` has come to a file that another makes."""
    remedy = "wait for it, or stop it"
    if holder == FOREIGN:
        remedy = "wait for it; if none runs here, remove .snakemake/locks"
    return f"{Path.cwd()}: {holder} already makes files that this command asks for; {remedy}"


def hold(lock: Path) -> None:
    """Hold a lock that this process has written, until it ends."""
    descriptors[lock] = os.open(lock, os.O_RDWR | os.O_CLOEXEC)  # on NFS a file must be open for writing to be locked
    fcntl.flock(descriptors[lock], fcntl.LOCK_EX)
    owner(lock).write_text(f"process {os.getpid()}@{socket.gethostname()}")


def release(folder: Path) -> None:
    """Remove this process's locks."""
    with guarded(folder):
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
        with guarded(Path(self._lockdir)):
            theirs(self, kind, files)
            if written := self._lockfile.get(kind):  # of no file it writes none
                hold(Path(written))

    # `--unlock` removes all, as before.
    persistence.cleanup_locks = persistence._delete_locks
    persistence._read_locks, persistence._write_locks = read_locks, write_locks
    persistence._delete_locks = lambda self: release(Path(self._lockdir))
