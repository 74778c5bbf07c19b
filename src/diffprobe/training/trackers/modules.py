"""Trackers whose module speaks wandb's interface: `init`, `log`, `finish`."""

import sys
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffprobe.config.trackers import Tracker


class ModuleRun:
    """The run of a process, of which such a module has one at a time."""

    def __init__(self, settings: "Tracker", name: str, folder: Path, config: dict[str, Any]) -> None:
        self.module = import_module(settings.package)
        with redirect_stdout(sys.stderr):  # it greets; a job's output is for others
            self.module.init(config=config, **settings.arguments(name, folder))

    def log(self, values: dict[str, float], step: int) -> None:
        self.module.log(values, step=step)

    def finish(self) -> None:
        with redirect_stdout(sys.stderr):
            self.module.finish()
