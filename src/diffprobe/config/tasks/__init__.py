"""What the training of an experiment learns: a file a kind."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from diffprobe.config.kinds import Kind, import_members
from diffprobe.config.networks import Network
from diffprobe.config.problems import Problem

if TYPE_CHECKING:
    from diffprobe.config.models import Experiment


class Task(Kind, family=True):
    """A training task: its own settings. `build` names the class that trains (see `training.tasks`)."""

    def taps(self, network: Network) -> list[str]:
        """The taps of the model that it trains, in the order of computation."""
        return network.taps

    def problems(self, key: str, experiment: "Experiment") -> Iterator[Problem]:
        """What of the experiment it cannot train."""
        yield from ()


import_members(__name__, __path__)
