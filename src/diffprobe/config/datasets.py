"""Datasets: where images come from, how they are resized, and how they are split."""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from diffprobe.config.base import LATER, ContentHash, File, Integer, Name, Number, Pixels, Positive, Strict
from diffprobe.config.kinds import Kind
from diffprobe.config.masks import Masks
from diffprobe.config.problems import Problem
from diffprobe.config.sources import Facts, Source


class Split(Kind, family=True):
    """A rule that divides images into train, select and test. `build` names its function (see `data.splits`)."""

    def counts(self, facts: Facts) -> tuple[int, int]:
        """Approximate number of images in `select` and `test`. Needs complete facts."""
        raise NotImplementedError

    def problems(self, key: str, facts: Facts, source: str) -> Iterator[Problem]:
        """Settings that do not suit the images of this kind of source."""
        yield from ()


class Stratified(Split):
    """A fraction of each class, in a seeded random order."""

    kind: Literal["stratified"]
    build: ClassVar[str] = "diffprobe.data.splits:by_class"

    seed: Integer = Field(0, description="Seed of the order in which images are assigned.")
    select: Number = Field(
        0.15, gt=0, lt=1, description="Fraction of each class for choosing layer, noise level and checkpoint."
    )
    test: Number = Field(0.2, gt=0, lt=1, description="Fraction of each class that is read once, for the final result.")

    def counts(self, facts: Facts) -> tuple[int, int]:
        """Assumes classes of equal size."""
        images, classes = facts.images or 0, max(facts.classes or 1, 1)
        # Every class is rounded by itself, as `data.splits.by_class` does.
        sizes = [images // classes + (i < images % classes) for i in range(classes)]
        return sum(round(self.select * size) for size in sizes), sum(round(self.test * size) for size in sizes)

    def problems(self, key: str, facts: Facts, source: str) -> Iterator[Problem]:
        if self.select + self.test >= 1:
            yield f"{key}.test", self.test, f"a fraction that leaves images for train, with select = {self.select:g}"
            return
        for part, share in (("select", self.select), ("test", self.test)):
            if facts.smallest is not None and round(share * facts.smallest) < 1:
                yield f"{key}.{part}", share, "a fraction that holds an image of every class"


class Official(Split):
    """The dataset's own test split. `select` is its own too, or else the last images of train (of each class if
    sorted).
    """

    kind: Literal["official"]
    build: ClassVar[str] = "diffprobe.data.splits:by_source"

    select: Number = Field(0.1, gt=0, lt=1, description="Fraction of train, if the dataset has no such split.")

    def counts(self, facts: Facts) -> tuple[int, int]:
        images, official = facts.images or 0, facts.official or 0
        return round(self.select * (images - official)), official

    def problems(self, key: str, facts: Facts, source: str) -> Iterator[Problem]:
        if facts.official == 0:
            yield f"{key}.kind", self.kind, f"stratified or last ({source} has no official test split)"


class Last(Split):
    """The last images: `test` at the very end, `select` before it."""

    kind: Literal["last"]
    build: ClassVar[str] = "diffprobe.data.splits:by_position"

    select: Positive = Field(description="Number of images.")
    test: Positive = Field(description="Number of images.")

    def counts(self, facts: Facts) -> tuple[int, int]:
        return self.select, self.test

    def problems(self, key: str, facts: Facts, source: str) -> Iterator[Problem]:
        if facts.images and self.select + self.test >= facts.images:
            yield f"{key}.test", self.test, f"a number that leaves some of the {facts.images:,} images for train"


class Dataset(Strict):
    """A set of images, with or without labels."""

    source: Source = Field(description="Where the images come from.")
    size: Pixels | None = Field(
        None,
        description="Height and width in pixels; null: the dataset's own. Required for `folder`, `zip` and photos.",
    )
    channels: Literal[1, 3] | None = Field(
        None, description="1: grey, 3: colour; null: the dataset's own, 3 for folders and zips."
    )
    resize: Literal["crop", "plain"] = Field(
        "crop", description="`crop`: ADM's centre crop (box halving, then bicubic). `plain`: the whole image, bicubic."
    )
    decode: Annotated[Literal["once", "when_read"], LATER] = Field(
        "once",
        description="`once`: `images.h5` stores the pixels. `when_read`: it stores only file locations (`folder`, "
        "`zip`, `imagenet`, `tiny_imagenet`, `celebahq`) and every job decodes what it reads. This avoids a second "
        "copy of large sets, such as ImageNet encoded to latents. The files must not change: a job that reads a "
        "missing or modified file stops and names it.",
    )
    masks: Annotated[Masks | None, LATER] = Field(
        None,
        description="Masks of the images, for evaluators of kind `dense`; cropped and resized like the images, by "
        "nearest neighbour; null: none.",
    )
    only: Annotated[Literal["train", "test"] | None, LATER] = Field(
        None, description="Keep only the images of the source's own train or test split; null: all."
    )
    per_class: Positive | None = Field(None, description="Keep only the first N images of each class; null: all.")
    split: Split | None = Field(
        None, description="Split rule; null: `official` if the dataset has a test split, else `stratified`."
    )
    content: Annotated[ContentHash | None, LATER] = Field(
        None,
        description="Hash of the pixels, labels and splits that must come out, as in the receipt of `images`; others "
        "are refused. It proves that two people have the same images, whatever they came in; null: not compared.",
    )
    references: dict[Name, File] = Field(
        {},
        description="Precomputed reference statistics by extractor: .npz files with `mu` and `sigma`, as written by "
        "pytorch-fid, EDM and ADM. They replace those computed here.",
    )

    @property
    def local_paths(self) -> list[str]:
        """Local files and folders that images and masks are read from, which may change."""
        return [*self.source.local_paths, *(self.masks.local_paths if self.masks else [])]

    @property
    def facts(self) -> Facts:
        """What is certain about the images before any is read, with this config applied."""
        facts = self.source.facts
        facts = facts._replace(size=self.size or facts.size, channels=self.channels or facts.channels)
        if self.only:
            facts = one_split(facts, self.only)
        return limited(facts, self.per_class) if self.per_class else facts

    @property
    def split_rule(self) -> Split | None:
        """The rule in effect; None if only reading shows whether there is an official test split."""
        if self.split:
            return self.split
        official = self.facts.official  # 0: certainly none
        return None if official is None else Official(kind="official") if official else Stratified(kind="stratified")

    @property
    def split_rows(self) -> dict[str, int] | None:
        """Approximate number of images in each split; None if only reading shows."""
        facts, rule = self.facts, self.split_rule
        if facts.images is None or rule is None:
            return None
        select, test = rule.counts(facts)
        return {"train": facts.images - select - test, "select": select, "test": test}

    def problems(self, key: str) -> Iterator[Problem]:
        facts, source = self.facts, self.source.kind
        if facts.size is None:
            yield f"{key}.size", self.size, f"a height and width in pixels (required for a {source})"
        if self.decode == "when_read" and self.source.as_arrays:
            yield f"{key}.decode", self.decode, f"once ({source} consists of arrays, not image files)"
        if self.only and self.source.facts.official == 0:
            yield f"{key}.only", self.only, f"null ({source} has no official test split)"
        if self.split is not None:
            yield from self.split.problems(f"{key}.split", facts, source)
        if self.masks is not None:
            yield from self.masks.problems(f"{key}.masks", self)


def one_split(facts: Facts, only: str) -> Facts:
    """The facts when only the images of the source's own train or test split are kept, which have no split then."""
    if facts.images is None or facts.official is None:
        return facts._replace(images=None, smallest=None, official=0)
    images = facts.official if only == "test" else facts.images - facts.official
    return facts._replace(images=images, smallest=None, official=0)


def limited(facts: Facts, per_class: int) -> Facts:
    """The facts when only the first images of each class are kept, in train and in an official test split."""
    if facts.images is None or facts.classes is None or facts.official is None:
        return facts
    classes = max(facts.classes, 1)  # without labels all images count as one class
    train = min(facts.images - facts.official, per_class * classes)
    official = min(facts.official, per_class * classes)
    smallest = facts.smallest and min(facts.smallest, per_class)
    return facts._replace(images=train + official, official=official, smallest=smallest)
