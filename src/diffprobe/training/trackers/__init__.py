"""The trackers of a training. A kind's class has two methods, `log` and `finish`:

    Run(settings, name, folder, config)      begins the run `name`, or goes on with it
    log(values: dict[str, float], step: int)
    finish()

`name` is the same for all slices and after every stop of a training, and another once its config or data have changed.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from diffprobe.runtime.errors import UserError, one_line
from diffprobe.runtime.files import atomic
from diffprobe.runtime.located import located

if TYPE_CHECKING:
    from diffprobe.config.trackers import Tracker


class TrackedRun(Protocol):
    """A run of a tracker."""

    def log(self, values: dict[str, float], step: int) -> None: ...

    def finish(self) -> None: ...


class Tracking:
    """Writes the history of a training to one tracker, each row once: a mark says how far it came before a stop.

    Whatever the tracker raises is said in one line, and it is left alone from then on. Raises UserError only where its
    package is not installed.
    """

    def __init__(
        self, settings: "Tracker", name: str, folder: Path, config: Mapping[str, Any], say: Callable[[str], None]
    ) -> None:
        if settings.package and find_spec(settings.package) is None:
            package = settings.package
            raise UserError(f"state.trackers: the package {package} is missing; pip install {package}, or leave it out")
        self.settings, self.name, self.folder, self.config, self.say = settings, name, folder, config, say
        self.run: TrackedRun | None = None
        self.failed = False

    @property
    def mark(self) -> Path:
        """Which step was written last, and to which run."""
        return self.folder / f"{self.settings.kind}.json"

    def written(self) -> int:
        """The last step that this run has; 0 where it has none."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            mark = json.loads(self.mark.read_text())
            return int(mark["step"]) if mark["run"] == self.name else 0
        return 0

    def write(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Write the rows that are new."""
        if not self.failed:
            self.guarded(lambda: self.write_new(rows))

    def write_new(self, rows: Sequence[Mapping[str, float]]) -> None:
        last = self.written()
        new = [row for row in rows if row["step"] > last]
        if not new:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.run is None:
            self.run = located(self.settings.build)(self.settings, self.name, self.folder, dict(self.config))
        for row in new:
            values = {f"train/{name}": value for name, value in row.items() if name != "step"}
            self.run.log(values, step=int(row["step"]))
        with atomic(self.mark, durable=False) as partial:
            partial.write_text(json.dumps({"run": self.name, "step": int(new[-1]["step"])}))

    def finish(self) -> None:
        """End the run for now: a later slice goes on with it."""
        if self.run is not None and not self.failed:
            self.guarded(self.run.finish)

    def guarded(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:  # whatever a service or its client may raise
            self.failed = True
            self.say(f"{self.settings.kind} fails ({one_line(error)}); the training goes on without it")


def trackings(
    kinds: Sequence["Tracker"],
    name: str,
    run: Path,
    identity: str,
    config: Mapping[str, Any],
    say: Callable[[str], None],
) -> list[Tracking]:
    """Those of a training run with this folder; `identity` is a hash of its config and data."""
    full = f"{name}-{identity[:8]}"
    return [Tracking(kind, full, run / "trackers", config, say) for kind in kinds]
