"""GPU leases: Snakemake's local executor limits how many GPU jobs run but assigns no devices, so each job leases some.

A lease is a lock on a file of the device's name, so it ends with its last process, however that dies. It is shared by
the processes of one job, none of which a killed one leaves without.
"""

import fcntl
import os
import socket
import stat
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

from diffprobe.runtime.errors import UserError
from diffprobe.runtime.gpus import GPU, variable
from diffprobe.runtime.locks import acquired, exclusive, held, open_lock, owner_of

MEMBERS = "DIFFPROBE_LEASED"  # for the processes of one job: the devices, and who leased them
TURN = "turn.lock"  # held for the moment in which a job takes all its devices or none


class Lease(NamedTuple):
    """Devices, by their places in a list, and the descriptors that are kept open while they are used."""

    places: list[int]
    descriptors: list[int]


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


def lease_gpus(gpus: Sequence[GPU], count: int, job: str, say: Callable[[str], object]) -> list[int]:
    """Wait for `count` of the devices, and show this process and its children no others. Returns the lease's
    descriptors. Raises UserError where there are fewer, and as `lease`.
    """
    names = [gpu.name for gpu in gpus]
    if count > len(gpus):
        raise UserError(f"needs {count} GPUs, here are {len(gpus)} ({', '.join(names)}); lower train.devices")
    places, descriptors = lease(names, count, job, say)
    os.environ[variable()] = ",".join(gpus[place].token for place in places)
    leased = ",".join(names[place] for place in places)
    os.environ[MEMBERS] = f"{leased} {owner_of(folder() / f'{names[places[0]]}.lock')}"
    say(f"computes on {leased}")
    return descriptors


def lease(names: Sequence[str], count: int, job: str, say: Callable[[str], object], poll: float = 0.5) -> Lease:
    """Wait until `count` of these devices are free at once, and take them.

    Devices are named by UUID, not by index: two jobs of a cluster may both see theirs as 0. Of a job that has to wait,
    `say` is told once what for, and which processes have the devices. Raises UserError as `folder` and `open_lock` do.
    """
    announced, leases = False, folder()
    while True:
        # flock wakes nobody up for "any of these", so the jobs that wait ask again and again. They hold nothing
        # meanwhile: two jobs with one device each would wait for each other's for ever.
        with turn(leases):
            if (taken := take(leases, names, count, job)) is not None:
                return taken
            owners = [f"{name}: process {owner_of(leases / f'{name}.lock')}" for name in names if in_use(leases, name)]
        if not announced:
            say(f"waits for {count} free GPU{'s' * (count > 1)} ({'; '.join(owners)})")
            announced = True
        time.sleep(poll)


def turn(leases: Path) -> AbstractContextManager[None]:
    return exclusive(leases / TURN, lambda owner: None, poll=0.01)


def take(leases: Path, names: Sequence[str], count: int, job: str) -> Lease | None:
    """The first `count` free devices, or none of them. The caller holds `turn`."""
    lease = Lease([], [])
    for place, name in enumerate(names):
        descriptor = open_lock(leases / f"{name}.lock")
        if not acquired(descriptor, fcntl.LOCK_EX):
            os.close(descriptor)
            continue
        lease.places.append(place)
        lease.descriptors.append(descriptor)
        if len(lease.places) == count:
            for each in lease.descriptors:
                # Not at once one and then the other: without `turn` somebody might come between.
                fcntl.flock(each, fcntl.LOCK_SH)
                os.ftruncate(each, 0)
                os.pwrite(each, f"{os.getpid()}@{socket.gethostname()} {job}".encode(), 0)
            return lease
    for each in lease.descriptors:
        os.close(each)
    return None


def in_use(leases: Path, name: str) -> bool:
    """Whether a job has the device. The caller holds `turn`, so that nobody takes this look for a lease."""
    return held(leases / f"{name}.lock", fcntl.LOCK_EX)  # which `take` has opened, so it exists


def join(leased: str) -> list[int]:
    """Share the lease of this process's job, named as in MEMBERS. Returns its descriptors.

    Raises UserError where the process that leased the devices has ended and another job has them.
    """
    names, _, owner = leased.partition(" ")
    leases, descriptors = folder(), list[int]()
    with turn(leases):
        for path in (leases / f"{name}.lock" for name in names.split(",")):
            if owner_of(path) != owner:
                raise UserError(f"{path}: the device has passed to process {owner_of(path)}; run again")
            descriptors.append(open_lock(path))
            fcntl.flock(descriptors[-1], fcntl.LOCK_SH)
    return descriptors
