"""GPU leases: Snakemake's local executor bounds how many GPU jobs run but gives them no device ids, so each job
leases a device that no other has. A lease is a lock, so it ends with its process, however that dies."""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from diffprobe.runtime.locks import try_lock


def local_gpus() -> int:
    """How many GPUs this machine has, as its device files tell: no torch is loaded for this."""
    return len([path for path in Path("/dev").glob("nvidia*") if path.name.removeprefix("nvidia").isdigit()])


def folder() -> Path:
    """Where this machine's leases lie: shared by all of a user's jobs on it."""
    default = Path(tempfile.gettempdir()) / f"diffprobe-leases-{os.getuid()}"
    return Path(os.environ.get("DIFFPROBE_LEASES", default))


def lease(devices: int, waiting: Callable[[], None], poll: float = 0.5) -> tuple[int, int]:
    """Wait for a free one of `devices` GPUs: its index, and the lock's descriptor, to be kept open while it is used.

    `waiting` is called once where none is free at first.

    Where CUDA_VISIBLE_DEVICES is set, indices count within it, and the lock names the device behind the index.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = visible.split(",") if visible else [str(i) for i in range(devices)]
    said = False
    while True:
        for index in range(devices):
            descriptor = try_lock(folder() / f"{names[index]}.lock")
            if descriptor is not None:
                return index, descriptor
        if not said:
            waiting()
            said = True
        time.sleep(poll)
