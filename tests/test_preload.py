"""Jobs that start from the fork server are what a fresh start would have made of them."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from kills import ROOT, copy_project, run
from toy_workflow import TINY, configure

from diffprobe.runtime import preload
from diffprobe.runtime.files import sha256

LITTLE = ("numpy", "multiprocessing")
LESS = LITTLE[:1]
FACTS = """
import json, multiprocessing, os, signal, sys, threading
import numpy
standard = [os.isatty(n) for n in range(3)]
files = {name: getattr(module, "__file__", None) or "" for name, module in list(sys.modules.items())}
own = {name: file for name, file in files.items() if "fork" in file or "script" in file or "facts" in file}
facts = {
    "argv": sys.argv, "orig": sys.orig_argv, "path": sys.path, "flags": str(sys.flags), "name": __name__,
    "file": __file__, "main": sys.modules["__main__"].__dict__ is globals(), "own": sorted(own),
    "folder": os.getcwd(), "umask": os.umask(0), "environment": dict(os.environ), "standard": standard,
    "stdin": sys.stdin.read(), "buffered": [sys.stdout.line_buffering, sys.stdout.encoding, sys.stderr.line_buffering],
    "ignored": [str(n) for n in signal.valid_signals() if signal.getsignal(n) == signal.SIG_IGN],
    "threads": [threading.active_count(), len(os.listdir("/proc/self/task"))],
    "files": sorted(os.listdir("/proc/self/fd"))[:-1],
}
print(json.dumps(facts))
print("to stderr", file=sys.stderr)
numpy.save(sys.argv[2], numpy.random.random(4))
"""


@pytest.fixture(scope="module")
def start() -> Iterator[str]:
    """What stands between interpreter and script; little is preloaded, to save time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preload, "PRELOADED", {LITTLE: LITTLE, LESS: LESS})
        patch.delenv("DIFFPROBE_PRELOAD", raising=False)
        arguments = preload.listen()
        assert arguments
        yield arguments


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        (tmp_path / "script.py").write_text(f"import multiprocessing, numpy, os, signal, sys, time\n{text}\n")
        return tmp_path / "script.py"

    return write


def command(start: str, script: Path, *more: object) -> list[str]:
    return [sys.executable, *start.split(), str(script), *map(str, more)]


def hear_signals() -> None:
    """Signals as in a terminal. Tests that run in the background or under nohup inherit some of them ignored."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def job(start: str, script: Path, **options: object) -> subprocess.Popen:
    """A job that says when it has begun."""
    process = subprocess.Popen(
        command(start, script), stdout=subprocess.PIPE, text=True, preexec_fn=hear_signals, **options
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    return process


def ended(pid: int) -> bool:
    """Whether a process is gone within ten seconds."""
    for _ in range(200):
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("safe", ["1", None])
def test_a_job_sees_what_a_fresh_start_sees(start: str, tmp_path: Path, safe: str | None) -> None:
    (tmp_path / "facts.py").write_text(FACTS)
    (tmp_path / "elsewhere").mkdir()
    environment = dict(os.environ) | {"OMP_NUM_THREADS": "1", "MINE": "ünï\n"}
    environment |= {"PYTHONSAFEPATH": safe} if safe else {}
    facts, draws = [], []
    for how in ("", start, start):
        process = subprocess.run(
            command(how, tmp_path / "facts.py", "a b", tmp_path / "draws.npy", '{"c": "ü"}'),
            cwd=tmp_path / "elsewhere",
            env=environment,
            umask=0o027,
            input="some input",
            capture_output=True,
            text=True,
        )
        assert (process.returncode, process.stderr) == (0, "to stderr\n")
        facts.append(json.loads(process.stdout))
        draws.append((tmp_path / "draws.npy").read_bytes())
    assert facts[0] == facts[1] == facts[2]
    assert facts[0]["own"] == ["__main__", "__mp_main__"] and facts[0]["umask"] == 0o027
    assert len(set(draws)) == 3  # numpy's global generator


@pytest.mark.parametrize(
    "text",
    [
        "sys.exit(3)",
        "sys.exit('a line')",
        "raise ValueError(1)",
        "os._exit(7)",
        "os.kill(os.getpid(), signal.SIGKILL)",
        "os.kill(os.getpid(), signal.SIGTERM)",
        "raise KeyboardInterrupt",
        "syntax error",
    ],
)
def test_a_job_ends_as_a_fresh_start_ends(start: str, script: Callable[[str], Path], text: str) -> None:
    ends = [subprocess.run(command(how, script(text)), capture_output=True, text=True) for how in ("", start)]
    assert ends[0].returncode == ends[1].returncode != 0
    last = [end.stderr.splitlines()[-1:] for end in ends]
    assert last[0] == last[1]


def test_what_a_job_does_last_is_done(start: str, script: Callable[[str], Path]) -> None:
    """Threads are waited for, exit functions called and output written, though its memory is not freed."""
    thread = "threading.Thread(target=lambda: (time.sleep(0.2), print('thread'))).start()"
    text = f"import atexit, ctypes, threading\natexit.register(print, 'exit')\n{thread}\n"
    text += "ctypes.CDLL(None).printf(b'library ')\nsys.stdout.write('script ')\nsys.exit({})"
    for code in (None, 0, 3, -1, 256, True):
        ends = [subprocess.run(command(how, script(text.format(code))), capture_output=True) for how in ("", start)]
        assert ends[0].stdout == ends[1].stdout
        assert sorted(ends[0].stdout.split()) == [b"exit", b"library", b"script", b"thread"]
        assert ends[0].returncode == ends[1].returncode and ends[0].stderr == ends[1].stderr == b""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_reach_the_job_once(start: str, script: Callable[[str], Path], number: signal.Signals) -> None:
    count = f"signal.signal({number:d}, lambda *_: seen.append(1))"
    wait = "while not seen: time.sleep(0.01)\ntime.sleep(0.2); sys.exit(40 + len(seen))"
    handled = job(start, script(f"seen = []\n{count}\nprint('begun', flush=True)\n{wait}"))
    handled.send_signal(number)
    assert handled.wait(10) == 41
    default = job(start, script("print('begun', flush=True)\ntime.sleep(60)"))
    default.send_signal(number)
    assert default.wait(10) == -number


def test_a_stopped_job_stands_still(start: str, script: Callable[[str], Path]) -> None:
    process = job(start, script("print('begun', flush=True)\nfor n in range(9999): print(n, flush=True, end=' ')"))
    process.send_signal(signal.SIGTSTP)
    while psutil.Process(process.pid).status() != psutil.STATUS_STOPPED:
        time.sleep(0.01)
    process.send_signal(signal.SIGCONT)
    assert process.communicate(timeout=10)[0].endswith("9998 ") and process.returncode == 0


def test_a_killed_client_takes_its_job_along(start: str, script: Callable[[str], Path], tmp_path: Path) -> None:
    text = f"open('{tmp_path}/pid', 'w').write(str(os.getpid()))\nprint('begun', flush=True)\ntime.sleep(60)"
    process = job(start, script(text))
    pid = int((tmp_path / "pid").read_text())
    assert pid != process.pid
    process.kill()
    assert ended(pid)


def test_a_server_has_one_environment_and_its_death_is_the_death_of_its_jobs(
    start: str, script: Callable[[str], Path], tmp_path: Path
) -> None:
    def parent(**environment: str) -> int:
        text = script("print(os.getppid())")
        return int(subprocess.check_output(command(start, text), env=os.environ | environment))

    servers = [parent(MINE=mine, SHLVL=level) for mine, level in (("1", "1"), ("1", "2"), ("2", "1"))]
    assert servers[0] == servers[1] != servers[2]
    text = script("print('begun', flush=True)\ntime.sleep(60)")
    process = job(start, text, env=os.environ | {"MINE": "2", "SHLVL": "1"})
    os.kill(servers[2], signal.SIGKILL)
    assert process.wait(10) == -signal.SIGKILL
    assert parent(MINE="2", SHLVL="1") == os.getpid()  # the ordinary start
    assert parent(MINE="1", SHLVL="1") == servers[0]


def test_only_scripts_that_load_all_that_is_preloaded_start_there(start: str, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("import os\ndef later():\n    import numpy\nprint(os.getppid())")
    assert int(subprocess.check_output(command(start, tmp_path / "script.py"))) == os.getpid()


def test_a_server_of_more_packages_is_forked_from_one_of_fewer(start: str, tmp_path: Path) -> None:
    environment = os.environ | {"MINE": "3"}
    servers = []
    for more in (True, False, True):
        modules = "multiprocessing, numpy, os" if more else "numpy, os"
        script = tmp_path / f"script_{more}.py"
        script.write_text(f"import {modules}, sys\nprint(os.getppid(), {LITTLE[1]!r} in sys.modules)")
        said = subprocess.check_output(command(start, script), env=environment, text=True).split()
        servers.append(int(said[0]))
        assert said[1] == str(more)
    assert servers[0] == servers[2] and psutil.Process(servers[0]).ppid() == servers[1]


def test_no_server_is_an_ordinary_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "script.py").write_text("import os, sys\nprint(os.getppid())\nsys.exit(3)")
    client = [sys.executable, "-IS", ROOT / "src/diffprobe/runtime/forkclient.py", tmp_path / "none"]
    process = subprocess.run([*client, tmp_path / "script.py"], capture_output=True, text=True)
    assert (int(process.stdout), process.returncode) == (os.getpid(), 3)
    monkeypatch.setenv("DIFFPROBE_PRELOAD", "0")
    assert preload.listen() == ""


def test_threads_are_waited_for_when_the_job_has_let_go_of_its_objects(
    start: str, script: Callable[[str], Path]
) -> None:
    """As after any script: the end of a loader tells its threads to stop."""
    loader = "class Loader:\n    def __del__(self): print('let go', flush=True); stop.set()\n"
    threads = "import threading\nstop = threading.Event()\n" + loader
    threads += "def main():\n    loader = Loader()\n"
    threads += "    threading.Thread(target=lambda: print(stop.wait(20), flush=True)).start()\n    sys.exit(3)\nmain()"
    process = subprocess.run(command(start, script(threads)), stdout=subprocess.PIPE, text=True)
    assert (process.stdout, process.returncode) == ("let go\nTrue\n", 3)


def test_a_client_that_went_before_its_job_began_is_no_hindrance(start: str, script: Callable[[str], Path]) -> None:
    environment = os.environ | {"MINE": "4"}  # a server of its own
    path = script("print('ran', flush=True)")
    gone = "import socket, sys, time; sys.path.insert(0, sys.argv[1]); import forkclient; "
    gone += "client = socket.socket(socket.AF_UNIX); client.connect(sys.argv[2]); client.shutdown(socket.SHUT_RD); "
    gone += "socket.send_fds(client, [b'j'], [forkclient.request([sys.argv[3]]), 0, 1, 2]); time.sleep(0.5)"
    programs, address = preload.PROGRAMS, shlex.split(start)[-1]
    subprocess.run([sys.executable, "-c", gone, programs, address, path], env=environment, check=True)
    assert subprocess.check_output(command(start, path), env=environment, text=True, timeout=60) == "ran\n"


def test_a_server_that_cannot_fork_leaves_its_jobs_alone(start: str, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(  # as with a limit on processes
        "import os\nusual = os.fork\ndef fork():\n"
        f"    if os.path.exists('{tmp_path}/limit'): raise BlockingIOError(11, 'Resource temporarily unavailable')\n"
        "    return usual()\nos.fork = fork\n"
    )
    (tmp_path / "script.py").write_text(
        "import numpy, os, sys, time\nprint('begun', flush=True)\n"
        f"while not os.path.exists('{tmp_path}/go'): time.sleep(0.01)\nprint(os.getppid())\n"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    first = job(start, tmp_path / "script.py", env=environment)
    (tmp_path / "limit").touch()
    second = job(start, tmp_path / "script.py", env=environment)
    (tmp_path / "go").touch()
    servers = [int(process.communicate(timeout=60)[0]) for process in (first, second)]
    assert [process.returncode for process in (first, second)] == [0, 0]
    assert servers[0] != servers[1] == os.getpid()  # the ordinary start


def test_a_killed_main_process_leaves_orphans_that_end_well(script: Callable[[str], Path], tmp_path: Path) -> None:
    listening = f"from diffprobe.runtime import preload; preload.PRELOADED = {{{LITTLE}: {LITTLE}}}; "
    listening += "print(preload.listen(), flush=True); import time; time.sleep(60)"
    environment = {key: value for key, value in os.environ.items() if key != "DIFFPROBE_PRELOAD"}
    main = subprocess.Popen([sys.executable, "-c", listening], stdout=subprocess.PIPE, text=True, env=environment)
    assert main.stdout is not None
    start = main.stdout.readline().strip()
    waits = f"print('begun', flush=True)\nwhile not os.path.exists('{tmp_path}/go'): time.sleep(0.01)"
    process = job(start, script(f"{waits}\nprint(os.getppid())\nsys.exit(3)"))
    main.kill()
    main.wait()
    time.sleep(0.2)
    (tmp_path / "go").touch()
    server = int(process.communicate(timeout=10)[0])
    assert process.returncode == 3
    assert ended(server)
    assert not Path(start.split()[-1]).parent.exists()


def test_a_training_stops_goes_on_and_leaves_the_receipt_of_a_fresh_start(tmp_path: Path) -> None:
    """SIGTERM saves; the files are the same, and the receipts but for times and memory, which is not more."""
    config = json.loads(json.dumps(TINY))
    config["experiments"]["tiny"]["train"]["checkpoints"] = [12]
    project = copy_project(tmp_path / "project")
    configure(project, config)
    store, target = "results/data/digits/images.h5", "results/runs/tiny/checkpoints/12/ema.safetensors"
    prepared = run(project, store)
    assert prepared.returncode == 0, prepared.stderr
    printed = run(project, "-n", "-p", target)
    line = re.search(r"job ('.*') train (.*)", printed.stdout + printed.stderr)
    assert line, printed.stdout + printed.stderr
    source = os.environ | {"PYTHONSAFEPATH": "1", "PYTHONPATH": str(project / "src"), "DIFFPROBE_PRELOAD": "1"}
    listening = "from diffprobe.runtime import preload; print(preload.listen(), flush=True); input()"
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    main = subprocess.Popen([sys.executable, "-c", listening], env=source, **streams)
    assert main.stdout is not None
    start = main.stdout.readline().strip()

    def training(how: str) -> subprocess.Popen:
        text = f"exec {sys.executable} {how} workflow/scripts/train.py {line[1]} {line[2]}"
        return subprocess.Popen(["bash", "-c", text], cwd=project, env=source, stderr=subprocess.PIPE, text=True)

    def finish(how: str) -> tuple[dict[str, str], dict]:
        last = training(how)
        said = last.communicate()[1]
        assert last.returncode == 0, said
        folder = (project / target).parent
        weights = {file.name: sha256(file) for file in folder.glob("*.safetensors")}
        return weights, json.loads((folder / "receipt.json").read_text())

    weights, receipt = finish("")
    for remade in (False, True):
        shutil.rmtree(project / "results/runs")
        log = project / "results/logs/pretrain/tiny.12.log"
        log.unlink()
        if remade:
            first = training(start)
            while not (log.exists() and "training" in log.read_text()):
                assert first.poll() is None
                time.sleep(0.02)
            first.send_signal(signal.SIGTERM)
            assert first.wait(60) == 128 + signal.SIGTERM
        again = finish(start)
        assert again[0] == weights
        varying = {"checksum", "finished", "seconds", "peak_memory_mib", "images_per_second", "mfu", "from_step"}
        assert without(again[1], varying) == without(receipt, varying)
        assert again[1]["peak_memory_mib"] < 1.05 * receipt["peak_memory_mib"]
        assert (again[1]["from_step"] > 0) == remade
    main.communicate("\n")


def without(receipt: dict, names: set[str]) -> dict:
    return {name: value for name, value in receipt.items() if name not in names}
