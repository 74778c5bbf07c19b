# Restart after a kill without `--unlock`, and a second run that would make the same files is refused in a line (see
# runtime/snakemake_locks.py).
import atexit
import os
import sys

import snakemake.exceptions
from snakemake.persistence.file import FilePersistence

from diffprobe.plan.leftovers import deletes_outputs, leftover
from diffprobe.runtime import snakemake_locks


class OneLine(snakemake.exceptions.LockException):
    """What Snakemake raises where its lock is held; its own text is a paragraph that advises to remove the lock."""

    def __init__(self):
        sys.exit(snakemake_locks.refusal())


def say_what_stays() -> None:
    """Called at the end of `snakemake --delete-all-output`, which knows declared outputs alone."""
    if line := leftover(PLACED.results):
        print(line, file=sys.stderr)


if workflow.is_main_process and deletes_outputs(sys.argv):
    atexit.register(say_what_stays)

if workflow.is_main_process:
    snakemake_locks.replace(FilePersistence)
    snakemake.exceptions.LockException = OneLine
