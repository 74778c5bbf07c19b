"""Training tasks, one file per kind."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from diffprobe.config.kinds import Kind, import_members
from diffprobe.config.networks import Network
from diffprobe.config.problems import Problem

if TYPE_CHECKING:
    from diffprobe.config.models import Experiment


class Task(Kind, family=True):
    """A training task and its settings. `build` names the function that constructs it (see `training.tasks.base`)."""

    model: ClassVar[str] = ""
    """The class or function that builds the model for sampling and probing, if it is more than the network. It takes
    `network` and `task` (both as settings) and the shape of the data as keywords."""
    samples_from_images: ClassVar[bool] = False
    """Whether samples are decoded from the codes of training images, which the jobs that draw then read: its model has
    `encode`, from images to codes (see `evaluation.codes`)."""

    classifies: ClassVar[bool] = False
    """Whether it trains a classifier, which draws no samples: a network that `classifies`."""

    def taps(self, network: Network) -> list[str]:
        """The taps of the trained model, in order of computation."""
        return network.taps

    def hidden(self, network: Network) -> tuple[str, float]:
        """The key and the value of the share of conditions that training hides, by which it learns the unconditional
        model too.
        """
        return "network.label_dropout", getattr(network, "label_dropout", 0.0)

    def clean_taps(self, network: Network) -> list[str]:
        """Those of `taps` that see images as they are: they are computed at the level `clean`, all others with noise.

        There the model is called without a process: `cond.source` has the image, and so has x.
        """
        return []

    def vector_taps(self, network: Network) -> list[str]:
        """Those of `taps` that are vectors, without positions."""
        return network.vector_taps

    def problems(self, key: str, experiment: "Experiment") -> Iterator[Problem]:
        """Settings of the experiment that it does not support."""
        yield from ()

    def image_problems(self, key: str, channels: int, size: int | None) -> Iterator[Problem]:
        """Settings that do not go with images of so many channels and pixels; None if only reading shows the size."""
        yield from ()


import_members(__name__, __path__)
