"""A small classifier, trained here."""

from typing import ClassVar, Literal

from pydantic import Field

from diffprobe.config.base import Integer, Name, Number, Positive
from diffprobe.config.extractors import Extractor


class ClassifierExtractor(Extractor):
    """A small convolutional classifier, trained here on a dataset's `train` labels; needs no download."""

    kind: Literal["classifier"]
    build: ClassVar[str] = "diffprobe.evaluation.generation.extractors.classifier:make"

    dataset: Name = Field(description="The dataset it is trained on: that of the experiments that use it.")
    channels: Positive = Field(32, description="Width of its first layer; features have four times as many.")
    batch: Positive = Field(128, description="Images per step.")
    lr: Number = Field(2e-3, gt=0, description="Learning rate of Adam.")
    kimg: Positive = Field(20, description="Length of its training, in thousands of images.")
    seed: Integer = Field(0, description="Seed of weights and order.")

    @property
    def figures(self) -> frozenset[str]:
        return frozenset({"is"})

    @property
    def trained_on(self) -> str:
        return self.dataset

    @property
    def last_checkpoint(self) -> int:
        return self.kimg
