"""What only some systems have, and what is done elsewhere. Linux has all of it; macOS lacks most.

Two more are asked for where they are used: the preloaded process (preload.py) and reading by mapped files
(latents/mapped.py) are left out where the system has not what they need.
"""

import os
import resource
import sys
from pathlib import Path


def usable_cores() -> int:
    """The CPU cores that this process may use, as far as the system tells."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def will_read(file: int, offset: int, length: int, sequential: bool = False) -> None:
    """Let the kernel read this range of an open file ahead; with `sequential` what follows too."""
    if hasattr(os, "posix_fadvise"):
        advice = os.POSIX_FADV_SEQUENTIAL if sequential else os.POSIX_FADV_WILLNEED
        os.posix_fadvise(file, offset, length, advice)


def reserve_space(file: int, offset: int, length: int) -> None:
    """Give a file its length, and its space on the disk where the system can. Raises OSError where that is full."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, offset, length)
    else:
        os.ftruncate(file, max(offset + length, os.fstat(file).st_size))


def shares_descriptors() -> bool:
    """Whether a process can open a nameless file of another by its descriptor, and reserve memory for it."""
    return hasattr(os, "posix_fallocate") and Path("/proc/self/fd").exists()


def peak_memory_mib() -> int:
    """The most memory that this process has had, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // (1 << 20 if sys.platform == "darwin" else 1 << 10)  # macOS counts bytes, others KiB
