"""What an experiment's network may be: a file a kind."""

from collections.abc import Iterator
from typing import Any, ClassVar

from diffprobe.config.kinds import Kind, import_members
from diffprobe.config.problems import Problem


class Network(Kind, family=True):
    """A backbone: what of it is known before it is built. `build` names a class that takes `options` and the shape of
    the data as keywords (see `networks.build`).
    """

    steps_from: ClassVar[int] = 1
    """Where its published recipes begin to count the steps of a discrete process: 1 (DDAE) or 0 (DiT)."""
    usage: ClassVar[tuple[str, ...]] = ("kind", "conditional", "augment", "label_dropout")
    """Keys that say how the network is used, not how it is built."""

    @property
    def taps(self) -> list[str]:
        """The names of its taps in the order of computation."""
        raise NotImplementedError

    @property
    def options(self) -> dict[str, Any]:
        """Keywords for the network's class."""
        return {name: getattr(self, name) for name in type(self).model_fields if name not in self.usage}

    def argument(self) -> dict[str, Any]:
        """What jobs and the headers of checkpoints hold of it, as plain data that stands alone."""
        return self.model_dump(mode="json")

    @classmethod
    def of_argument(cls, data: dict[str, Any]) -> "Network":
        """The network that `argument` has given."""
        return cls.member(data)

    def problems(self, key: str, size: int) -> Iterator[Problem]:
        """Why it cannot be built, or not for images of `size` pixels."""
        yield from ()

    @property
    def conditional_on_labels(self) -> bool:
        """Whether it takes the label, where there are labels."""
        return getattr(self, "conditional", False)

    @property
    def conditional_on_views(self) -> bool:
        """Whether it takes what a view or an augmentation has done to the image."""
        return getattr(self, "augment", False)


import_members(__name__, __path__)
