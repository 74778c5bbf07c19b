"""How the run stands: every stage done, running, failed or waiting, read from the files that jobs leave."""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from diffprobe.config.models import Config
from diffprobe.plan.graph import Stage, stages
from diffprobe.runtime.files import read_json
from diffprobe.runtime.progress import clock, read
from diffprobe.runtime.receipts import changed_code, module_hash

SHARED = (
    "download",
    "images",
    "baseline",
    "nearest_real",
    "autoencoder",
    "pretrained",
    "encode",
    "latents",
    "import_latents",
    "reconstruct",
    "plot_reconstruction",
)
SHARED += ("classifier", "reference")  # rules that serve several experiments
TAIL = 4  # lines shown of a log that ended badly
STYLES = {"done": "green", "running": "bold blue", "waiting": "dim", "stopped": "yellow"}
BAD = "bold red"


@dataclass(frozen=True)
class Row:
    """One stage as it stands."""

    stage: Stage
    state: str  # done, waiting, or what its progress file says: running, stopped, failed, killed
    progress: dict | None = None  # where the state is the progress file's
    tail: tuple[str, ...] = ()  # the end of the log of a job that ended badly
    older: tuple[str, ...] = ()  # source files that do something else than when this was made


# --- what is there ------------------------------------------------------------------------------------------


def collect(config: Config) -> list[Row]:
    """Every stage as it stands, in the order of the data's way."""
    module_hash.cache_clear()  # sources may have changed since the last look
    made = {stage: finished(stage) for stage in stages(config)}
    present = presents(made)
    return [look(stage, at, stage in present) for stage, at in made.items()]


def finished(stage: Stage) -> float | None:
    """When the last of a stage's files was written; None unless all of them are there."""
    try:
        return max(Path(file).stat().st_mtime for file in stage.files)
    except FileNotFoundError:
        return None


def presents(made: dict[Stage, float | None]) -> set[Stage]:
    """The stages that progress files speak of now: of slices that share one, the first that is unfinished."""
    sharing: dict[str, list[Stage]] = {}
    for stage in made:
        sharing.setdefault(stage.progress, []).append(stage)
    return {next((s for s in group if made[s] is None), group[-1]) for group in sharing.values()}


def look(stage: Stage, made: float | None, present: bool) -> Row:
    """A progress file that is younger than the outputs has the word, unless it says done."""
    progress = read(Path(stage.progress)) if present else None
    if progress and progress["state"] != "done" and progress["updated"] > (made or 0):
        tail = () if progress["state"] == "running" else last_lines(Path(progress["log"]))
        return Row(stage, progress["state"], progress, tail)
    return Row(stage, "waiting") if made is None else Row(stage, "done", older=older_code(stage))


def older_code(stage: Stage) -> tuple[str, ...]:
    """The source files that have changed since the stage's result was made."""
    with suppress(FileNotFoundError):  # a job may start, and its old files go, at any moment
        code = read_json(stage.receipt)["code"] if stage.receipt else {}
        return tuple(changed_code(code))
    return ()


def last_lines(path: Path) -> tuple[str, ...]:
    """The last lines of a log that say something."""
    with suppress(FileNotFoundError), path.open("rb") as log:
        log.seek(max(0, path.stat().st_size - 4096))
        lines = log.read().decode(errors="replace").splitlines()
        return tuple([line.rstrip() for line in lines if line.strip()][-TAIL:])
    return ()


# --- how it is shown ----------------------------------------------------------------------------------------


def show(config: Config, watch: bool = False, console: Console | None = None) -> None:
    """Print how the run stands; with `watch`, again every second until interrupted."""
    console = console or Console()
    if not watch:
        console.print(render(collect(config)))
        return
    with suppress(KeyboardInterrupt), Live(console=console, auto_refresh=False) as live:
        while True:
            live.update(render(collect(config)), refresh=True)
            time.sleep(1)


def render(rows: list[Row]) -> Group:
    """A table for what experiments share, one for each experiment, then what needs attention."""
    shared = [row for row in rows if row.stage.rule in SHARED]
    parts = [table("data, latents and extractors", shared, lambda row: row.stage.subject)]
    own = [row for row in rows if row.stage.rule not in SHARED]
    for subject in dict.fromkeys(row.stage.subject for row in own if row.stage.subject):
        parts.append(experiment(subject, [row for row in own if row.stage.subject == subject]))
    parts += [whole(row.stage.rule, [row]) for row in own if not row.stage.subject]
    return Group(*parts, *troubles(rows), *older(rows))


def experiment(name: str, rows: list[Row]) -> Group:
    """Stages by checkpoint, and below them those of the whole experiment."""
    by_checkpoint = table(name, [row for row in rows if row.stage.kimg], lambda row: f"{row.stage.kimg} kimg")
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if row.stage.kimg is None:
            rule = row.stage.rule
            groups.setdefault("plots" if rule.startswith("plot_") else rule, []).append(row)
    return Group(by_checkpoint, *(whole(name, group) for name, group in groups.items()), "")


def whole(name: str, rows: list[Row]) -> Text:
    """One line for one stage or several like it: `choice  done`, `plots  7 done, 2 waiting`."""
    counts = Counter(row.state for row in rows)
    each = Text(", ").join(Text(f"{n} {state}", STYLES.get(state, BAD)) for state, n in counts.items())
    return Text.assemble(f"  {name:<10}", cell(rows[0]) if len(rows) == 1 else each)


def table(title: str, rows: list[Row], index: Callable[[Row], str]) -> Table:
    """Rules across, `index` downwards; where several stages share a cell, one under the other."""
    rules = list(dict.fromkeys(row.stage.rule for row in rows))
    out = Table("", *rules, title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    for key in dict.fromkeys(map(index, rows)):
        here = [row for row in rows if index(row) == key]
        cells = [Text("\n").join(cell(row) for row in here if row.stage.rule == rule) for rule in rules]
        out.add_row(key, *cells)
    return out


def cell(row: Row) -> Text:
    """A stage in a word or, while it runs, in three short lines."""
    text = row.state
    if row.state == "running" and row.progress["total"]:
        progress = row.progress
        text += f" {progress['done'] / progress['total']:.0%}\n{progress['rate']:,.0f} {progress['unit']}/s"
        if progress["seconds_left"] is not None:
            text += f"\nleft {clock(progress['seconds_left'])}"
    if row.older:
        return Text(f"{text}, old", "yellow")  # what is old, is said below
    return Text(text, STYLES.get(row.state, BAD))


def label(row: Row) -> str:
    """What a stage is called: rule, subject, checkpoint."""
    stage = row.stage
    return " ".join(str(part) for part in (stage.rule, stage.subject, stage.kimg) if part)


def troubles(rows: Iterable[Row]) -> Iterable[Text]:
    """What ended badly, with the end of its log."""
    for row in rows:
        if row.progress and row.state != "running":
            yield Text(f"{row.state}: {label(row)} ({row.progress['log']})", STYLES.get(row.state, BAD))
            yield from (Text(f"    {line}") for line in row.tail)


def older(rows: Iterable[Row]) -> Iterable[Text]:
    """Each source file that has changed under results, with the rules that made them."""
    used: dict[str, dict[str, None]] = {}
    for row in rows:
        for name in row.older:
            used.setdefault(name, {})[row.stage.rule] = None
    for name, rules in used.items():
        yield Text(f"older code: {name} (in {', '.join(rules)})", "yellow")
