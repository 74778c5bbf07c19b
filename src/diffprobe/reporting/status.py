"""The status of a run: every stage done, running, failed or waiting, from the files that jobs leave."""

from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from diffprobe.config.models import Config
from diffprobe.config.names import AUGMENTATION
from diffprobe.plan.graph import Stage, stages
from diffprobe.runtime.code_hashes import module_hash
from diffprobe.runtime.progress import Snapshot, clock, read
from diffprobe.runtime.receipts import changed_code, read_receipt

SHARED = (  # rules that serve several experiments
    "fetch",
    "download",
    "images",
    "dataset_table",
    "comparison",
    "baseline",
    "nearest_real",
    "autoencoder",
    "pretrained",
    "encode",
    "latents",
    "import_latents",
    "reconstruct",
    "plot_reconstruction",
    "classifier",
    "reference",
)
TAIL = 4  # lines of a failed job's log that are shown
STYLES = {"done": "green", "running": "bold blue", "waiting": "dim", "stopped": "yellow"}
BAD = "bold red"


@dataclass(frozen=True)
class StageState:
    """A stage and its state."""

    stage: Stage
    state: str  # done, waiting, or the state in its progress file: running, stopped, failed, killed
    progress: Snapshot | None = None  # its progress file, where the state comes from there
    tail: tuple[str, ...] = ()  # the end of the log of a job that did not end well
    older: tuple[str, ...] = ()  # source files that have changed since the result was made
    older_augmentation: bool = False  # a checkpoint of a run with an older version of `train.augment`


# --- reading the files --------------------------------------------------------------------------------------


def collect(config: Config) -> list[StageState]:
    """The state of every stage, in the order in which the data flows."""
    module_hash.cache_clear()  # sources may have changed since the last call, under --watch
    finished = {stage: finish_time(stage) for stage in stages(config)}
    current = current_stages(finished)
    return [stage_state(stage, at, stage in current) for stage, at in finished.items()]


def finish_time(stage: Stage) -> float | None:
    """When the last of a stage's files was written; None unless all of them exist."""
    try:
        return max(Path(file).stat().st_mtime for file in stage.files)
    except FileNotFoundError:
        return None


def current_stages(finished: dict[Stage, float | None]) -> set[Stage]:
    """The stages that progress files describe now: where slices share one file, the first unfinished slice."""
    sharing: dict[str, list[Stage]] = {}  # the slices of one training write one file in turn
    for stage in finished:
        sharing.setdefault(stage.progress, []).append(stage)
    return {next((s for s in group if finished[s] is None), group[-1]) for group in sharing.values()}


def stage_state(stage: Stage, finished: float | None, current: bool) -> StageState:
    """The state in the progress file where that is newer than the outputs and does not say done, else theirs."""
    progress = read(Path(stage.progress)) if current else None
    # A file older than the outputs is of an earlier attempt.
    if progress and progress["state"] != "done" and progress["updated"] > (finished or 0):
        tail = () if progress["state"] == "running" else last_lines(Path(progress["log"]))
        return StageState(stage, progress["state"], progress, tail)
    if finished is None:
        return StageState(stage, "waiting")
    # None also where a job has just started, and Snakemake has removed its old files.
    receipt = (read_receipt(stage.receipt) if stage.receipt else None) or {}
    return StageState(
        stage,
        "done",
        older=tuple(changed_code(receipt.get("code", {}))),
        older_augmentation=stage.rule == "pretrain" and has_older_augmentation(receipt),
    )


def has_older_augmentation(receipt: dict[str, Any]) -> bool:
    """Whether the receipt is of a run that was trained with an older version of EDM's augmentation."""
    augmented = receipt.get("config", {}).get("train", {}).get("augment")
    return bool(augmented) and receipt.get("augmentation") != AUGMENTATION


def last_lines(path: Path) -> tuple[str, ...]:
    """The last TAIL lines of a log that are not blank."""
    with suppress(FileNotFoundError), path.open("rb") as log:
        log.seek(max(0, path.stat().st_size - 4096))  # logs of long runs are large
        lines = log.read().decode(errors="replace").splitlines()  # the cut may split a character
        return tuple([line.rstrip() for line in lines if line.strip()][-TAIL:])
    return ()


# --- printing -----------------------------------------------------------------------------------------------


def show(config: Config, console: Console | None = None) -> None:
    """Print the status."""
    (console or Console()).print(render(collect(config)))


def render(states: list[StageState]) -> Group:
    """A table of the shared stages, one for each experiment, then failures and older code."""
    shared = [state for state in states if state.stage.rule in SHARED]
    own = [state for state in states if state.stage.rule not in SHARED]
    subjects = dict.fromkeys(state.stage.subject for state in own if state.stage.subject)
    return Group(
        table("data, latents and extractors", shared, lambda state: state.stage.subject),
        *(experiment(subject, [state for state in own if state.stage.subject == subject]) for subject in subjects),
        *(one_line(state.stage.rule, [state]) for state in own if not state.stage.subject),
        *failures(states),
        *older_augmentation(states),
        *older(states),
    )


def experiment(name: str, states: list[StageState]) -> Group:
    """Stages by checkpoint, and below them those of the whole experiment."""
    by_checkpoint = table(name, [s for s in states if s.stage.kimg], lambda state: f"{state.stage.kimg} kimg")
    groups: dict[str, list[StageState]] = {}  # by rule
    for state in states:
        if state.stage.kimg is None:
            rule = state.stage.rule
            groups.setdefault("plots" if rule.startswith("plots") else rule, []).append(state)
    return Group(by_checkpoint, *(one_line(rule, group) for rule, group in groups.items()), "")


def one_line(name: str, states: list[StageState]) -> Text:
    """One stage, or several counted by state: `choice  done`, `plots  7 done, 2 waiting`."""
    counts = Counter(state.state for state in states)
    counted = Text(", ").join(Text(f"{n} {state}", STYLES.get(state, BAD)) for state, n in counts.items())
    return Text.assemble(f"  {name:<10} ", cell(states[0]) if len(states) == 1 else counted)


def table(title: str, states: list[StageState], index: Callable[[StageState], str]) -> Table:
    """Rules across, `index` downwards; stages that share a cell are listed in it one below the other."""
    rules = list(dict.fromkeys(state.stage.rule for state in states))
    rows = Table("", *rules, title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    for key in dict.fromkeys(map(index, states)):
        here = [state for state in states if index(state) == key]
        rows.add_row(key, *(Text("\n").join(cell(s) for s in here if s.stage.rule == rule) for rule in rules))
    return rows


def cell(state: StageState) -> Text:
    """A stage's state in a word or, while it runs, in three short lines."""
    text, progress = state.state, state.progress
    if progress and state.state == "running" and progress["total"]:
        text += f" {progress['done'] / progress['total']:.0%}\n{progress['rate']:,.0f} {progress['unit']}/s"
        if progress["seconds_left"] is not None:
            text += f"\nleft {clock(progress['seconds_left'])}"
    if state.older:
        return Text(f"{text}, old", "yellow")  # `older` lists the files
    return Text(text, STYLES.get(state.state, BAD))


def name_of(stage: Stage) -> str:
    return " ".join(str(part) for part in (stage.rule, stage.subject, stage.kimg) if part)


def failures(states: Iterable[StageState]) -> Iterable[Text]:
    """Each job that did not end well, with the end of its log."""
    for state in states:
        if state.progress and state.state != "running":
            yield Text(f"{state.state}: {name_of(state.stage)} ({state.progress['log']})", STYLES.get(state.state, BAD))
            yield from (Text(f"    {line}") for line in state.tail)


def older_augmentation(states: Iterable[StageState]) -> Iterable[Text]:
    """A line for each run with checkpoints by an older version of EDM's augmentation."""
    kimgs: dict[str, list[str]] = {}
    for state in states:
        if state.older_augmentation:
            kimgs.setdefault(state.stage.subject, []).append(str(state.stage.kimg))
    for subject, made in kimgs.items():
        yield Text(f"older augmentation: {subject}, {', '.join(made)} kimg (turned about another point)", "yellow")


def older(states: Iterable[StageState]) -> Iterable[Text]:
    """Each source file that has changed since results were made, with the rules of these results."""
    rules: dict[str, dict[str, None]] = {}  # an ordered set of rules for each file
    for state in states:
        for name in state.older:
            rules.setdefault(name, {})[state.stage.rule] = None
    for name, using in rules.items():
        yield Text(f"older code: {name} (in {', '.join(using)})", "yellow")
