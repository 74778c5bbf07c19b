"""Work in the background ends with the program, whoever waits for it."""

import subprocess
import sys

WAITED_FOR = """
import time
from concurrent.futures import ThreadPoolExecutor
from diffprobe.data import background

def task(cancelled):
    while not cancelled():
        time.sleep(0.01)

ThreadPoolExecutor(1).submit(background.start(task).result)  # the interpreter waits for executors first
"""


def test_a_task_that_an_executor_waits_for_ends_with_the_program() -> None:
    assert subprocess.run([sys.executable, "-c", WAITED_FOR], timeout=60).returncode == 0
