"""The status of a run as it changes: a table that is redrawn in a terminal, elsewhere a line for each change.

It ends when all is made; Ctrl-C ends it with status 130, as any command.
"""

import time

from rich.console import Console
from rich.live import Live

from diffprobe.config.models import Config
from diffprobe.reporting.status import StageState, collect, name_of, render
from diffprobe.runtime.progress import clock

SECONDS = 1.0  # between looks
STEPS = 10  # lines of a running stage, at most


def watch(config: Config, console: Console, seconds: float = SECONDS) -> None:
    """Show the status until every stage is done."""
    if not console.is_terminal:
        print_changes(config, console, seconds)
        return
    # Refreshed by hand, so that a table is never drawn half-collected.
    with Live(console=console, auto_refresh=False, vertical_overflow="visible") as live:
        while True:
            states = collect(config)
            live.update(render(states), refresh=True)
            if all_done(states):
                return
            time.sleep(seconds)


def print_changes(config: Config, console: Console, seconds: float) -> None:
    """A line for each stage that is not waiting, and again when it has changed."""
    before: dict[object, object] = {}
    while True:
        states = collect(config)
        for state in states:
            shown = state.state, tenths(state)
            if before.get(state.stage, ("waiting", None)) != shown:
                console.print(line_of(state), soft_wrap=True, highlight=False, markup=False)
                before[state.stage] = shown
        if all_done(states):
            return
        time.sleep(seconds)


def all_done(states: list[StageState]) -> bool:
    return all(state.state == "done" for state in states)


def tenths(state: StageState) -> int | None:
    """How far a running stage is, in tenths: what is worth a line."""
    progress = state.progress
    running = progress is not None and state.state == "running" and progress["total"]
    return STEPS * progress["done"] // progress["total"] if progress and running else None


def line_of(state: StageState) -> str:
    """`pretrain digits_dit 36  running 30%  1,234 images/s  left 1m05s`."""
    line, progress = f"{time.strftime('%H:%M:%S')}  {name_of(state.stage)}  {state.state}", state.progress
    if progress and tenths(state) is not None:
        line += f" {progress['done'] / progress['total']:.0%}  {progress['rate']:,.0f} {progress['unit']}/s"
        left = progress["seconds_left"]
        return line if left is None else f"{line}  left {clock(left)}"
    return f"{line}: {state.tail[-1]}" if state.tail else line
