"""Jobs start from a process that has torch loaded, a second sooner each.

    Snakemake ── shell ── client     forkclient.py is what the shell sees; it passes signals on and ends as the job ends
        │ listen()           │       the request: command, environment, folder, umask, standard streams
        └── server ── job ◄──┘       forkserver.py loads packages and forks; the child becomes the job

A job is what a fresh start would have made of it. Only other people's packages are preloaded, and those that receipts
list only for scripts that import all of them anyway, because receipts list the packages and the project's files that a
process has loaded.
Libraries read their environment when they are loaded (OMP_NUM_THREADS, CUDA_VISIBLE_DEVICES, glibc's MALLOC_*), so a
server takes only jobs whose environment is the one that it was started with; another environment has another server.
Nothing touches CUDA before the fork. Where anything about the server fails, the client starts the job the ordinary way.

A server of more packages is forked from one of the same environment that has the first of them, so that torch is
loaded once.

A job whose client is killed is killed. A server outlives a killed Snakemake for as long as it has jobs, so that these
live on as orphans, as they would without it. It lives in a session of its own, so that a signal from the terminal
reaches a job once, through its client.
"""

import ast
import atexit
import marshal
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from functools import cache
from pathlib import Path

PYDANTIC = ("pydantic.types", "pydantic.json_schema", "pydantic.functional_serializers", "pydantic.type_adapter")
TORCH = ("torch", *PYDANTIC)
STORES = (*TORCH, "zarr", "PIL.Image")
IMAGES = (*STORES, "h5py")
# Optimisers and what counts FLOPs load torch's compiler and pandas, which receipts do not list.
FITTING = (*IMAGES, "torch._dynamo", "torch.utils.flop_counter", "pandas")
DRAWING = ("matplotlib.figure", "pandas", *PYDANTIC, "zarr", "rich.console", "rich.table", "yaml")
# What takes most of the time to load, by what a script must import; it starts from the first that it would load whole.
PRELOADED = {
    ("torch.optim", "zarr", "h5py"): FITTING,
    ("torch", "zarr", "h5py", "pandas"): FITTING,  # features and what is fitted on them
    ("torch", "zarr", "h5py", "scipy.linalg"): (*IMAGES, "scipy.linalg"),
    ("torch", "zarr", "h5py"): IMAGES,
    ("torch", "zarr"): STORES,
    ("torch",): TORCH,
    ("matplotlib.figure", "pandas", "zarr"): DRAWING,
}
NEEDED = ("memfd_create", "pidfd_open")  # Linux
PREFIX = "diffprobe-jobs-"
PROGRAMS = Path(__file__).parent
SOURCES = Path(__file__).parents[2]
SHELL_ONLY = ("_", "SHLVL", "PWD", "OLDPWD")  # bash sets them; no library reads them when it is loaded


def listen() -> str:
    """Begin to take jobs: what stands between the interpreter and a script on a command line to start it here.

    Empty where the user has turned it off (DIFFPROBE_PRELOAD=0) or the system lacks what it needs.
    """
    if os.environ.get("DIFFPROBE_PRELOAD") == "0" or not all(hasattr(os, name) for name in NEEDED):
        return ""
    try:
        _watch_jobs_in_benchmarks()
        _remove_stale()
        folder = tempfile.mkdtemp(prefix=PREFIX)  # of mode 0700: nobody else can connect
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(f"{folder}/new")  # another run would remove a socket at which nobody listens yet
        listener.listen(64)
        Path(folder, "new").rename(f"{folder}/socket")
    except (ImportError, AttributeError, OSError):
        return ""
    threading.Thread(target=_accept, args=(listener,), daemon=True).start()
    return shlex.join(["-IS", str(PROGRAMS / "forkclient.py"), f"{folder}/socket"])


def _remove_stale() -> None:
    """Folders of main processes that were killed before they had come to a job; a server removes its own."""
    for address in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/socket"):
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(str(address))
            except OSError:  # nobody listens there
                shutil.rmtree(address.parent, ignore_errors=True)


def _accept(listener: socket.socket) -> None:
    folder = Path(listener.getsockname()).parent
    while True:
        # One thread each, since the first job of a server waits until its packages are loaded.
        threading.Thread(target=_hand_over, args=(listener.accept()[0], folder), daemon=True).start()


def _hand_over(client: socket.socket, folder: Path) -> None:
    """Give a client's job to the server of its environment; closing the connection says that there is none."""
    with client, suppress(Exception):  # whatever it is, the job can start the ordinary way
        _, descriptors, _, _ = socket.recv_fds(client, 1, 4)
        try:
            request = marshal.loads(os.pread(descriptors[0], os.fstat(descriptors[0]).st_size, 0))
            with _parser:
                imported = imports(request["command"][0])
            if packages := next((PRELOADED[some] for some in PRELOADED if set(some) <= imported), ()):
                _server(request, packages, folder).start(client, descriptors)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)


_parser = threading.Lock()  # CPython before 3.11.8 and 3.12.2 cannot parse in two threads at once (gh-106905)


@cache
def imports(script: str) -> set[str]:
    """The modules that running a script of ours loads at once: by the imports at the top of it and of our modules that
    it imports. Imports inside functions may never happen and do not count.
    """
    names: set[str] = set()
    waiting, seen = {Path(script)}, set()
    while waiting:
        seen |= waiting
        imported = set().union(*map(_imported, waiting)) - names
        names |= imported
        waiting = {path for name in imported if name.startswith("diffprobe") for path in _files(name)} - seen
    return {".".join(parts[:n]) for parts in (name.split(".") for name in names) for n in range(1, len(parts) + 1)}


@cache
def _imported(file: Path) -> set[str]:
    """Dotted names at the top of one file; of `from a import b` both a and a.b, which may be a module."""
    text, names = file.read_text(), set()
    try:
        top = ast.parse(re.split(r"^(?:def|class|@)", text, maxsplit=1, flags=re.MULTILINE)[0])  # the rest takes longer
    except SyntaxError:  # a string has such a line
        top = ast.parse(text)
    for node in top.body:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@cache
def _files(name: str) -> set[Path]:
    """The files that a module of ours may be; those of its packages too, since an import runs them."""
    parts = name.split(".")
    packages = [SOURCES.joinpath(*parts[:n], "__init__.py") for n in range(1, len(parts) + 1)]
    return {file for file in (*packages, SOURCES.joinpath(*parts).with_suffix(".py")) if file.exists()}


class _Server:
    """A server process, seen from Snakemake's main process."""

    def __init__(self, request: dict, packages: tuple[str, ...], folder: Path) -> None:
        self.control, theirs = socket.socketpair()
        self.lock = threading.Lock()
        self.jobs: dict[int, int] = {}  # process ids of jobs by those of their clients
        with theirs:
            if fewer := most_of(packages):
                _server(request, fewer, folder).fork(theirs, packages[len(fewer) :])
            else:
                _start(request, packages, folder, theirs.fileno())

    def fork(self, control: socket.socket, packages: tuple[str, ...]) -> None:
        """Fork a server that loads further packages."""
        file = os.memfd_create("packages")
        os.write(file, marshal.dumps(packages))
        socket.send_fds(self.control, [b"s"], [control.fileno(), file])
        os.close(file)

    def start(self, client: socket.socket, descriptors: list[int]) -> None:
        owner = int.from_bytes(client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 4), sys.byteorder)
        with self.lock:
            socket.send_fds(self.control, [b"j"], [client.fileno(), *descriptors])
            self.jobs[owner] = int.from_bytes(self.control.recv(4), "little")


def most_of(packages: tuple[str, ...]) -> tuple[str, ...]:
    """The longest list of PRELOADED that these packages begin with; empty where there is none."""
    begun = [some for some in PRELOADED.values() if some != packages and some == packages[: len(some)]]
    return max(begun, key=len, default=())


def _start(request: dict, packages: tuple[str, ...], folder: Path, control: int) -> None:
    subprocess.Popen(
        [sys.executable, str(PROGRAMS / "forkserver.py"), str(control), str(folder), *packages],
        cwd=request["folder"],
        env=request["environment"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=[control],
        start_new_session=True,
    )


_servers: dict[tuple, _Server] = {}
_servers_lock = threading.RLock()


def _server(request: dict, packages: tuple[str, ...], folder: Path) -> _Server:
    """The server of a job's packages and environment. One that has died is not replaced: sending to it fails."""
    environment = request["environment"].items()
    key = (packages, frozenset((name, value) for name, value in environment if name not in SHELL_ONLY))
    with _servers_lock:
        if key not in _servers:
            _servers[key] = _Server(request, packages, folder)
        return _servers[key]


def _watch_jobs_in_benchmarks() -> None:
    """Let Snakemake's benchmarks count a job's process, which is no descendant of the job's shell here."""
    import psutil
    from snakemake import benchmark

    class Shell(psutil.Process):
        def children(self, recursive: bool = False) -> list[psutil.Process]:
            processes = super().children(recursive)
            jobs = []
            servers = list(_servers.values())  # another thread may add one meanwhile
            for pid in [server.jobs.get(process.pid) for process in processes for server in servers]:
                with suppress(psutil.NoSuchProcess):
                    jobs += [job := psutil.Process(pid), *job.children(recursive)] if pid else []
            return [*processes, *jobs]

    class Timer(benchmark.BenchmarkTimer):
        def __init__(self, pid: int, *arguments: object, **options: object) -> None:
            super().__init__(pid, *arguments, **options)
            self.main = Shell(pid)

    benchmark.BenchmarkTimer = Timer
