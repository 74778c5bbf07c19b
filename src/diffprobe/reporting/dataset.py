"""What was seen of a dataset: images, classes, splits, what was left out and why. For the terminal and the report."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel

from diffprobe.config.datasets import Dataset
from diffprobe.data.filenames import display
from diffprobe.data.prepared import Prepared
from diffprobe.data.splits import SELECT, SPLITS
from diffprobe.data.survey import NOTHING_ELSE, Survey
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.receipts import read_receipt
from diffprobe.runtime.results import AGAIN

if TYPE_CHECKING:
    from rich.console import Console

SHOWN = 8  # classes, and kinds of files left out, that a terminal shows
RESIZED = {"crop": "the centre of each image", "plain": "each image as a whole, its proportions given up"}


class DatasetFacts(BaseModel):
    """What the table shows, as receipts keep it."""

    images: int
    classes: dict[str, int | None] = {}  # images by class, None if not counted; empty without labels
    splits: dict[str, int]
    split_rule: str = ""
    size: str = ""
    masks: tuple[str, ...] = ()  # their classes; empty without masks
    survey: Survey | None


def facts(dataset: Dataset, prepared: Prepared) -> DatasetFacts:
    listing = prepared.listing
    counts = np.bincount(listing.labels[listing.labels >= 0], minlength=len(listing.classes)).tolist()
    splits = np.bincount(prepared.split, minlength=len(SPLITS)).tolist()
    side = f"{dataset.size}x{dataset.size} pixels, {RESIZED[dataset.resize]}" if dataset.size else "their own"
    return DatasetFacts(
        images=len(listing.labels),
        classes=dict(zip(listing.classes, counts, strict=True)),
        splits=dict(zip(SPLITS, splits, strict=True)),
        split_rule=rule_of(prepared),
        size=side,
        masks=listing.masks.names if listing.masks else (),
        survey=listing.survey,
    )


def read_facts(path: Path) -> DatasetFacts:
    """The facts in the receipt of a store of images. Raises UserError where that is damaged."""
    try:
        if (receipt := read_receipt(path)) is not None:
            return of_receipt(receipt)
    except (KeyError, TypeError, ValueError):  # pydantic's too
        pass
    raise UserError(f"{path}: is damaged; {AGAIN}")


def of_receipt(receipt: dict[str, Any]) -> DatasetFacts:
    """The facts in the receipt of a store of images; fewer if it was made before they were kept."""
    if "seen" in receipt:
        return DatasetFacts.model_validate(receipt["seen"])
    store = receipt["store"]
    return DatasetFacts(
        images=store["images"],
        classes=dict.fromkeys(store["classes"]),
        splits={split: store[split] for split in SPLITS},
        survey=None,
    )


def rule_of(prepared: Prepared) -> str:
    """How the images were divided."""
    listing, kind = prepared.listing, prepared.rule.kind
    rules = {
        "stratified": "a share of each class" if listing.classes else "a share of the images, in a seeded order",
        "official": listing.survey.splits_from or "the source's own",
        "last": "the last images",
    }
    # A split that the source lacks is cut from its train.
    cut = kind == "official" and listing.official is not None and not (listing.official == SELECT).any()
    return rules.get(kind, kind) + (", select cut from train" if cut else "")


def rows(seen: DatasetFacts, shown: int | None = None) -> Iterator[tuple[str, str]]:
    """(what, text) of each line, without what is unknown; `shown` limits the classes and the kinds of files."""
    survey = seen.survey or NOTHING_ELSE
    yield "images", f"{seen.images:,}"
    if seen.classes:
        source = f", from {survey.labels_from}" if survey.labels_from else ""
        classes = [display(name) + (f" ({count:,})" if count else "") for name, count in seen.classes.items()]
        yield "classes", f"{len(classes):,}{source}: {', '.join(first(classes, shown))}"
    else:
        yield "classes", "none: images without labels"
    rule = f" ({seen.split_rule})" if seen.split_rule else ""
    yield "splits", ", ".join(f"{name} {count:,}" for name, count in seen.splits.items()) + rule
    if seen.size:
        yield "size", seen.size
    if seen.masks:
        yield "masks", f"{len(seen.masks):,} classes: {', '.join(first(list(map(display, seen.masks)), shown))}"
    left_out = [item.text for item in survey.left_out]
    for text in first(left_out, shown) or (["nothing"] if seen.survey else []):
        yield "left out", text
    for note in survey.notes:
        yield "note", note


def first(texts: Sequence[str], shown: int | None) -> list[str]:
    """The first `shown` texts and how many more there are."""
    if shown is None or len(texts) <= shown:
        return list(texts)
    return [*texts[:shown], f"and {len(texts) - shown:,} more"]


def show(name: str, seen: DatasetFacts, more: Sequence[tuple[str, str]] = (), console: "Console | None" = None) -> None:
    """Print the table, by default to the terminal's error stream, where the workflow reports; plain in a pipe."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    lines = [*rows(seen, SHOWN), *more]
    console = console or Console(stderr=True, highlight=False)
    if not console.is_terminal:  # a pipe has no width
        print(name, *(f"{what:10}  {text}" for what, text in lines), sep="\n", file=console.file)
        return
    table = Table(box=None, show_header=False, pad_edge=False, title=name, title_justify="left", title_style="bold")
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for i, (what, text) in enumerate(lines):
        table.add_row("" if i and what == lines[i - 1][0] else what, Text(text))
    console.print(table)
