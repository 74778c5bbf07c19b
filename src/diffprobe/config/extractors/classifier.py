"""A small classifier, trained by the workflow."""

from typing import ClassVar, Literal

from pydantic import Field

from diffprobe.config.base import Batch, Integer, Name, Number, Positive, Width
from diffprobe.config.extractors import Extractor


class ClassifierExtractor(Extractor):
    """A small convolutional classifier that the workflow trains on a dataset's `train` labels. Needs no download."""

    kind: Literal["classifier"]
    build: ClassVar[str] = "diffprobe.evaluation.generation.extractors.classifier:make"

    dataset: Name = Field(description="Dataset to train on; must be that of the experiments that use it.")
    channels: Width = Field(32, description="Width of the first layer; features are four times as wide.")
    batch: Batch = Field(128, description="Images per step.")
    lr: Number = Field(2e-3, gt=0, description="Adam's learning rate.")
    kimg: Positive = Field(20, description="Length of training, in thousands of images.")
    seed: Integer = Field(0, description="Seed for weight initialisation and image order.")

    @property
    def figures(self) -> frozenset[str]:
        return frozenset({"is"})

    @property
    def trained_on(self) -> str:
        return self.dataset

    @property
    def last_checkpoint(self) -> int:
        return self.kimg
