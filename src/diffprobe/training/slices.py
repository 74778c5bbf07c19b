"""A slice: training from one checkpoint to the next, resumable after any kill.

Under the run's folder, besides the declared outputs:

    states/{kimg}.safetensors     the training state of a finished checkpoint (kept or pruned, a setting)
    scratch/autosave.safetensors  where the running slice was last saved
    scratch/lock                  held while a process trains in this folder
    stats.jsonl                   the history so far, renewed while training runs

None of these is a declared output: Snakemake deletes those before a job starts, and with them a resume.
"""

import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from diffprobe.data.batch import Feed
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import clear_partials, recorded, write_jsonl
from diffprobe.runtime.receipts import RECEIPT
from diffprobe.runtime.results import read_lines
from diffprobe.training import state as states
from diffprobe.training.events import Sink
from diffprobe.training.loop import DivergedError, check_finite, train
from diffprobe.training.optimizers import Options
from diffprobe.training.state import Row, State
from diffprobe.training.tasks.base import Task
from diffprobe.training.world import World

STATS_SECONDS = 5.0  # how often stats.jsonl is renewed
STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True)
class Slice:
    """One slice of a run, from step `start` to step `stop`, where checkpoint `kimg` is written.

    A finished state of this very slice is used again only where identity, code and parent agree; an earlier one where
    the identity does.
    """

    run: Path
    kimg: int
    start: int
    stop: int
    identity: str  # a hash of config and data
    code: str  # a hash of the loaded code
    parent: str  # sha256 of the checkpoint before; empty at the start
    before: Path | None = None  # that checkpoint
    also: tuple[str, ...] = ()  # other identities of this config and data, whose states are continued
    superseded: tuple[str, ...] = ()  # the identities that older code gave to this config and data

    @property
    def autosave(self) -> Path:
        return self.run / "scratch" / "autosave.safetensors"

    def state(self, kimg: int) -> Path:
        return self.run / "states" / f"{kimg}.safetensors"

    def states(self) -> list[Path]:
        """The finished states that are kept; half-written ones have a dot in front."""
        return [path for path in (self.run / "states").glob("*.safetensors") if path.stem.isdigit()]

    @property
    def tags(self) -> dict[str, str]:
        return {"identity": self.identity, "code": self.code, "parent": self.parent}


def best_start(part: Slice) -> Path | None:
    """The saved state nearest to the slice's end that it may start from; None: start from nothing."""
    usable: list[tuple[int, Path]] = []  # (step, path)
    for path in [*part.states(), part.autosave]:
        meta = states.peek(path)
        if meta is None or meta.get("identity") not in (part.identity, *part.also) or meta["step"] > part.stop:
            continue
        # Within the slice a state descends from the checkpoint before, which may have been remade since.
        if meta["step"] > part.start and meta.get("parent") != part.parent:
            continue
        # Its own finished state would end the slice at once: only where this code would train the same.
        if path == part.state(part.kimg) and meta.get("code") != part.code:
            continue
        usable.append((meta["step"], path))
    return max(usable, default=(0, None), key=lambda pair: pair[0])[1]


def refuse_superseded(part: Slice) -> None:
    """Raise UserError for a saved state of this run by code whose results differ from the present one's.

    To train anew in its place would mix the checkpoints of two runs in one folder, and cost days without a word.
    """
    for path in [*part.states(), part.autosave]:
        meta = states.peek(path)
        if meta is not None and meta.get("identity") in part.superseded:
            raise UserError(
                f"{path}: trained with the random draws, dropout or augmentation of an older version, which cannot be "
                f"continued; move {part.run} away to train anew (its finished checkpoints stay usable)"
            )


def run_slice(
    part: Slice,
    task: Task,
    stream: Feed,
    options: Options,
    state: State,
    autosave_seconds: float,
    report: Callable[[State], None],
    world: World | None = None,
    sinks: Sequence[Sink] = (),
) -> list[Row]:
    """Train the slice and return its rows of history. The caller holds the run's lock; `report` sees every step,
    `sinks` the history whenever stats.jsonl is renewed.

    Safe to interrupt: on SIGTERM, SIGINT or SIGHUP to any process of the world the state is saved, then all exit with
    128 + the signal. Raises DivergedError, which names the last good state, when the loss becomes NaN or infinite, and
    UserError for a state that the present code must not continue.
    """
    world = world or World()
    refuse_superseded(part)
    if world.writes:
        for path in (part.autosave, part.state(part.kimg)):
            clear_partials(path)  # their writers are dead: this process holds the run's lock
    world.wait()
    # Every process restores the same file: weights are never sent, and all begin at the same step.
    begin = best_start(part)
    if begin is not None:
        states.restore(begin, state)
    earlier = earlier_rows(part, min(state.step, part.start))
    state.history = [row for row in state.history if row["step"] > part.start]
    next_save = time.monotonic() + autosave_seconds
    next_stats = 0.0  # at the first step, so that whoever watches sees the run at once

    def write_stats() -> None:
        if world.writes:
            write_jsonl(part.run / "stats.jsonl", [*earlier, *state.history], durable=False)
            for sink in sinks:
                sink.write([*earlier, *state.history])

    with stop_signals() as stopped:

        def after_step(state: State) -> None:
            nonlocal next_save, next_stats
            now = time.monotonic()
            stopping = world.any(bool(stopped))  # a signal may have reached one process only
            # First of all: with the terminal closed, any output below may fail.
            if world.writes and (stopping or now >= next_save):
                check_finite(state, options)  # a state with a bad loss must never replace a good one
                states.save(part.autosave, state, part.tags)
                next_save = time.monotonic() + autosave_seconds  # from its end on: saving may be slow
            if stopping:
                world.wait()  # torchrun kills all processes once one has ended, the one that saves too
                sys.exit(128 + (stopped or [signal.SIGTERM])[0])
            if now >= next_stats:
                write_stats()
                next_stats = now + STATS_SECONDS
            report(state)

        report(state)
        try:
            # In two calls, since a row of the history ends where the slice before ended, as when that was trained.
            for stop in (part.start, part.stop):
                train(task, stream, options, state, stop, after_step, world)
        except DivergedError as error:
            write_stats()  # the losses before it are what one looks at
            raise DivergedError(f"{error}; {last_good(part)}; lower train.lr or set train.clip") from None
    if world.writes:
        states.save(part.state(part.kimg), state, part.tags)
    write_stats()
    world.wait()
    return [row for row in state.history if row["step"] > part.start]


def last_good(part: Slice) -> str:
    """Where the last good state is, for a user who must change the options."""
    path = best_start(part)
    meta = states.peek(path) if path else None
    if meta is None:
        return "no state was saved before"
    return f"the last good state is of step {meta['step']} ({path}), and training with other options starts anew"


def earlier_rows(part: Slice, step: int) -> list[Row]:
    """The history up to `step`, from the slices that this one goes on from; others may be of an earlier config."""
    rows: list[Row] = []
    folder = part.before.parent if part.before else None
    while folder and (folder / "stats.jsonl").exists():
        rows = [row for row in read_lines(folder / "stats.jsonl") if row["step"] <= step] + rows
        inputs = recorded(folder / RECEIPT, "inputs") or {}  # without a receipt it ends here
        folder = folder.with_name(Path(inputs["before"]["path"]).parent.name) if "before" in inputs else None
    return rows


def tidy(part: Slice, keep: str) -> None:
    """Once the slice's outputs are written: delete its autosave and, where `keep` is `last`, earlier states."""
    part.autosave.unlink(missing_ok=True)
    if keep == "last":
        for path in part.states():
            if int(path.stem) < part.kimg:
                path.unlink()


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """A list that holds the signals to stop that have arrived. Ignored signals, as under nohup, stay ignored."""
    arrived: list[int] = []
    handled = [number for number in STOPS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, lambda received, _: arrived.append(received)) for number in handled}
    try:
        yield arrived
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
