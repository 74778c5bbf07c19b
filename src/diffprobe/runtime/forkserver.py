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

    def __init__(self, pid: int, ended: int, client: socket.socket) -> None:
        self.pid, self.ended, self.client = pid, ended, client

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
        ready = readable([*waited, *(end for job in jobs for end in (job.client, job.ended))])
        for job in [job for job in jobs if job.ended in ready]:
            with suppress(OSError):  # the client was killed
                job.client.send(os.waitpid(job.pid, 0)[1].to_bytes(4, "little"))
            job.close()
            jobs.remove(job)
        for job in [job for job in jobs if job.client.fileno() in ready]:
            signals, _ = receive(job.client, 64)
            for number in signals or [signal.SIGKILL]:  # without a client the job is killed
                os.kill(job.pid, number)
            if not signals:
                job.client.close()
        if control.fileno() in ready:
            message, descriptors = receive(control, 1)
            if not message:  # Snakemake's main process is gone
                waited.clear()
                shutil.rmtree(folder, ignore_errors=True)  # it may have been killed
                continue
            pid, ended = fork() if len(descriptors) > 1 else (None, None)  # there is a limit on open files, too
            if pid == 0:
                for job in jobs:
                    job.close()
                control.close()
                if message == b"s":
                    load(read(descriptors[1]))
                    return serve(socket.socket(fileno=descriptors[0]), folder)
                die_with(server)
                os.close(descriptors[0])
                return read(descriptors[1]), descriptors[2:]
            if message == b"j" and pid and ended:
                jobs.append(Job(pid, ended, socket.socket(fileno=descriptors.pop(0))))
                with suppress(OSError):  # the client was killed, or has lost patience
                    jobs[-1].client.send(b"s")
            elif ended:
                os.close(ended)
            for descriptor in descriptors:  # a client that loses its connection starts the job itself
                os.close(descriptor)
            if message == b"j":
                with suppress(OSError):
                    control.send((pid or 0).to_bytes(4, "little"))
    return None


def readable(ends: Iterable[socket.socket | int]) -> set[int]:
    """Wait until there is something to read at one of these; closed sockets do not count."""
    poll = select.poll()  # `select.select` ends at descriptor 1023
    for end in ends:
        if isinstance(end, int) or end.fileno() >= 0:
            poll.register(end, select.POLLIN)
    return {descriptor for descriptor, _ in poll.poll()}


def fork() -> tuple[int, int] | tuple[None, None]:
    """Fork a process: its id, 0 in itself, and a descriptor that is readable when it has ended. None where the system
    has no more of them: whoever asked for the process goes on without one, and so do the jobs of this server.
    """
    try:
        if (pid := os.fork()) == 0:
            return 0, 0
    except OSError:
        return None, None
    try:
        return pid, os.pidfd_open(pid)
    except OSError:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return None, None


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
    code = None
    try:
        exec(compile(Path(script).read_bytes(), script, "exec"), module.__dict__)
    except SystemExit as stop:
        code = stop.code
    end(code)  # not sooner: the exception holds the job's frames, and those the loaders that threads work for


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
