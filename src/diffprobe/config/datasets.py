"""Datasets: where images come from, how they are fitted, how they are split."""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from diffprobe.config.base import LATER, Integer, Name, Number, Path, Positive, Strict
from diffprobe.config.kinds import Kind
from diffprobe.config.problems import Problem
from diffprobe.config.sources import Facts, Source


class Split(Kind, family=True):
    """How images are divided into train, select and test (see `data.splits`). `build` names the function."""

    def counts(self, facts: Facts) -> tuple[int, int]:
        """Images of `select` and of `test`, right to a few; all facts are there."""
        raise NotImplementedError

    def problems(self, key: str, facts: Facts, source: str) -> Iterator[Problem]:
        """What does not go with the images of a kind of source."""
        yield from ()


class Stratified(Split):
    """Shares of each class, in an order keyed by a seed."""

    kind: Literal["stratified"]
    build: ClassVar[str] = "diffprobe.data.splits:by_class"

    seed: Integer = Field(0, description="Seed of the order from which the splits are cut.")
    select: Number = Field(
        0.15, gt=0, lt=1, description="Share of each class on which layer, level and checkpoint are chosen."
    )
    test: Number = Field(0.2, gt=0, lt=1, description="Share of each class that is read once, for the chosen row.")

    def counts(self, facts: Facts) -> tuple[int, int]:
        """As if classes were of equal size."""
        images, classes = facts.images or 0, max(facts.classes or 1, 1)
        sizes = [images // classes + (i < images % classes) for i in range(classes)]
        return sum(round(self.select * size) for size in sizes), sum(round(self.test * size) for size in sizes)

    def problems(self, key: str, facts: Facts, source: str) -> Iterator[Problem]:
        if self.select + self.test >= 1:
            yield f"{key}.test", self.test, f"a share that leaves some for train beside select = {self.select:g}"
            return
        for part, share in (("select", self.select), ("test", self.test)):
            if facts.smallest is not None and round(share * facts.smallest) < 1:
                yield f"{key}.{part}", share, "a share that holds an image of every class"


class Official(Split):
    """The dataset's own `test`; `select` is its own, or the last share of its train (of each class, if sorted)."""

    kind: Literal["official"]
    build: ClassVar[str] = "diffprobe.data.splits:by_source"

    select: Number = Field(0.1, gt=0, lt=1, description="Share of train, where the dataset has no such split.")

    def counts(self, facts: Facts) -> tuple[int, int]:
        images, official = facts.images or 0, facts.official or 0
        return round(self.select * (images - official)), official

    def problems(self, key: str, facts: Facts, source: str) -> Iterator[Problem]:
        if facts.official == 0:
            yield f"{key}.kind", self.kind, f"stratified or last ({source} has no test of its own)"


class Last(Split):
    """The last images: `test` at the very end, `select` before it."""

    kind: Literal["last"]
    build: ClassVar[str] = "diffprobe.data.splits:by_position"

    select: Positive = Field(description="How many images.")
    test: Positive = Field(description="How many images.")

    def counts(self, facts: Facts) -> tuple[int, int]:
        return self.select, self.test

    def problems(self, key: str, facts: Facts, source: str) -> Iterator[Problem]:
        if facts.images and self.select + self.test >= facts.images:
            yield f"{key}.test", self.test, f"a number that leaves some of {facts.images:,} images for train"


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
    decode: Annotated[Literal["once", "when_read"], LATER] = Field(
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

    @property
    def facts(self) -> Facts:
        """What is certain of its images before any is read, as this config has them."""
        facts = self.source.facts
        facts = facts._replace(size=self.size or facts.size, channels=self.channels or facts.channels)
        return limited(facts, self.per_class) if self.per_class else facts

    @property
    def split_rule(self) -> Split | None:
        """The rule that holds; None where only reading shows whether there is an official test."""
        if self.split:
            return self.split
        official = self.facts.official
        return None if official is None else Official(kind="official") if official else Stratified(kind="stratified")

    @property
    def split_rows(self) -> dict[str, int] | None:
        """Rows of each split, right to a few; None where only reading shows."""
        facts, rule = self.facts, self.split_rule
        if facts.images is None or rule is None:
            return None
        select, test = rule.counts(facts)
        return {"train": facts.images - select - test, "select": select, "test": test}

    def problems(self, key: str) -> Iterator[Problem]:
        facts, source = self.facts, self.source.kind
        if facts.size is None:
            yield f"{key}.size", self.size, f"the height and width to bring the images of a {source} to"
        if self.decode == "when_read" and self.source.as_arrays:
            yield f"{key}.decode", self.decode, f"once ({source} comes as arrays, not as files)"
        if self.split is not None:
            yield from self.split.problems(f"{key}.split", facts, source)


def limited(facts: Facts, per_class: int) -> Facts:
    """With only the first images of each class, of train and of an official test."""
    if facts.images is None or facts.classes is None or facts.official is None:
        return facts
    classes = max(facts.classes, 1)
    train = min(facts.images - facts.official, per_class * classes)
    official = min(facts.official, per_class * classes)
    smallest = facts.smallest and min(facts.smallest, per_class)
    return facts._replace(images=train + official, official=official, smallest=smallest)
