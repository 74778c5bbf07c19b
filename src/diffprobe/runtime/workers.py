"""Processes of a pool: they hear no Ctrl-C, which is for the parent, and do not outlive it."""

import multiprocessing
import os
import signal
import threading


def end_with_parent() -> None:
    """To be called first in a worker: a pool's workers outlive a killed parent otherwise."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it too, and ends the pool
    threading.Thread(target=_wait_and_end, daemon=True).start()


def _wait_and_end() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
