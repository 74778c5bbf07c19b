"""Networks of experiments, one file per kind."""

from collections.abc import Iterator
from typing import Any, ClassVar

from diffprobe.config.kinds import Kind, import_members
from diffprobe.config.problems import Problem
from diffprobe.config.processes import Process

MOST_PARAMETERS = 10**11  # their weights and training state would be 2 TB
MOST_TAPS = 300


class Network(Kind, family=True):
    """A backbone, described without torch. `build` names a class that takes `options` and the shape of the data as
    keywords (see `networks.build`).
    """

    steps_from: ClassVar[int] = 1
    """The first step of a discrete process in its published recipes' numbering: 1 (DDAE) or 0 (DiT)."""
    recomputes: ClassVar[bool] = False
    """Whether it can compute activations again in the backward pass (`train.recompute`): its class has an attribute
    `recompute`."""
    usage: ClassVar[tuple[str, ...]] = ("kind", "conditional", "augment", "label_dropout")
    """Keys about how the network is used rather than built."""
    embeddings: ClassVar[tuple[str, ...]] = ()
    """Of what it is conditioned on, `time` and `label`: those whose embeddings may be zeros (`Condition.zeroed`)."""
    has_out_channels: ClassVar[bool] = False
    """Whether its class takes `out_channels`, the channels of the output, which a learned variance doubles."""

    classifies: ClassVar[bool] = False
    """Whether its output, and its last tap `logits`, are class logits and not an image. Its class takes `classes`."""

    @property
    def taps(self) -> list[str]:
        """The names of its taps, in order of computation."""
        raise NotImplementedError

    @property
    def vector_taps(self) -> list[str]:
        """Those of `taps` that are vectors, without positions."""
        return []

    @property
    def named_taps(self) -> list[str]:
        """Those and the taps that have to be named, since `all` leaves them out, in order of computation."""
        return self.taps

    @property
    def tap_channels(self) -> int | None:
        """The channels of its taps; None if they differ, or are unknown before it is built."""
        return None

    @property
    def about_parameters(self) -> int:
        """Roughly its number of parameters, from the options alone; 0: unknown."""
        return 0

    @property
    def options(self) -> dict[str, Any]:
        """Keyword arguments for the network's class."""
        return {name: getattr(self, name) for name in type(self).model_fields if name not in self.usage}

    def argument(self) -> dict[str, Any]:
        """Self-contained plain data for job arguments and checkpoint headers."""
        return self.model_dump(mode="json")

    @classmethod
    def of_argument(cls, data: dict[str, Any]) -> "Network":
        """The inverse of `argument`."""
        return cls.member(data)

    def problems(self, key: str, size: int) -> Iterator[Problem]:
        """Settings with which it cannot be built for inputs of `size` x `size`."""
        if self.about_parameters > MOST_PARAMETERS:
            count = f"{self.about_parameters:.2g}"
            yield f"{key}", f"about {count} parameters", f"a network of at most {MOST_PARAMETERS:.0e} parameters"
        if len(self.taps) > MOST_TAPS:
            yield key, f"{len(self.taps):,} blocks", f"a network of at most {MOST_TAPS:,} blocks"

    def process_problems(self, key: str, process: Process) -> Iterator[Problem]:
        """Settings with which it does not fit the process."""
        yield from ()

    @property
    def code_parts(self) -> int:
        """The number of parts of a code that its blocks see, whose length is a keyword `z` of its class; 0 of a network
        that is conditioned on no code.
        """
        return 0

    @property
    def conditional_on_labels(self) -> bool:
        """Whether it is conditioned on class labels, if there are any."""
        return getattr(self, "conditional", False)

    @property
    def conditional_on_views(self) -> bool:
        """Whether it is conditioned on the augmentation label of an image or view."""
        return getattr(self, "augment", False)


import_members(__name__, __path__)
