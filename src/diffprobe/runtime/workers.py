"""Worker processes of a pool: they ignore Ctrl-C, which the parent handles, and do not outlive it."""

import multiprocessing
import os
import signal
import threading


def end_with_parent() -> None:
    """Call this first in a worker; otherwise a pool's workers outlive a killed parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent receives it too and ends the pool
    threading.Thread(target=_wait_and_end, daemon=True).start()


def _wait_and_end() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
