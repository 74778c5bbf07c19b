"""Atomic files, locks, leases, receipts: what they promise when processes die or meet."""

import errno
import importlib
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

from diffprobe.runtime.job import Job, run

import pytest

from diffprobe.runtime import receipts
from diffprobe.runtime.command import Interrupted, interruptible
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import atomic, canonical, clear_partials, write_json
from diffprobe.runtime.job_call import call_words


def python(code: str, **environment: str) -> subprocess.Popen:
    """A process of its own that runs some lines and says when it is ready."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def test_a_failed_write_keeps_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_json(path, {"old": 1})
    with pytest.raises(RuntimeError), atomic(path) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert json.loads(path.read_text()) == {"old": 1}
    with pytest.raises(OSError, match=r"result\.json"), atomic(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # as a write says it
    assert list(tmp_path.iterdir()) == [path]
    with atomic(tmp_path / "two\nlines") as partial:
        partial.write_text("whole")
    assert (tmp_path / "two\nlines").read_text() == "whole"


def test_what_a_killed_writer_left_is_cleared(tmp_path: Path) -> None:
    writer = python(
        f"""
        import time
        from diffprobe.runtime.files import atomic
        with atomic({str(tmp_path / "a.npz")!r}) as partial:
            partial.write_text("half")
            print("ready", flush=True)
            time.sleep(60)
        """
    )
    assert writer.stdout.readline() == "ready\n"
    writer.kill()
    writer.wait()
    (tmp_path / "b.npz").write_text("another")
    assert len(list(tmp_path.iterdir())) == 2
    clear_partials(tmp_path / "a.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["b.npz"]


def job_argv(folder: Path) -> list[str]:
    (folder / "logs" / "rule").mkdir(parents=True)
    return ["{}", "--out", f"result={folder / 'result.json'}", "--log", str(folder / "logs" / "rule" / "x.log")]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.ENOSPC, "full"), r"error: .*result\.json: cannot be written \(No space .* GB free\); free some"),
        (PermissionError(errno.EACCES, "no", "a.png"), "error: a.png: Permission denied; fix that and run again"),
        (UserError("mend it"), "error: mend it"),
        (KeyError("bug"), r"failed: KeyError: 'bug' \(traceback in .*x\.log\)"),
    ],
)
@pytest.mark.parametrize("progress", [True, False])
def test_a_failed_job_names_its_cause_in_one_line(
    error: Exception, line: str, progress: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where its progress file cannot be written any more."""

    def main(job: Job) -> None:
        if not progress:
            job.progress.path = tmp_path / "logs/rule/x.log/no-folder"
        raise error

    with pytest.raises(SystemExit) as stop:
        run(main, job_argv(tmp_path))
    assert stop.value.code == 1
    assert re.fullmatch(f"rule.x: {line}.*\n", capsys.readouterr().err)
    state = json.loads((tmp_path / "logs/rule/x.json").read_text())["state"]
    assert state == ("failed" if progress else "running")


def test_an_interrupted_job_is_stopped(tmp_path: Path) -> None:
    def main(job: Job) -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as stop:
        run(main, job_argv(tmp_path))
    assert stop.value.code == 130
    assert json.loads((tmp_path / "logs/rule/x.json").read_text())["state"] == "stopped"


SCRIPT = """
from diffprobe.runtime.job import run
import sys, time

def ready(job=None):
    print("ready", flush=True)
    time.sleep(60)

if sys.argv[1] == '"importing"':
    ready()
run(ready)
"""


def start_script(folder: Path, config: str) -> subprocess.Popen[str]:
    """A job that says when it is ready to be stopped, while its script still imports or in its main function."""
    script = folder / "workflow/scripts/slow.py"
    script.parent.mkdir(parents=True)
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), json.dumps(config), *job_argv(folder)[1:]]
    pipe = subprocess.PIPE
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1] / "src")}
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("moment", ["importing", "loading"])
def test_a_job_stopped_before_its_loop_says_so_in_a_line(moment: str, number: signal.Signals, tmp_path: Path) -> None:
    job = start_script(tmp_path, moment)
    assert job.stdout.readline() == "ready\n"
    job.send_signal(number)
    assert job.wait(20) == 128 + number
    assert job.stderr.read() == f"rule.x: stopped by {number.name}\n"
    assert json.loads((tmp_path / "logs/rule/x.json").read_text())["state"] == "stopped"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_job_stopped_while_it_waits_for_an_orphan_leaves_its_state(number: signal.Signals, tmp_path: Path) -> None:
    orphan = start_script(tmp_path, "loading")
    orphan.stdout.readline()
    before = (tmp_path / "logs/rule/x.json").read_bytes()
    job = subprocess.Popen(orphan.args, stderr=subprocess.PIPE, text=True, env=os.environ)
    assert "waits for process" in job.stderr.readline()
    job.send_signal(number)
    assert job.wait(20) == 128 + number
    assert job.stderr.read() == ""
    assert (tmp_path / "logs/rule/x.json").read_bytes() == before
    orphan.kill()
    orphan.wait()


def test_an_interrupt_waits_until_modules_are_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception within an extension's initialiser would abort the process; torch's take two seconds."""
    source = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n"
    (tmp_path / "interrupted_module.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGALRM)]
    with pytest.raises(Interrupted), interruptible():
        importlib.import_module("interrupted_module")
        time.sleep(10)
    assert "interrupted_module" in sys.modules  # which a failed import would have left
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGALRM)] == handlers


def test_a_full_disk_ends_a_job_in_one_line_whatever_fails_first(tmp_path: Path) -> None:
    """Log, progress and outputs lie on it. The largest size of a file stands for the disk's."""
    out = tmp_path / "w.safetensors"
    writers = {
        "safetensors": f"from safetensors.numpy import save_file; save_file({{'a': numbers}}, {str(out)!r})",
        "numpy": f"numpy.save({str(out)!r}, numbers)",
        "the log": f"print('x' * 9999, file=job.log); open({str(out)!r}, 'wb').write(numbers)",
    }
    for name, writer in writers.items():
        code = f"""
        import resource, numpy
        from diffprobe.runtime.job import run
        numbers = numpy.zeros(10_000)

        def main(job):
            resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))
            job.progress.start(10, "images")
            job.progress.update(1)
            {writer}

        run(main, ["{{}}", "--out", "weights={out}", "--log", "{tmp_path}/logs/rule/{name}.log"])
        """
        command = [sys.executable, "-c", textwrap.dedent(code)]
        job = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
        said = job.stderr
        lines = [line for line in said.splitlines() if "images/s" not in line]
        assert job.returncode == 1
        assert len(lines) == 1, said
        assert f"error: {out}: cannot be written (" in lines[0]


def test_a_job_of_ten_thousand_inputs_starts_from_a_shell(tmp_path: Path) -> None:
    """`bash -c` takes 128 KiB."""
    count = 10_000
    inputs = {f"results.{i}": f"results/runs/run of {i % 100}/generation/{i}/heun18.json" for i in range(count)}
    words = call_words(inputs, {"table": tmp_path / "a b.csv"}, {"images": 3, "absent": None})
    script = tmp_path / "count.py"
    script.write_text(
        "from diffprobe.runtime.job import run\n"
        "run(lambda job: job.output('table').write_text(f'{job.group(\"results\")} {job.options}'))"
    )
    line = f"{sys.executable} {script} '{{}}' {words} --log {tmp_path}/logs/x/all.log"
    subprocess.run(["bash", "-c", line], check=True)
    assert (tmp_path / "a b.csv").read_text() == f"{list(map(Path, inputs.values()))} {{'images': '3'}}"


def test_of_few_inputs_a_command_shows_each() -> None:
    words = call_words({"a": "b c", "none": []}, {}, {"images": 3})
    assert words == "--in 'a=b c' --with images=3"


def test_a_job_without_a_lock_ends_in_one_line(tmp_path: Path) -> None:
    argv = job_argv(tmp_path)
    (tmp_path / "dear").write_text("dear")
    (tmp_path / "logs/rule/x.lock").symlink_to(tmp_path / "dear")
    with pytest.raises(SystemExit, match=r"^rule.x: error: .*x\.lock: is a link .*; remove it and run again$"):
        run(lambda job: None, argv)
    assert (tmp_path / "dear").read_text() == "dear"


def test_a_source_that_is_being_edited_or_gone_has_no_hash(tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("def f(:")
    assert receipts.present_hash(broken) is None
    assert receipts.present_hash(tmp_path / "gone.py") is None


def test_equal_configs_have_equal_text() -> None:
    assert canonical({"b": 1, "a": [1.0, "é"]}) == canonical({"a": [1.0, "é"], "b": 1})
    with pytest.raises(ValueError):
        canonical({"a": float("nan")})
