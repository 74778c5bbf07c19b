"""trackio, on this machine."""

from typing import ClassVar, Literal

from diffprobe.config.trackers import Tracker


class Trackio(Tracker):
    """trackio: kept on this machine, shown by the command `trackio show`. Runs are told apart by their names."""

    kind: Literal["trackio"]
    package: ClassVar[str] = "trackio"
