# Restart after a kill without `--unlock`. A killed Snakemake leaves its lock behind. Every main process also holds a
# shared file lock, which the system releases when the process dies. Whoever gets that lock exclusively knows that no
# other instance is alive and can remove Snakemake's. A second that would make the same files is refused in a line.
import atexit
import fcntl
import os
import socket
import sys

import snakemake.exceptions

from diffprobe.plan.leftovers import deletes_outputs, leftover

OWNER = Path(".snakemake/owner")  # of Snakemake's lock: process N@host


def clear_stale_lock() -> int:
    """Remove the lock of a dead Snakemake. Keep the returned descriptor open until this process ends."""
    folder = Path(".snakemake")
    folder.mkdir(exist_ok=True)
    alive = os.open(folder / "alive.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    try:
        fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
        OWNER.unlink(missing_ok=True)
        stale = list((folder / "locks").glob("*.lock"))
        for lock in stale:
            lock.unlink()
        if stale:
            print(
                "The last run was killed; its lock is removed and the run continues.",
                file=sys.stderr,
            )
    except BlockingIOError:
        pass  # another instance is alive
    fcntl.flock(alive, fcntl.LOCK_SH)
    return alive


class OneLine(snakemake.exceptions.LockException):
    """What Snakemake raises where its lock is held; its own text is a paragraph that advises to remove the lock."""

    def __init__(self):
        owner = OWNER.read_text() if OWNER.exists() else "another Snakemake"
        sys.exit(f"{os.getcwd()}: {owner} already makes files that this command asks for; wait for it, or stop it")


def say_what_stays() -> None:
    """Called at the end of `snakemake --delete-all-output`, which knows declared outputs alone."""
    if line := leftover(PLACED.results):
        print(line, file=sys.stderr)


if workflow.is_main_process and deletes_outputs(sys.argv):
    atexit.register(say_what_stays)

if workflow.is_main_process:
    ALIVE = clear_stale_lock()
    snakemake.exceptions.LockException = OneLine


# Called once Snakemake holds its lock.
onstart:
    OWNER.write_text(f"process {os.getpid()}@{socket.gethostname()}")
