"""GPU leases: Snakemake's local executor bounds how many GPU jobs run but gives them no device ids, so each job
leases a device that no other has. A lease is a lock, so it ends with its process, however that dies."""

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from diffprobe.runtime.locks import try_lock


def local_gpus() -> int:
    """How many GPUs this machine has, as its device files tell: no torch is loaded for this."""
    return len([path for path in Path("/dev").glob("nvidia*") if path.name.removeprefix("nvidia").isdigit()])


def folder() -> Path:
    """Where this machine's leases lie: shared by all of a user's jobs on it."""
    default = Path(tempfile.gettempdir()) / f"diffprobe-leases-{os.getuid()}"
    return Path(os.environ.get("DIFFPROBE_LEASES", default))


def lease(devices: Sequence[str], waiting: Callable[[], None], poll: float = 0.5) -> tuple[int, int]:
    """Wait for a free one of `devices`: its index, and the lock's descriptor, to be kept open while it is used.

    Devices are named by what is theirs alone (a GPU's UUID), not by an index, which two jobs of a cluster may both
    know as 0. `waiting` is called once where none is free at first.
    """
    said = False
    while True:
        for index, name in enumerate(devices):
            descriptor = try_lock(folder() / f"{name}.lock")
            if descriptor is not None:
                return index, descriptor
        if not said:
            waiting()
            said = True
        time.sleep(poll)
