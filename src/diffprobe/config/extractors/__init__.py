"""Extractors: networks whose features the figures of generation compare. A file a kind."""

from collections.abc import Iterator
from typing import ClassVar

from diffprobe.config.kinds import Kind, import_members
from diffprobe.config.problems import Problem


class Extractor(Kind, family=True):
    """`build` names a function from the extractor, its file of weights and a device to a network (see
    `evaluation.generation.extractors`).
    """

    needs: ClassVar[dict[str, str]] = {
        "fid": "fid needs an extractor of kind inception with dims 2048; of others it is called fd",
        "sfid": "sfid needs an extractor of kind inception with dims 768 or 2048",
        "is": "is needs an extractor with logits: a classifier, or an inception with dims 2048",
    }
    """In words, what the figures need that not every extractor gives."""

    def problems(self, key: str) -> Iterator[Problem]:
        """Why it cannot be used as it is set."""
        yield from ()

    @property
    def printed_name(self) -> str:
        """What the names of its figures end with."""
        return self.kind

    @property
    def figures(self) -> frozenset[str]:
        """Those of `needs` that it gives."""
        return frozenset()

    def gives(self, figure: str) -> bool:
        """Whether it gives a figure of generation, as far as its config says."""
        return figure not in self.needs or figure in self.figures

    @property
    def trained_on(self) -> str | None:
        """The dataset that the workflow trains it on; None where it comes trained."""
        return None

    @property
    def last_checkpoint(self) -> int:
        """The checkpoint of that training which extracts, in thousands of images."""
        raise NotImplementedError

    @property
    def files(self) -> list[str]:
        """Local files that it is read from."""
        path = getattr(self, "weights", None)
        return [path] if path else []


import_members(__name__, __path__)
