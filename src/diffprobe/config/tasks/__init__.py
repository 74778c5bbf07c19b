"""What the training of an experiment learns: a file a kind."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from diffprobe.config.kinds import Kind, import_members
from diffprobe.config.networks import Network
from diffprobe.config.problems import Problem

if TYPE_CHECKING:
    from diffprobe.config.models import Experiment


class Task(Kind, family=True):
    """A training task: its own settings. `build` names the function that makes it (see `training.tasks.base`)."""

    model: ClassVar[str] = ""
    """The class or function of the trained model, as it is sampled and probed, where that is more than the network: it
    takes `network` and `task` (both settings) and the shape of the data as keywords, and is a `diffusion` network."""

    def taps(self, network: Network) -> list[str]:
        """The taps of the model that it trains, in the order of computation."""
        return network.taps

    def problems(self, key: str, experiment: "Experiment") -> Iterator[Problem]:
        """What of the experiment it cannot train."""
        yield from ()


import_members(__name__, __path__)
