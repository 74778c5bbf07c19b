"""Datasets: where images come from, how they are fitted, how they are split."""

from typing import Annotated, Literal

from pydantic import Field

from diffprobe.config.base import Integer, Name, Number, Path, Positive, Strict


class Digits(Strict):
    """The 1,797 handwritten digits (8x8, grey) that ship inside scikit-learn."""

    kind: Literal["digits"]


class Download(Strict):
    """A public dataset, downloaded from its own address and checked by sha256."""

    kind: Literal["mnist", "cifar10", "cifar100", "tiny_imagenet"]
    mirror: Path | None = Field(
        None,
        description="A folder that holds the files as they are published, or the beginning of a URL "
        "under which they lie; the same checks. Null: their own address.",
    )


class CelebAHQ(Strict):
    """CelebA-HQ as people have it: the folder `CelebAMask-HQ`, or the folder of its images."""

    kind: Literal["celebahq"]
    path: Path = Field(description="The folder.")
    attribute: str | None = Field(
        None, description="A column of `CelebAMask-HQ-attribute-anno.txt` to serve as label; null: no labels."
    )


class ImageNet(Strict):
    """ImageNet-1k as people have it: `train` and `val` with a folder per class, or as Kaggle ships it."""

    kind: Literal["imagenet"]
    path: Path = Field(description="The folder.")


class Folder(Strict):
    """Any folder of images: one sub-folder per class, or none, or `train`, `val`, `test` above them."""

    kind: Literal["folder"]
    path: Path = Field(description="The folder.")
    labels: bool = Field(True, description="Whether sub-folders are classes; `false` takes the images without.")


class Zip(Strict):
    """Any zip of images, with the labels of a `dataset.json` (EDM's convention) or a folder per class inside."""

    kind: Literal["zip"]
    paths: list[Path] = Field(min_length=1, description="The zip, or several that make one dataset, in order.")
    labels: bool = Field(True, description="Whether labels are read; `false` takes the images without.")


Source = Annotated[Digits | Download | CelebAHQ | ImageNet | Folder | Zip, Field(discriminator="kind")]


class Stratified(Strict):
    """Shares of each class, in an order keyed by a seed."""

    kind: Literal["stratified"]
    seed: Integer = Field(0, description="Seed of the order from which the splits are cut.")
    select: Number = Field(
        0.15, gt=0, lt=1, description="Share of each class on which layer, level and checkpoint are chosen."
    )
    test: Number = Field(0.2, gt=0, lt=1, description="Share of each class that is read once, for the chosen row.")


class Official(Strict):
    """The dataset's own `test`; `select` is its own, or the last share of its train (of each class, if sorted)."""

    kind: Literal["official"]
    select: Number = Field(0.1, gt=0, lt=1, description="Share of train, where the dataset has no such split.")


class Last(Strict):
    """The last images: `test` at the very end, `select` before it."""

    kind: Literal["last"]
    select: Positive = Field(description="How many images.")
    test: Positive = Field(description="How many images.")


Split = Annotated[Stratified | Official | Last, Field(discriminator="kind")]


class Dataset(Strict):
    """Images, with or without labels."""

    source: Source = Field(description="Where they come from.")
    size: Positive | None = Field(
        None, description="Height and width in pixels; null: the dataset's own (`folder`, `zip` and photos need one)."
    )
    channels: Literal[1, 3] | None = Field(
        None, description="1 grey, 3 colour; null: the dataset's own, 3 for folders and zips."
    )
    resize: Literal["crop", "plain"] = Field(
        "crop", description="`crop`: ADM's centre crop (halving, then bicubic). `plain`: the whole image, bicubic."
    )
    decode: Literal["once", "when_read"] = Field(
        "once",
        description="`once`: `images.h5` holds the pixels. `when_read`: it holds no pixels, only where the files are "
        "(of `folder`, `zip`, `imagenet`, `tiny_imagenet`, `celebahq`), and each job decodes those that it reads; for "
        "sets of which there shall be no copy, such as ImageNet that is encoded to latents. The files must stay as "
        "they are: one that is gone or has changed is named when it is read.",
    )
    per_class: Positive | None = Field(None, description="Only the first so many images of each class; null: all.")
    split: Split | None = Field(
        None, description="The splits; null: `official` where the dataset has a test of its own, else `stratified`."
    )
    references: dict[Name, Path] = Field(
        {},
        description="Statistics of its images made elsewhere, by extractor: .npz files with `mu` and `sigma`, as "
        "pytorch-fid, EDM and ADM write them; used in place of those computed here.",
    )
