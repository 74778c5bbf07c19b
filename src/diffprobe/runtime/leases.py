"""GPU leases: Snakemake's local executor limits how many GPU jobs run but assigns no devices, so each job leases one.

A lease is a lock, so it ends with its process, however that dies.
"""

import os
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from diffprobe.runtime.errors import UserError
from diffprobe.runtime.locks import try_lock


def local_gpus(devices: Path = Path("/dev")) -> int:
    """How many GPUs torch would see on this machine: NVIDIA's by their device files, without loading torch, and AMD's
    by torch itself, in a process of its own.
    """
    nvidia = [path for path in devices.glob("nvidia*") if path.name.removeprefix("nvidia").isdigit()]
    if nvidia or not (devices / "kfd").exists():  # ROCm's, one for all devices, and integrated ones have it too
        return len(nvidia)
    count = [sys.executable, "-c", "import torch; print(torch.cuda.device_count())"]
    return int(subprocess.run(count, capture_output=True, text=True, check=True).stdout)


def folder() -> Path:
    """Where this machine's leases lie, shared by all jobs of a user on it; made if it is not there.

    DIFFPROBE_LEASES if that is set, else in the user's runtime directory, else a folder in the system's temporary one.
    Never in the home folder, which several machines may share. Raises UserError where anybody else could put links or
    files in the way.
    """
    if chosen := os.environ.get("DIFFPROBE_LEASES"):
        return Path(chosen)
    # The runtime directory is of mode 0700 by specification, on a local disk, and gone after the last logout.
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and Path(runtime).is_absolute() and is_private(Path(runtime)):
        path = Path(runtime) / "diffprobe"
    else:
        path = Path(tempfile.gettempdir()) / f"diffprobe-{os.getuid()}"
    # Anybody may have made the folder before. So it is checked after `mkdir`, as it is, not as it should be.
    try:
        path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:  # a file, or a link to nowhere
        raise UserError(f"{path}: cannot hold GPU leases ({error.strerror}); {REMEDY}") from None
    if not is_private(path):
        raise UserError(f"{path}: cannot hold GPU leases, others may write to it; {REMEDY}")
    return path


REMEDY = "remove it, or set DIFFPROBE_LEASES to a folder of your own"


def is_private(path: Path) -> bool:
    """Whether this is a folder, not a link to one, that belongs to this user and is open to no one else."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o077


def lease(devices: Sequence[str], waiting: Callable[[], None], poll: float = 0.5) -> tuple[int, int]:
    """Wait for a free one of `devices`; return its index and the lock's descriptor, to be kept open while it is used.

    Devices are named by UUID, not by index: two jobs of a cluster may both see theirs as 0. `waiting` is called once
    where none is free at first. Raises UserError as `folder` and `try_lock` do.
    """
    announced, leases = False, folder()
    while True:
        # The first free one. flock wakes nobody up for "any of these", so the jobs that wait ask again and again.
        for index, name in enumerate(devices):
            descriptor = try_lock(leases / f"{name}.lock")
            if descriptor is not None:
                return index, descriptor
        if not announced:
            waiting()
            announced = True
        time.sleep(poll)
