"""Kill the workflow in every way that happens to people, give the plain command again each time, and compare.

    python tests/kills.py FOLDER --kills 10      the whole demo, in FOLDER/undisturbed and FOLDER/killed

The end-to-end test uses the same functions on a tiny config.
"""

import argparse
import hashlib
import os
import pty
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
PARTS = ("Snakefile", "rules", "workflow", "src", "config", "profiles", "envs")
BUILT_FROM = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE")  # a wheel, besides these
KINDS = ("job", "group", "snakemake", "terminal")
COMPARED = ("results.csv", "summary.csv", "**/ema.safetensors", "**/checkpoints/*/stats.jsonl", "**/samples/**/*.npz")
COMPARED += ("**/samples/**/images/c/**/0", "**/runs/*/generation/**/*[!t].json", "**/runs/*/nearest/**/*.npz")
COMPARED += ("**/grid.csv", "**/images.h5", "**/moments/c/**/0", "**/reconstruction.json")


def copy_project(folder: Path) -> Path:
    """A copy of the workflow to run in, as a clone would be."""
    passing = shutil.ignore_patterns("*.pyc.*")  # while another process writes it
    folder.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        if (source := ROOT / part).is_dir():
            shutil.copytree(source, folder / part, ignore=passing)
        else:
            shutil.copy(source, folder / part)
    return folder


def plain(*more: str) -> list[str]:
    """The plain command."""
    return [sys.executable, "-m", "snakemake", "--cores", "2", *more]


def run(project: Path, *more: str) -> subprocess.CompletedProcess:
    return subprocess.run(plain(*more), cwd=project, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def start(project: Path, *more: str) -> tuple[psutil.Process, int]:
    """Start the plain command in a terminal of its own: the process, and our end of the terminal."""
    pid, terminal = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored, and so would a closed terminal be
        os.chdir(project)
        log = os.open("run.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.execv(sys.executable, plain(*more))
    return psutil.Process(pid), terminal


def jobs_of(project: Path) -> list[psutil.Process]:
    """The job processes (scripts) that work in a project, orphans included."""
    jobs = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        line = process.info["cmdline"] or []
        python = bool(line) and Path(line[0]).name.startswith("python")
        if python and process.info["cwd"] == str(project) and "workflow/scripts" in " ".join(line[1:5]):
            jobs.append(process)
    return jobs


def kill(kind: str, main: psutil.Process, jobs: list[psutil.Process], terminal: int) -> None:
    """Kill in one way."""
    if kind == "job":
        jobs[0].kill()
    elif kind == "group":
        os.killpg(os.getpgid(main.pid), signal.SIGKILL)
    elif kind == "snakemake":
        main.kill()  # its jobs live on as orphans
    else:
        os.close(terminal)  # hangs up on the whole session


def disturbed(project: Path, kinds: list[str], longest: float, seed: int) -> list[str]:
    """Start the plain command again and again, killing it in each of these ways, a random while after its first job has
    begun and at most `longest` seconds.

    Returns a line for each kill. A kill that comes where no job runs is tried again.
    """
    chance, done = random.Random(seed), []
    while len(done) < len(kinds):
        kind = kinds[len(done)]
        process, terminal = start(project)
        wait_for_a_job(project, process)
        wait = chance.uniform(0, longest)
        try:
            process.wait(wait)
            return done  # the work is done
        except psutil.TimeoutExpired:
            pass
        jobs = jobs_of(project)
        names = [Path(line[line.index("--log") + 1]).stem for line in (job.info["cmdline"] for job in jobs)]
        if not jobs:
            main_kill(process, terminal)
            continue
        kill(kind, process, jobs, terminal)
        process.wait()
        if kind != "terminal":
            os.close(terminal)
        done.append(f"kill {len(done) + 1}: {kind} after {wait:.1f} s, running: {', '.join(names)}")
        print(done[-1], flush=True)
    return done


def wait_for_a_job(project: Path, process: psutil.Process) -> None:
    """Until a job of this very start runs, or it ends; an orphan of the one before does not count."""
    with suppress(psutil.NoSuchProcess):
        while process.status() != psutil.STATUS_ZOMBIE:
            own = {child.pid for child in process.children(recursive=True)}
            if any(job.pid in own for job in jobs_of(project)):
                break
            time.sleep(0.1)


def main_kill(process: psutil.Process, terminal: int) -> None:
    """Stop a start that had come to no job yet, to try again."""
    process.kill()
    process.wait()
    os.close(terminal)


def hashes(project: Path) -> dict[str, str]:
    """Content hashes of what must not depend on kills."""
    files = {path for pattern in COMPARED for path in (project / "results").glob(pattern)}
    files = sorted(path for path in files if path.is_file())
    return {str(path.relative_to(project)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--longest", type=float, default=60, help="seconds from the first job to a kill, at most")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    undisturbed, killed = copy_project(folder / "undisturbed"), copy_project(folder / "killed")
    begun = time.time()
    print(f"undisturbed: exit status {run(undisturbed).returncode}, {time.time() - begun:.0f} s", flush=True)
    kinds = [KINDS[i % len(KINDS)] for i in range(arguments.kills)]
    done = disturbed(killed, kinds, arguments.longest, arguments.seed)
    last = run(killed)
    print(f"the plain command at the end: exit status {last.returncode}")
    a, b = hashes(undisturbed), hashes(killed)
    different = [name for name in a.keys() | b.keys() if a.get(name) != b.get(name)]
    print(f"{len(done)} kills; {len(a)} files compared; differing: {different or 'none'}")
    print((killed / "results" / "results.csv").read_text())
    sys.exit(bool(last.returncode or different or len(done) < arguments.kills))


if __name__ == "__main__":
    main()
