"""A command that runs another program stops it when it is itself stopped."""

import os
import signal
import subprocess
import sys

import pytest

COMMAND = """
import signal, sys
from diffprobe.runtime.command import call

signal.signal(signal.SIGINT, getattr(signal, sys.argv[1]))
program = "import subprocess, sys; sys.exit(subprocess.run([sys.executable, '-c', sys.argv[1]]).returncode != 0)"
sys.exit(call([sys.executable, "-c", program, "print(1, flush=True); input()"]) != 0)
"""


@pytest.mark.parametrize(
    "interrupt", ["default_int_handler", "SIG_IGN"], ids=["at a terminal", "in a script's background"]
)
def test_sigterm_ends_the_program_and_what_it_started(interrupt: str) -> None:
    """A shell without job control starts what runs in the background with SIGINT ignored, for all its descendants."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    command = subprocess.Popen([sys.executable, "-c", COMMAND, interrupt], **pipes, process_group=0)
    try:
        assert command.stdout.readline() == b"1\n"
        command.send_signal(signal.SIGTERM)
        assert command.wait(20) == 1
        assert command.stdout.read() == b""  # ends when the last process that holds the pipe does
    finally:
        if command.poll() is None:
            os.killpg(command.pid, signal.SIGKILL)
