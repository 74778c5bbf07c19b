"""Where the losses of trainings are shown besides the report, one file per kind."""

from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from diffprobe.config.kinds import Kind, import_members


class Tracker(Kind, family=True):
    """A service that shows the losses of trainings while they run. Changes no result and triggers no rerun; one that
    fails stops no training.

    `build` names a class, called with the settings and a run's name, folder and config (see `training.trackers`). One
    that speaks wandb's interface has `package` and `arguments` instead.
    """

    build: ClassVar[str] = "diffprobe.training.trackers.modules:ModuleRun"
    package: ClassVar[str] = ""
    """The package to install, whose module has `init`, `log` and `finish`."""

    project: str = Field("diffprobe", min_length=1, description="The project that its runs are in.")

    def arguments(self, name: str, folder: Path) -> dict[str, Any]:
        """Arguments of its `init` that begin the run `name`, or go on with it where there is one."""
        return {"project": self.project, "name": name, "resume": "allow"}


import_members(__name__, __path__)
