"""Freed memory stays with a process that computes, unless its user says otherwise."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import resource
import torch
from diffprobe.runtime.allocator import keep_freed_memory
if {kept}:
    keep_freed_memory()
def faults():
    for _ in range(8):
        torch.empty(2**24).fill_(1)  # an activation of 64 MiB, freed at once: 16,384 pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
before = faults()
print(faults() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
@pytest.mark.parametrize(
    ("kept", "environment", "few"),
    [(True, {}, True), (False, {}, False), (True, {"MALLOC_MMAP_THRESHOLD_": "131072"}, False)],
)
def test_pages_of_freed_activations_are_not_faulted_in_again(kept, environment, few):
    environment = {**os.environ, **environment}
    program = [sys.executable, "-c", PROGRAM.format(kept=kept)]
    faults = int(subprocess.run(program, env=environment, check=True, capture_output=True, text=True).stdout)
    assert (faults < 4 * 16384) == few, faults  # of eight activations; one may still find no room
