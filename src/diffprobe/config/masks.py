"""Masks of images, which name the part of the image at each pixel: where they come from."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from diffprobe.config.base import Integer, Path
from diffprobe.config.kinds import Kind
from diffprobe.config.problems import Problem

if TYPE_CHECKING:
    from diffprobe.config.datasets import Dataset

MOST = 255  # classes of a mask, whose pixels are bytes; the last value stands for "no part is known"
Classes = Annotated[Integer, Field(ge=2, le=MOST)] | Annotated[list[str], Field(min_length=2, max_length=MOST)]
Byte = Annotated[Integer, Field(ge=0, le=255)]


class Masks(Kind, family=True):
    """A mask for each image of a dataset. `build` names a function of these settings and the `Listing` that returns
    `data.masks.Masks`.
    """

    of_arrays: ClassVar[bool] = False
    """Whether they belong to a source of arrays, or else to one of image files."""

    @property
    def local_paths(self) -> list[str]:
        """Local files and folders that they are read from."""
        path = getattr(self, "path", None)
        return [path] if path else []

    def problems(self, key: str, dataset: "Dataset") -> Iterator[Problem]:
        source = dataset.source
        if source.as_arrays != self.of_arrays:
            yield (
                f"{key}.kind",
                self.kind,
                f"masks of {'arrays' if source.as_arrays else 'files'}, as {source.kind} has",
            )


class Labelled(Masks):
    """Masks whose values are classes."""

    classes: Classes = Field(description="Number of classes, or their names by value from 0 on.")
    ignore: Byte = Field(255, description="Value of pixels of no known class, which are neither fitted on nor scored.")

    @property
    def names(self) -> list[str]:
        return [f"class {i}" for i in range(self.classes)] if isinstance(self.classes, int) else self.classes

    def problems(self, key: str, dataset: "Dataset") -> Iterator[Problem]:
        yield from super().problems(key, dataset)
        if self.ignore < len(self.names):
            yield f"{key}.ignore", self.ignore, f"a value that is no class, at least {len(self.names)}"


class MaskFolder(Labelled):
    """A folder of PNG files with the names of the images, in the same sub-folders, as in `a/0.png` for `a/0.jpg`: grey
    or palette images whose values are classes, as large as the images or of their proportions.
    """

    kind: Literal["folder"]
    build: ClassVar[str] = "diffprobe.data.masksources:of_folder"

    path: Path = Field(description="Folder of the masks.")


class MaskArray(Labelled):
    """An array of masks, uint8 (N, H, W), in the order of a source of arrays."""

    kind: Literal["array"]
    build: ClassVar[str] = "diffprobe.data.masksources:of_array"
    of_arrays: ClassVar[bool] = True

    path: Path = Field(description="The `.npy` file.")


class CelebAMask(Masks):
    """CelebAMask-HQ's own masks (Lee et al. 2020), at half the images' resolution: 18 parts of the face and background,
    later parts over earlier ones in the order of the authors.
    """

    kind: Literal["celebamask"]
    build: ClassVar[str] = "diffprobe.data.masksources:of_celebamask"

    path: Path = Field(description="The folder `CelebAMask-HQ`, or its folder of annotations.")


class Threshold(Masks):
    """Parts by brightness, made from the images: a mask for tests and examples, of a source of arrays."""

    kind: Literal["threshold"]
    build: ClassVar[str] = "diffprobe.data.masksources:by_threshold"
    of_arrays: ClassVar[bool] = True

    levels: list[Annotated[Integer, Field(ge=1, le=255)]] = Field(
        min_length=1, max_length=16, description="Brightness (mean over channels, 0 to 255) at which each part begins."
    )
    by_class: bool = Field(
        False,
        description="Pixels from the only level on are of the class of their image, the others background: a "
        "segmentation that brightness alone cannot give.",
    )

    def problems(self, key: str, dataset: "Dataset") -> Iterator[Problem]:
        yield from super().problems(key, dataset)
        if self.levels != sorted(set(self.levels)):
            yield f"{key}.levels", self.levels, "increasing numbers"
        if self.by_class and len(self.levels) > 1:
            yield f"{key}.levels", self.levels, "one level, where the part is named by the class"
        if self.by_class and dataset.facts.classes == 0:
            yield f"{key}.by_class", True, f"false, since {dataset.source.kind} has no labels"
