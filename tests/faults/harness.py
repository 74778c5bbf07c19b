"""Run a hostile input in a child process, within limits, and watch what it does to the files around it."""

import os
import pickle
import re
import resource
import runpy
import shlex
import shutil
import signal
import stat
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

from diffprobe.__main__ import main
from diffprobe.runtime import job as jobs

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "workflow" / "scripts"
SECONDS = 40  # of an input; the slowest takes two on a quiet machine
MIB = 1024  # of memory that an input may add to the process
LONGEST = 900  # characters of a line, paths included
# Words of Python that no reader of a refusal should meet.
JARGON = re.compile(
    r"Traceback|\b\w+(?:Error|Exception)\b|'NoneType'|has no attribute|object is not|not subscriptable|unhashable|"
    r"object at 0x|positional argument|unexpected keyword|cannot unpack|unsupported operand|np\.\w+\(|^failed: "
)
REMEDY = re.compile(
    r"\b(allowed|expected|see diffprobe|delete|remove|download|run again|run the workflow|choose|check|correct|set|use|"
    r"name|add|move|rename|create|save|keep|make|write|free|fix|repair|request|change|import|export|mend|restore|leave|"
    r"give|enter|train anew|look at|copy|needs?|must|are read from|provide|class ids are|"
    r"encode|count from|there are|it has|statistics are|images are|labels are|latents are|"
    r"number|close|lower|raise|retry|start|wait|convert|replace|unpack|pass)\b"
)


class Outcome(NamedTuple):
    """How a call ended."""

    status: int | None  # None: ended by a limit
    out: str
    err: str
    crash: str  # the traceback of what was not caught
    grown: int  # MiB of memory that the call added


def bounded(action: Callable[[], object], folder: Path, seconds: int = SECONDS, **environment: str) -> Outcome:
    """Call `action` in a child of this process, in `folder`; the child has everything imported that its parent has."""
    with tempfile.TemporaryDirectory(prefix="outcome") as place:
        files = {name: Path(place, name) for name in ("out", "err", "end")}
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if child == 0:
            _child(action, folder, seconds, files, environment)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        out, err = (files[name].read_bytes().decode(errors="backslashreplace") for name in ("out", "err"))
        try:
            status, crash, grown = pickle.loads(files["end"].read_bytes())
        except (OSError, EOFError):
            return Outcome(None, out, err, f"ended by {signal.strsignal(-status) if status < 0 else status}", 0)
        return Outcome(status, out, err, crash, grown)


def _child(
    action: Callable[[], object], folder: Path, seconds: int, files: Mapping[str, Path], environment: Mapping[str, str]
) -> None:
    """Never returns."""
    end: tuple[int | None, str, int] = (None, "the harness itself failed", 0)
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(seconds)
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(files[name], os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.stdin, sys.stdout, sys.stderr = (
            os.fdopen(number, mode, closefd=False) for number, mode in enumerate("rww")
        )
        os.chdir(folder)
        os.environ.update(environment)
        tempfile.tempdir = None  # found anew, by TMPDIR
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + 4 * MIB * 1024 * 1024
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 28, 1 << 28))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        status, crash = _called(action)
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        end = status, crash, (after - before) // 1024
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        files["end"].write_bytes(pickle.dumps(end))
        os._exit(0)


def _called(action: Callable[[], object]) -> tuple[int, str]:
    """The exit status as a process would have it, and the traceback of an exception."""
    try:
        action()
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0, ""
        print(end.code, file=sys.stderr)
        return 1, ""
    except BaseException:
        return 1, traceback.format_exc()
    return 0, ""


def complaints(outcome: Outcome, *names: str) -> list[str]:
    """What keeps an outcome from being one clear line that has each of `names`."""
    lines = [line for line in outcome.err.splitlines() if line.strip()]
    line = lines[-1] if lines else ""
    jargon = JARGON.search(outcome.err + outcome.out)
    wrong = {
        f"crashed: {outcome.crash.strip().splitlines()[-1] if outcome.crash else ''}": bool(outcome.crash),
        "exit status 0": outcome.status == 0,
        "no exit status": outcome.status is None,
        f"{len(lines)} lines instead of one": len(lines) != 1,
        f"not printable: {line!r}": not line.isprintable(),
        f"{len(line)} characters": len(line) > LONGEST,
        f"Python's own words: {jargon and jargon[0]}": bool(jargon),
        "no remedy": not REMEDY.search(line),
        f"{outcome.grown} MiB of memory": outcome.grown > MIB,
        **{f"does not name {name}": name not in line for name in names},
    }
    return [what for what, holds in wrong.items() if holds]


def one_clear_line(outcome: Outcome, *names: str) -> None:
    """Fail unless the outcome is a refusal in one clear line that has each of `names`."""
    if wrong := complaints(outcome, *names):
        raise AssertionError("\n".join([*wrong, "--- it said:", outcome.err, outcome.out, outcome.crash]))


def complaints_of_lines(outcome: Outcome, *names: str) -> list[str]:
    """As `complaints`, of a refusal with a line for each of a few mistakes; a name may stand in any of them."""
    lines = [line for line in outcome.err.splitlines() if line.strip()]
    if not 1 < len(lines) <= 12:
        return complaints(outcome, *names)
    wrong = [what for line in lines for what in complaints(outcome._replace(err=line))]
    return wrong + [f"does not name {name}" for name in names if name not in outcome.err]


def clear_lines(outcome: Outcome, *names: str) -> None:
    if wrong := complaints_of_lines(outcome, *names):
        raise AssertionError("\n".join([*wrong, "--- it said:", outcome.err, outcome.out, outcome.crash]))


# --- files around it ----------------------------------------------------------------------------------------

Tree = dict[str, tuple[object, ...]]


def tree(folder: Path) -> Tree:
    """Every file, link and folder below; a file by what any write, replacement or touch changes."""
    entries: Tree = {}
    for root, folders, files in os.walk(folder):
        for name in folders + files:
            path = Path(root, name)
            facts = path.lstat()
            own: tuple[object, ...] = (facts.st_mode,)
            if stat.S_ISLNK(facts.st_mode):
                own += (str(path.readlink()),)
            elif not stat.S_ISDIR(facts.st_mode):
                own += facts.st_size, facts.st_mtime_ns, facts.st_ino
            entries[str(path.relative_to(folder))] = own
    return entries


def changes(before: Tree, after: Tree, allowed: Sequence[str] = ()) -> list[str]:
    """What was written, lost or touched, a line each; names that match an allowed pattern are left out."""
    lines = [f"lost {name}" for name in before.keys() - after.keys()]
    lines += [f"written {name}" for name in after.keys() - before.keys()]
    lines += [f"touched {name}" for name in before.keys() & after.keys() if before[name] != after[name]]
    return sorted(line for line in lines if not any(fnmatch(line.split(" ", 1)[1], pattern) for pattern in allowed))


@dataclass
class Sandbox:
    """A folder to work in, beside folders that nothing may change: a home, a temporary one, somebody's files."""

    place: Path
    inputs: int = 0  # hostile inputs so far
    allowed: tuple[str, ...] = field(default=("runtime*", "tmp/*"))

    def __post_init__(self) -> None:
        for name in ("work", "home", "tmp", "outside"):
            (self.place / name).mkdir(parents=True, exist_ok=True)
        (self.place / "outside" / "precious.txt").write_text("of somebody\n")
        (self.place / "work" / "mine.txt").write_text("of the user\n")

    @property
    def work(self) -> Path:
        return self.place / "work"

    def call(self, action: Callable[[], object], seconds: int = SECONDS) -> Outcome:
        environment = {"HOME": str(self.place / "home"), "TMPDIR": str(self.place / "tmp"), "XDG_RUNTIME_DIR": ""}
        environment |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(self.place / "home" / "hub")}
        return bounded(action, self.work, seconds, **environment)

    def run(self, *words: object, seconds: int = SECONDS) -> Outcome:
        """The command line."""
        return self.call(lambda: main([str(word) for word in words]), seconds)

    def job(self, script: str, *words: object, seconds: int = SECONDS) -> Outcome:
        """A job of the workflow, as its rule calls it."""
        return self.call(lambda: run_job(script, [str(word) for word in words]), seconds)

    @contextmanager
    def unchanged(self, *allowed: str) -> Iterator[None]:
        """Fail where anything is written, lost or touched here, except by the names allowed."""
        before = tree(self.place)
        yield
        if lines := changes(before, tree(self.place), (*self.allowed, *allowed)):
            raise AssertionError("\n".join(lines))

    def refuses(
        self, *words: object, names: Sequence[str] = (), allowed: Sequence[str] = (), python: bool = False
    ) -> None:
        """The command line refuses these words in one clear line, and changes nothing; the line may quote Python."""
        self.inputs += 1
        with self.unchanged(*allowed):
            outcome = self.run(*words)
        if python and not outcome.crash:
            outcome = outcome._replace(err=re.sub(r"\w+(Error|Interrupt)\b", "an error", outcome.err))
        one_clear_line(outcome, *names)

    def ends_well(self, *words: object) -> Outcome:
        """What the command line does with input that is not hostile: a test of the test."""
        outcome = self.run(*words)
        assert outcome.status == 0 and not outcome.crash, outcome
        return outcome


def run_job(script: str, argv: list[str]) -> None:
    jobs.run(runpy.run_path(str(SCRIPTS / f"{script}.py"))["main"], argv)


def restore(original: Path, copy: Path) -> None:
    """Make a copy of a folder equal to it again."""
    mine, theirs = tree(original), tree(copy)
    for name in sorted(theirs.keys() - mine.keys(), reverse=True):
        path = copy / name
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    for name, facts in sorted(mine.items()):
        path = copy / name
        if name not in theirs and stat.S_ISDIR(facts[0]):
            path.mkdir()
        elif not stat.S_ISDIR(facts[0]) and facts[:-1] != theirs.get(name, ())[:-1]:  # the inode is its own
            path.unlink(missing_ok=True)
            shutil.copy2(original / name, path, follow_symlinks=False)


def words_of(line: str) -> list[str]:
    """The words of a shell command."""
    return shlex.split(line)
