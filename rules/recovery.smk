# After a kill the plain command goes on by itself. Snakemake leaves its lock behind when it is killed or its terminal
# closed; every main process here holds a shared lock that dies with it, so that whoever gets the exclusive one knows
# that no other lives and may clear Snakemake's. A living second instance keeps its protection.
import fcntl
import os


def clear_stale_lock() -> int:
    """Remove a dead Snakemake's lock; the descriptor returned is to be kept open for this process's life."""
    folder = Path(".snakemake")
    folder.mkdir(exist_ok=True)
    alive = os.open(folder / "alive.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    try:
        fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
        stale = list((folder / "locks").glob("*.lock"))
        for lock in stale:
            lock.unlink()
        if stale:
            print(
                "The last run was killed; its lock is removed and the work goes on.",
                file=sys.stderr,
            )
    except BlockingIOError:
        pass  # another instance lives
    fcntl.flock(alive, fcntl.LOCK_SH)
    return alive


if workflow.is_main_process:
    ALIVE = clear_stale_lock()
