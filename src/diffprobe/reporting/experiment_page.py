"""The page of one experiment: what was chosen, every figure with its caption and data, the config and the receipts."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import yaml

from diffprobe.plan.figures import LISTED
from diffprobe.reporting import html
from diffprobe.reporting.comparison import place_words
from diffprobe.reporting.rows import Choice
from diffprobe.runtime.results import whole_receipt

FIRST = ("generation and representation", "layer x noise", "samples")  # the subcategories that come first


@dataclass(frozen=True)
class Drawn:
    """A figure of an experiment, as drawn: `at` is a checkpoint and of samples a sampler, `28.heun`."""

    kind: str
    at: str
    png: bytes
    data: bytes | None  # CSV

    @property
    def kimg(self) -> int | None:
        return int(self.at.partition(".")[0]) if self.at else None

    @property
    def stem(self) -> str:
        return f"{self.kind}/{self.at}" if self.at else self.kind


def page(name: str, drawn: Sequence[Drawn], choice: Choice | None, receipts: Mapping[str, dict[str, Any]]) -> str:
    """The page: of the figures those of the last checkpoint and those over all checkpoints."""
    last = max((one.kimg for one in drawn if one.kimg is not None), default=None)
    shown = [one for one in drawn if one.kimg in (None, last)]
    parts = [f"<h1>{escape(name)}</h1>", f"<p>{summary(choice, last)}</p>"]
    groups: dict[str, list[Drawn]] = {group: [] for group in FIRST}
    for one in shown:
        groups.setdefault(LISTED[one.kind][0], []).append(one)
    for group, own in groups.items():
        if own:
            parts += [f"<h2>{escape(group[0].upper() + group[1:])}</h2>", *(section(name, one) for one in own)]
    return html.document(name, [*parts, *records(receipts)])


def summary(choice: Choice | None, last: int | None) -> str:
    """What was chosen, and which checkpoint is shown."""
    words = []
    if choice:
        split = "<code>test</code>, as published" if choice["selection"] == "published" else "<code>select</code>"
        words.append(
            f"Chosen on {split}: <strong>{escape(place_words(choice))}</strong> after {choice['kimg']} thousand "
            f"training images, where {escape(choice['scorer'])} has {100 * choice['accuracy']:.1f} %."
        )
    if last is not None:
        words.append(
            f"Figures of one checkpoint are those of the last, after {last} thousand images; those of the others are "
            "in the folder <code>plots</code>, and in the report's list."
        )
    return " ".join(words)


def section(name: str, one: Drawn) -> str:
    """A figure under its name, with its caption and a link to its data."""
    _, sampler = one.at.partition(".")[::2]
    title = LISTED[one.kind][1] + (f", {sampler}" if sampler else "")
    links = []
    if one.data is not None:
        file = f"{one.stem.replace('/', '.')}.csv"
        links.append(f"Data: {html.download(file, one.data, where=f'plots/{one.stem}.csv')}")
    title = title[0].upper() + title[1:]
    names = {"experiment": name} | ({} if one.kimg is None else {"kimg": str(one.kimg)})
    caption = html.caption(one.kind, **names)
    return f"<h3>{escape(title)}</h3>" + html.figure(one.png, f"{title} of {name}", caption, links)


def records(receipts: Mapping[str, dict[str, Any]]) -> Iterable[str]:
    """The config of the training, and the receipts of every result, each by its path."""
    yield "<h2>How it was made</h2>"
    trained = [receipt for path, receipt in receipts.items() if path.startswith("checkpoints/")]
    if trained:
        config = yaml.safe_dump(trained[-1].get("config", {}), sort_keys=False, allow_unicode=True)
        yield html.details("Config of the training", html.text(config))
    each = [html.details(path, html.text(json.dumps(receipt, indent=1))) for path, receipt in receipts.items()]
    words = f"Receipts of the results ({len(each)}): config, inputs, code, packages, device, cost"
    yield html.details(words, "".join(each))


def read_receipts(paths: Sequence[Path], run: Path) -> dict[str, dict[str, Any]]:
    """Receipts by their paths within a run's folder. Raises UserError where one is damaged."""
    return {str(path.relative_to(run)): whole_receipt(path) for path in paths}
