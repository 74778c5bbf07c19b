"""The fork server: python forkserver.py CONTROL FOLDER PACKAGES... loads the packages, then forks a child for each job.

See preload.py, which starts it, sends it the jobs' requests over the socket CONTROL, and listens in FOLDER. Nothing of
ours is imported here: receipts list the project's files that a job has loaded.
"""

import atexit
import ctypes
import gc
import importlib
import io
import marshal
import os
import select
import shutil
import signal
import socket
import sys
import threading
import types
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

HEARD = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTSTP)


class Job:
    """A job's process and the connection to its client."""

    def __init__(self, pid: int, client: socket.socket) -> None:
        self.pid, self.client = pid, client
        self.ended = os.pidfd_open(pid)  # readable when the process has ended

    def close(self) -> None:
        self.client.close()
        os.close(self.ended)


def read(descriptor: int) -> Any:
    """A client's request or the packages of a server; the descriptor is closed."""
    content = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    os.close(descriptor)
    return marshal.loads(content)


def receive(connection: socket.socket, length: int) -> tuple[bytes, list[int]]:
    """At most so many bytes and the descriptors with them; no bytes where the other end is gone."""
    try:
        return socket.recv_fds(connection, length, 5)[:2]
    except ConnectionResetError:  # it went without having read what it was sent
        return b"", []


def load(packages: Iterable[str]) -> None:
    for name in packages:
        importlib.import_module(name)
    gc.freeze()  # a job's garbage collection would visit, and so copy, every object that is loaded here


def serve(control: socket.socket, folder: str) -> tuple[dict, list[int]] | None:
    """Fork jobs until Snakemake's main process is gone and the last job has ended.

    Returns in each process that it forks, too: in a job's with the request and its standard streams, at the end of a
    server with None.
    """
    jobs: list[Job] = []
    waited: list[socket.socket] = [control]
    server = os.getpid()
    while waited or jobs:
        clients = [job.client for job in jobs if job.client.fileno() >= 0]
        watched: list[socket.socket | int] = [*waited, *clients, *(job.ended for job in jobs)]
        ready, _, _ = select.select(watched, [], [])
        for job in [job for job in jobs if job.ended in ready]:
            with suppress(OSError):  # the client was killed
                job.client.send(os.waitpid(job.pid, 0)[1].to_bytes(4, "little"))
            job.close()
            jobs.remove(job)
        for job in [job for job in jobs if job.client in ready]:
            signals, _ = receive(job.client, 64)
            for number in signals or [signal.SIGKILL]:  # without a client the job is killed
                os.kill(job.pid, number)
            if not signals:
                job.client.close()
        if control in ready:
            message, descriptors = receive(control, 1)
            if not message:  # Snakemake's main process is gone
                waited.clear()
                shutil.rmtree(folder, ignore_errors=True)  # it may have been killed
                continue
            if (pid := os.fork()) == 0:
                for job in jobs:
                    job.close()
                control.close()
                if message == b"s":
                    load(read(descriptors[1]))
                    return serve(socket.socket(fileno=descriptors[0]), folder)
                die_with(server)
                os.close(descriptors[0])
                return read(descriptors[1]), descriptors[2:]
            for descriptor in descriptors[1:]:
                os.close(descriptor)
            if message == b"s":
                os.close(descriptors[0])
                continue
            client = socket.socket(fileno=descriptors[0])
            jobs.append(Job(pid, client))
            with suppress(OSError):
                client.send(b"s")
                control.send(pid.to_bytes(4, "little"))
    return None


def die_with(server: int) -> None:
    """A killed server would leave a job whose end nobody notices."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != server:
        os._exit(1)


def become(request: dict, streams: list[int]) -> None:
    """Make of this process what `python SCRIPT ARGUMENTS...` would be in the client's place, and run it."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    for number in HEARD:  # the server may ignore others, as under nohup
        usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, signal.SIG_IGN if number in request["ignored"] else usual)
    os.chdir(request["folder"])
    os.umask(request["umask"])
    os.environ.clear()
    os.environ.update(request["environment"])
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=os.isatty(1))  # as the interpreter sets it when it starts
    script, *_ = sys.argv = request["command"]
    sys.orig_argv = [sys.executable, *sys.argv]
    if not sys.flags.safe_path:
        sys.path[0] = os.path.dirname(os.path.realpath(script))  # noqa: PTH120 (without pathlib's import)
    importlib.invalidate_caches()
    if random := sys.modules.get("numpy.random"):
        random.seed()  # its global generator would be the same in every job; Python's own sees to itself
    module = types.ModuleType("__main__")
    module.__dict__.update(__file__=script, __cached__=None, __builtins__=__builtins__)
    # This file leaves sys.modules, where multiprocessing knows it by another name too, so that receipts do not list it
    # among the job's code.
    server = sys.modules["__main__"]
    sys.modules.update({name: module for name, loaded in sys.modules.items() if loaded is server})
    try:
        exec(compile(Path(script).read_bytes(), script, "exec"), module.__dict__)
    except SystemExit as stop:
        end(stop.code)
    end(None)


def end(code: object) -> None:
    """End as the interpreter does with the code of a SystemExit, but leave the memory to the system.

    To free torch's objects one by one copies every page that a job still shares with the server, which takes a second.
    """
    if code is not None and not isinstance(code, int):
        print(code, file=sys.stderr)
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, as multiprocessing's processes do
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    ctypes.CDLL(None).fflush(None)  # what libraries have printed
    os._exit((code or 0) & 0xFF)


if __name__ == "__main__":
    load(sys.argv[3:])
    if job := serve(socket.socket(fileno=int(sys.argv[1])), sys.argv[2]):
        become(*job)
