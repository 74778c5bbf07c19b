"""Feature extractors for the metrics of generation, one file per kind."""

from collections.abc import Iterator
from typing import ClassVar

from diffprobe.config.kinds import Kind, import_members
from diffprobe.config.problems import Problem


class Extractor(Kind, family=True):
    """A network whose features the metrics of generation compare. `build` names a function that takes the extractor,
    its weights file and a device, and returns the network (see `evaluation.generation.extractors`).
    """

    needs: ClassVar[dict[str, str]] = {
        "fid": "fid needs an extractor of kind inception with dims 2048; with other extractors it is called fd",
        "sfid": "sfid needs an extractor of kind inception with dims 768 or 2048",
        "is": "is needs an extractor with logits: a classifier, or an inception with dims 2048",
    }
    """What each metric needs, for those that not every extractor supports."""
    package: ClassVar[str] = ""
    """The extra of diffprobe, and its package, without which it cannot be loaded; "" if it needs none."""

    def problems(self, key: str) -> Iterator[Problem]:
        """Settings that cannot be used."""
        yield from ()

    @property
    def printed_name(self) -> str:
        """The ending of its metrics' names."""
        return self.kind

    @property
    def figures(self) -> frozenset[str]:
        """The metrics of `needs` that it supports."""
        return frozenset()

    def gives(self, figure: str) -> bool:
        """Whether it supports a metric of generation, as far as its config shows."""
        return figure not in self.needs or figure in self.figures

    @property
    def trained_on(self) -> str | None:
        """The dataset it is trained on by the workflow; None for a pretrained one."""
        return None

    @property
    def last_checkpoint(self) -> int:
        """The checkpoint that is used, in thousands of images, if the workflow trains it."""
        raise NotImplementedError

    @property
    def files(self) -> list[str]:
        """Local files it is read from."""
        path = getattr(self, "weights", None)
        return [path] if path else []


import_members(__name__, __path__)
