"""Random views of training images: what may happen to an image, how often and how much."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from diffprobe.config.base import Above0, NotNegative, Number, Pixels, Strict
from diffprobe.config.problems import Problem

SMALLEST = 8  # pixels of an image that can be cropped at random
Probability = Annotated[Number, Field(ge=0, le=1)]
Share = Annotated[Number, Field(gt=0, le=1)]


def ordered(limits: tuple[float, float]) -> tuple[float, float]:
    if limits[0] > limits[1]:
        raise ValueError("expected the smaller number first")
    return limits


Area = Annotated[tuple[Share, Share], AfterValidator(ordered)]
Ratio = Annotated[tuple[Above0, Above0], AfterValidator(ordered)]


class Crop(Strict):
    """Augmentation of copies in pixels: by default a flip and a random crop of the padded image, as published."""

    pad: Pixels = Field(4, description="Pixels of padding on each side.")
    fill: Literal["zero", "edge"] = Field("zero", description="Padding: black, or the repeated border.")
    flip: bool = Field(True, description="Flip left to right first, with probability 0.5.")


class RandomCrop(Strict):
    """With probability `p`: a random part of the image, enlarged to its size, and flipped left to right."""

    p: Probability = Field(0.95, description="Share of images that are cropped and flipped; the rest stay as they are.")
    scale: Area = Field((0.08, 1.0), description="Least and largest share of the image's area.")
    ratio: Ratio = Field((3 / 4, 4 / 3), description="Least and largest width by height.")
    flip: Probability = Field(0.5, description="Share of the cropped images that are flipped.")


class RandAugment(Strict):
    """With probability `p`: some of torchvision's 14 operations in turn, drawn anew for each image."""

    p: Probability = Field(0.65, description="Share of images that are augmented.")
    ops: NotNegative = Field(2, le=16, description="Operations one after another.")
    magnitude: NotNegative = Field(9, le=30, description="Strength of all operations; 0 is none, 30 the largest.")


class RandomView(Strict):
    """A random view of an image, as in the published code of SODA; null: without this part."""

    crop: RandomCrop | None = Field(RandomCrop(), description="Random crop and flip.")
    randaugment: RandAugment | None = Field(RandAugment(), description="RandAugment (Cubuk et al. 2020).")

    def problems(self, key: str, channels: int, size: int | None) -> Iterator[Problem]:
        """Settings that do not go with images of so many channels and pixels; None if only reading shows the size."""
        if self.crop and size is not None and size < SMALLEST:
            yield f"{key}.crop", "random crops", f"null, since images have {size} pixels"
        if self.randaugment and channels not in (1, 3):
            yield f"{key}.randaugment", "operations on colours", f"null, since images have {channels} channels"
