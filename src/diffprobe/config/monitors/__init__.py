"""Label-free figures of a model's features, one file per kind."""

from collections.abc import Iterator
from typing import ClassVar

from diffprobe.config.kinds import Kind, import_members
from diffprobe.config.problems import Problem


class Monitor(Kind, family=True):
    """Figures of the features of one layer at one noise level, without labels.

    `build` names a function that measures them (see `evaluation.representation.monitors`).
    """

    pairs: ClassVar[bool] = False
    """Whether a figure compares two noisy copies of each image."""

    @property
    def figures(self) -> tuple[str, ...]:
        """The names of its figures."""
        return (self.kind,)

    @property
    def encoder(self) -> str | None:
        """The entry of `extractors` whose features of the same images it compares with; None: of none."""
        return None

    def problems(self, key: str, images: int) -> Iterator[Problem]:
        """Settings that so many images do not allow."""
        yield from ()


import_members(__name__, __path__)
