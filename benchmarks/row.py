"""What a row of `make bench` consists of."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

ROOT = Path(__file__).parents[1]
PLAIN, OURS = "plain", "ours"

# In the order of the table; `demo` runs only where it is asked for by name or by --demo.
NAMES = (
    *("ddpm", "edm", "unet", "dit", "gta", "ddim", "inception", "grid", "loop_unet", "loop_dit", "loop_toy", "latents"),
    *("latents_cold", "views", "dry_run", "commands", "demo"),
)

Piece = Callable[[], float]  # does some work, and says how much


class Setting(NamedTuple):
    """What a side is built from: the amount of work in a piece, and a folder that the row's sides share."""

    amount: int
    folder: Path


Side = Callable[[Setting], Piece]


@dataclass(frozen=True)
class Line:
    """A line of the table. `must` and `go` are as in the issue that set them.

    `ratio`: the speed of `ours` over that of `plain`, times `factor`. `overhead`: by how many percent the CPU time of
    `ours`, in one thread, exceeds that of `plain`. `seconds`: the CPU seconds of a piece of `ours` alone.
    """

    job: str
    must: float
    go: float
    figure: Literal["ratio", "overhead", "seconds"] = "ratio"
    ours: str = OURS
    plain: str = PLAIN
    factor: float = 1.0
    remark: str = ""


class Slope(NamedTuple):
    """Ten times the work on our side: of what, the smaller amount, and the larger one."""

    unit: str
    small: int
    large: int


class Agreement(NamedTuple):
    """How far our side is from the plain one, and the difference up to which they count as equal."""

    what: str
    difference: float
    tolerance: float

    @property
    def holds(self) -> bool:
        return self.difference <= self.tolerance


@dataclass(frozen=True)
class Row:
    """Sides that do the same work, built in a process each and measured in turns, after they have been compared.

    `check` compares them; with True on sizes that take a moment.
    """

    lines: tuple[Line, ...]
    sides: Mapping[str, Side]
    check: Callable[[bool], list[Agreement]]
    amount: int
    unit: str = "images/s"
    rounds: int = 5
    warm: bool = True  # a first piece of each side is not counted
    fresh: bool = False  # each piece in a new process
    prepare: Callable[[Setting], object] | None = None  # makes what the sides read from the folder
    slope: Slope | None = None


def load(name: str) -> Row:
    return importlib.import_module(f"benchmarks.rows.{name}").ROW
