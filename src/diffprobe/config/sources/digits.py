"""scikit-learn's digits."""

from typing import ClassVar, Literal

from diffprobe.config.sources import Facts, Source


class Digits(Source):
    """The 1,797 handwritten digits (8x8, greyscale) that ship with scikit-learn."""

    kind: Literal["digits"]
    build: ClassVar[str] = "diffprobe.data.sources.digits:find"
    as_arrays: ClassVar[bool] = True

    @property
    def facts(self) -> Facts:
        return Facts(images=1797, size=8, channels=1, classes=10, smallest=174, official=0)
