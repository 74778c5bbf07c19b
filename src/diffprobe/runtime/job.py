"""What every script shares: one JSON argument, named inputs and outputs, a log, a progress file, a receipt.

    python workflow/scripts/NAME.py JSON --in name=path ... --out name=path ... --with name=value ... --log PATH

A UserError ends in one line and exit status 1. Any other exception is a bug and leaves its traceback in the log. A
signal to stop leaves the state `stopped`. Scripts import this module before anything else, so that a signal is heard
while torch is being imported.
"""

import argparse
import io
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from functools import cached_property
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from diffprobe.runtime.allocator import keep_freed_memory
from diffprobe.runtime.command import STOPS, Interrupted, interruptible
from diffprobe.runtime.errors import UserError, for_terminal, one_line
from diffprobe.runtime.fetched import refuse_changed
from diffprobe.runtime.files import clear_partials, digest, disk_errors
from diffprobe.runtime.gpus import visible_gpus
from diffprobe.runtime.job_call import unpacked
from diffprobe.runtime.leases import MEMBERS, join, lease, lease_gpus
from diffprobe.runtime.locks import exclusive, try_lock
from diffprobe.runtime.progress import Console, Progress
from diffprobe.runtime.receipts import RECEIPT, write_receipt
from diffprobe.runtime.torchrun import STARTED_BY_TORCHRUN, start_processes

if TYPE_CHECKING:
    import torch


SCRIPTS = ("workflow", "scripts")


class Job:
    """A script's arguments, and how it reports."""

    def __init__(self, arguments: argparse.Namespace, log: TextIO) -> None:
        self.config: Any = json.loads(arguments.config)
        self.inputs: dict[str, str] = dict(pair.split("=", 1) for pair in arguments.inputs)
        self.outputs: dict[str, str] = dict(pair.split("=", 1) for pair in arguments.outputs)
        self.options: dict[str, str] = dict(pair.split("=", 1) for pair in arguments.options)
        self.threads: int = arguments.threads
        self.needs_float64 = True  # which MPS, Apple's GPUs, lacks
        self.log = log
        self.started = time.time()
        self.console = Console(Path(log.name).parents[1] / ".console")  # one slot for all jobs: logs/RULE/NAME.log
        path = Path(arguments.progress or Path(log.name).with_suffix(".json"))
        self.progress = Progress(path, arguments.name, log, self.console)

    def input(self, name: str) -> Path:
        return Path(self.inputs[name])

    def optional(self, name: str) -> Path | None:
        """An input that may be absent."""
        return self.input(name) if name in self.inputs else None

    def output(self, name: str) -> Path:
        return Path(self.outputs[name])

    def group(self, prefix: str) -> list[Path]:
        """The inputs named prefix.0, prefix.1, ... in order."""
        return [Path(path) for name, path in self.inputs.items() if name.startswith(f"{prefix}.")]

    def named(self, prefix: str) -> dict[str, Path]:
        """The inputs named prefix.NAME, by NAME."""
        return {
            name.partition(".")[2]: Path(path) for name, path in self.inputs.items() if name.startswith(f"{prefix}.")
        }

    def say(self, line: str) -> None:
        """Print one line to the log and to the console."""
        print(line, file=self.log, flush=True)
        with suppress(OSError):  # the terminal may be gone
            print(for_terminal(f"{self.progress.name}: {line}"), file=sys.stderr, flush=True)

    @cached_property
    def device(self) -> "torch.device":
        """The torch device of this job, its number of threads set: a GPU leased for the job's life, else the CPU.

        Apple's GPU is taken only where DIFFPROBE_DEVICE is mps, by jobs that need no float64.
        """
        import torch

        # The processes of one job share its threads.
        torch.set_num_threads(max(1, self.threads // int(os.environ.get("LOCAL_WORLD_SIZE", 1))))
        if os.environ.get("DIFFPROBE_DEVICE") == "mps" and torch.backends.mps.is_available() and not self.needs_float64:
            self.lease = lease(["mps"], 1, self.progress.name, self.say).descriptors
            return torch.device("mps")
        if STARTED_BY_TORCHRUN in os.environ:
            self.lease = join(os.environ[MEMBERS]) if MEMBERS in os.environ else []
        elif gpus := visible_gpus():
            self.lease = lease_gpus(gpus, 1, self.progress.name, self.say)
        if not torch.cuda.is_available():
            return torch.device("cpu")
        index = int(os.environ.get("LOCAL_RANK", 0)) if STARTED_BY_TORCHRUN in os.environ else 0
        torch.cuda.set_device(index)  # calls without a device, such as synchronize, would otherwise use the first
        return torch.device("cuda", index)

    def autosaved(self, output: str) -> AbstractContextManager[None]:
        """Save computations beside an output, every `autosave` seconds (an option), until that is written: a killed
        job goes on from there, where config, inputs, code and kind of device are the same.
        """
        from diffprobe.runtime.autosave import autosaved  # loads torch, which some jobs do without
        from diffprobe.runtime.code_hashes import code_version

        status = {name: Path(path).stat() for name, path in self.inputs.items()}
        stamps = [[name, each.st_size, each.st_mtime_ns] for name, each in status.items()]
        return autosaved(
            self.output(output),
            lambda: digest([self.config, stamps, code_version(), self.device.type]),
            float(self.options["autosave"]),
            lambda line: self.progress.update(self.progress.done, line),
        )

    def write_receipt(self, output: str = "receipt", **more: object) -> None:
        """Write this job's receipt, after all its other outputs (see `receipts.write_receipt`)."""
        outputs = {name: path for name, path in self.outputs.items() if not path.endswith(RECEIPT)}
        utilisation = {} if self.progress.mfu is None else {"mfu": round(self.progress.mfu, 4)}
        about = {"threads": self.threads, **utilisation, **more}
        write_receipt(self.output(output), self.config, self.inputs, outputs, self.started, **about)


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The arguments of a job. Exits with argparse's status for those that are no job's."""
    parser = argparse.ArgumentParser(description="One job of the workflow; the rules call it.")
    parser.add_argument("config", help="the config subtree of this job, as JSON")
    parser.add_argument("--in", dest="inputs", nargs="*", default=[], metavar="name=path")
    parser.add_argument("--out", dest="outputs", nargs="*", default=[], metavar="name=path")
    parser.add_argument(
        "--with", dest="options", nargs="*", default=[], metavar="name=value", help="settings that change no result"
    )
    parser.add_argument("--packed", help="all of these in one word (see job_call.py)")
    parser.add_argument("--log", required=True)
    parser.add_argument("--progress", help="progress file (default: beside the log)")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--name", help="the job's name in progress and logs (default: as the log's: RULE.WILDCARDS)")
    arguments = parser.parse_args(argv)
    if arguments.packed:
        arguments.inputs, arguments.outputs, arguments.options = unpacked(arguments.packed)
    log = Path(arguments.log)
    arguments.name = arguments.name or f"{log.parent.name}.{log.stem}"
    return arguments


def rank_of(arguments: argparse.Namespace) -> int:
    """The number of this process among those that torchrun started; each but the first has its own log and progress."""
    if rank := int(os.environ.get("RANK", 0)):
        arguments.progress = f"{arguments.log}.{rank}.json"
        arguments.log = f"{arguments.log}.{rank}"
        arguments.name = f"{arguments.name}.{rank}"
    return rank


def lock_of(arguments: argparse.Namespace) -> Path:
    """Held for life: `progress.alive` looks at it."""
    log = Path(arguments.log)
    return Path(f"{log}.lock") if int(os.environ.get("RANK", 0)) else log.with_suffix(".lock")


def run(main: Callable[[Job], None], argv: list[str] | None = None) -> None:
    """Run one job: `main(job)`, its state in a progress file, its errors as `fail` reports them.

    An orphan of a killed Snakemake that still runs this job is waited for, so that no two processes write the same
    outputs. Where torchrun starts several processes, the first is the job.
    """
    hear_stops(signal.SIG_DFL)
    keep_freed_memory()
    arguments = parse(argv)
    try:
        with interruptible():
            start_processes(arguments)
            attempt(main, arguments)
    except UserError as error:  # there are no devices, no log or no lock
        sys.exit(f"{arguments.name}: error: {error}")
    except KeyboardInterrupt as stop:  # while it waited for an orphan, whose state stands
        sys.exit(status_of(stop))


def attempt(main: Callable[[Job], None], arguments: argparse.Namespace) -> None:
    rank, log_path = rank_of(arguments), Path(arguments.log)
    waits = f"{arguments.name}: waits for process {{}}, which a killed run left at this same job"
    # The log is opened under the lock, since an orphan still writes to it.
    orphan = exclusive(lock_of(arguments), lambda owner: print(waits.format(owner), file=sys.stderr))
    with disk_errors(log_path), orphan, open_log(log_path) as log:
        job = Job(arguments, log)
        for path in map(Path, [] if rank else job.outputs.values()):
            clear_partials(path)
            clear_partials(path.parent)  # for an output that marks its folder as complete
        perform(main, job)


class ForgivingFile(io.FileIO):
    """A file for a log, which nobody misses while its disk is full: what went wrong must reach the terminal."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError:
            return len(data)

    def close(self) -> None:
        with suppress(OSError):  # where network disks say that they are full
            super().close()


def open_log(path: Path) -> TextIO:
    """A log to write to, line by line. Raises OSError."""
    file = io.BufferedWriter(ForgivingFile(str(path), "w"))
    return io.TextIOWrapper(file, "utf-8", "backslashreplace", line_buffering=True)


def perform(main: Callable[[Job], None], job: Job) -> None:
    """Call `main` and record how it ended."""
    try:
        with disk_errors(Path(next(iter(job.outputs.values()), job.log.name))):
            refuse_changed(job.inputs.values())
            main(job)
    except UserError as error:
        fail(job, f"error: {error}")
    except MemoryError:
        fail(job, "error: out of memory; free some, or use smaller batches")
    except SystemExit:  # training has saved its state and ends
        job.progress.write("stopped")
        raise
    except KeyboardInterrupt as stop:
        job.progress.write("stopped")
        job.say(f"stopped by {signal.Signals(status_of(stop) - 128).name}")
        raise SystemExit(status_of(stop)) from None
    except Exception as error:
        traceback.print_exc(file=job.log)
        fail(job, f"failed: {type(error).__name__}: {one_line(error)} (traceback in {job.log.name})")
    else:
        job.progress.write("done")
    finally:
        job.console.close()


def status_of(stop: KeyboardInterrupt) -> int:
    """The exit status of a process that a signal stopped."""
    return 128 + (stop.number if isinstance(stop, Interrupted) else signal.SIGINT)


def fail(job: Job, line: str) -> NoReturn:
    job.progress.write("failed", line)
    job.say(line)
    sys.exit(1)


# --- before the job


def hear_stops(handler: "Callable[[int, FrameType | None], None] | int") -> None:
    """Set the handler of the signals to stop, where it is the default one or `stop_early`."""
    for number in STOPS:
        if signal.getsignal(number) in (signal.default_int_handler, signal.SIG_DFL, stop_early):
            usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, usual if handler == signal.SIG_DFL else handler)


def stop_early(number: int, frame: FrameType | None) -> None:
    """End at once, since nothing is under way yet; record it where no orphan runs this job."""
    with suppress(OSError, UserError, SystemExit):  # arguments that are refused exit
        arguments = parse(None)
        rank_of(arguments)
        if try_lock(lock_of(arguments)) is not None:
            with open_log(Path(arguments.log)) as log:
                job = Job(arguments, log)
                job.progress.write("stopped")
                job.say(f"stopped by {signal.Signals(number).name}")
    os._exit(128 + number)


if Path(sys.argv[0]).resolve().parts[-3:-1] == SCRIPTS:  # and no test or command, which imports this module too
    hear_stops(stop_early)
