"""The command line's own manners: arguments that cannot be right, and every end of a command, take one line."""

import argparse
import errno
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from diffprobe.runtime.errors import UserError, access_error, for_terminal
from diffprobe.runtime.files import FULL, UNWRITABLE, final_name


class CommandParser(argparse.ArgumentParser):
    """Says what is wrong without the usage, which for some commands takes a screen."""

    later: Callable[[argparse.ArgumentParser], None] | None = None
    passes_on = False  # what stands behind `--` is for another program, and becomes `passed`

    def add_later(self, add: Callable[[argparse.ArgumentParser], None]) -> None:
        """Let `add` add the arguments when this command is chosen, since it imports what others need not."""
        self.later = add

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self.later:
            add, self.later = self.later, None
            add(self)
        if self.passes_on:
            end = args.index("--") if "--" in args else len(args)
            self.set_defaults(passed=args[end + 1 :])
            args = args[:end]
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {' '.join(message.split())}; see {self.prog} --help\n")


def named_path(text: str) -> Path:
    """A type for argparse. An empty path would be the current folder."""
    if not text:
        raise argparse.ArgumentTypeError("is empty; perhaps a variable of the shell is not set")
    return Path(text)


def positive_integer(text: str) -> int:
    """A type for argparse."""
    return integer(text, 1, "a positive integer")


def natural_number(text: str) -> int:
    """A type for argparse."""
    return integer(text, 0, "an integer that is not negative")


def pixels_a_side(text: str) -> int:
    """A type for argparse."""
    return integer(text, 1, "a positive integer up to 65,536", 65_536)


def process_count(text: str) -> int:
    """A type for argparse."""
    return integer(text, 1, "a positive integer up to 1,024", 1024)


def integer(text: str, least: int, expected: str, most: int = 2**63) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if not least <= value <= most:
        raise argparse.ArgumentTypeError(f"{text}: expected {expected}")
    return value


def positive_number(text: str) -> float:
    """A type for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text}: expected a positive number")
    return value


STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
CLEANING = 10.0  # seconds in which further signals do not break into the cleaning up


class Interrupted(KeyboardInterrupt):
    """A signal to stop; what is under way is cleaned up, as after Ctrl-C."""

    def __init__(self, number: int) -> None:
        self.number = number


@contextmanager
def ends_in_one_line() -> Iterator[None]:
    """Exit with one line on stderr where the block is interrupted, refuses its input, or cannot print its results."""
    try:
        with interruptible():
            yield
            sys.stdout.flush()  # here, where a full disk can still be reported
    except UserError as error:
        end(str(error), 1)
    except KeyboardInterrupt as stop:
        number = signal.Signals(stop.number if isinstance(stop, Interrupted) else signal.SIGINT)
        end(f"stopped by {number.name}; nothing is left half-written", 128 + number)
    except BrokenPipeError:  # `| head`: whoever read the results has enough of them
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except MemoryError:
        end("out of memory; free some, or use smaller batches or images", 1)
    except OSError as error:
        if error.errno not in FULL + UNWRITABLE:
            if error.errno == errno.EEXIST:
                end(f"{error.filename}: is a file where a folder is needed; choose another name", 1)
            if refusal := access_error(final_name(error.filename or "standard input"), error):
                end(str(refusal), 1)
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python tries again when it ends
        end(f"{error.filename or 'standard output'}: {error.strerror}; fix that and run again", 1)


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise Interrupted at the first signal to stop, unless the caller handles or ignores it itself."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return
    handlers = {number: signal.getsignal(number) for number in (*STOPS, signal.SIGALRM)}
    for number in STOPS:
        if handlers[number] in (signal.default_int_handler, signal.SIG_DFL):
            signal.signal(number, interrupt)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGALRM) is not handlers[signal.SIGALRM]:
            signal.setitimer(signal.ITIMER_REAL, 0)  # an interrupt waits for an import
        for number, handler in handlers.items():
            signal.signal(number, handler)


def interrupt(number: int, frame: FrameType | None) -> None:
    """Raise Interrupted. Code that swallows it (a finaliser of Python's) hears the next signal.

    While modules are imported it waits: an exception that passes through an extension's initialiser aborts the process.
    """
    if is_importing(frame):
        signal.signal(signal.SIGALRM, lambda _, frame: interrupt(number, frame))
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        return
    until = time.monotonic() + CLEANING

    def again(number: int, frame: FrameType | None) -> None:
        if time.monotonic() > until:
            interrupt(number, frame)

    for each in STOPS:
        if signal.getsignal(each) is not signal.SIG_IGN:
            signal.signal(each, again)
    raise Interrupted(number)


def is_importing(frame: FrameType | None) -> bool:
    """Whether a frame is part of an import."""
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


def end(line: str, status: int) -> NoReturn:
    print(for_terminal(line), file=sys.stderr)
    sys.exit(status)


def call(command: Sequence[str]) -> int:
    """Run a program to its end and return its exit status.

    Ctrl-C reaches it too, and it ends in its own time: `subprocess.run` would kill it. SIGTERM is passed on as Ctrl-C,
    or as itself where Ctrl-C is ignored, as it is by what a script runs in the background.
    """
    import psutil

    stop = signal.SIGTERM if signal.getsignal(signal.SIGINT) == signal.SIG_IGN else signal.SIGINT

    def stop_all(number: int, frame: FrameType | None) -> None:
        """As the terminal does: of its descendants those in its process group."""
        program = psutil.Process(process.pid)
        for child in program.children(recursive=True):
            with suppress(psutil.NoSuchProcess, ProcessLookupError):
                if os.getpgid(child.pid) == os.getpgid(process.pid):
                    child.send_signal(stop)
        program.send_signal(stop)

    with subprocess.Popen(command) as process:
        handlers = {
            signal.SIGINT: signal.signal(signal.SIGINT, lambda *_: None),
            signal.SIGTERM: signal.signal(signal.SIGTERM, stop_all),
        }
        try:
            return process.wait()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
