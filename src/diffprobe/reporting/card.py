"""A model's card: a folder for the Hugging Face hub, with its weights, figures, data, receipts and config.

The card is README.md, whose front matter (YAML between two lines `---`) is what the hub reads: licence, tags, and the
results in the form of its `model-index` (https://huggingface.co/docs/hub/model-cards).
"""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from diffprobe.config.autoencoders import Autoencoder, Pretrained, Trained
from diffprobe.config.models import Config
from diffprobe.config.names import figure_of
from diffprobe.interop.exporting import export
from diffprobe.interop.runs import checkpoint_of
from diffprobe.plan.figures import LISTED, PlannedFigure, figures
from diffprobe.plan.inputs import Inputs
from diffprobe.plan.layout import Layout, receipt
from diffprobe.reporting import html
from diffprobe.reporting.comparison import place_words
from diffprobe.reporting.rows import Choice, ResultRow
from diffprobe.reporting.shipped import Shipped, copy_autoencoder, measured, probed
from diffprobe.reporting.tables import is_distance, summary
from diffprobe.runtime.files import atomic, refuse_existing, sha256
from diffprobe.runtime.receipts import RECEIPT, read_receipt
from diffprobe.runtime.results import read_result, whole_receipt
from diffprobe.training import checkpoints

CARD, WEIGHTS, AUTOENCODER, RECEIPTS = "README.md", "model.safetensors", "autoencoder.safetensors", "receipts"
UNKNOWN = "unknown"  # the hub's word for a licence that is not named
PROBING, DRAWING = "image-classification", "unconditional-image-generation"  # the hub's names of tasks


@dataclass(frozen=True)
class Model:
    """A checkpoint of an experiment, and what is known of it."""

    config: Config
    name: str
    kimg: int
    weights: str  # the set of weights: an average's name, or raw
    licence: str
    choice: Choice | None
    rows: Sequence[ResultRow]  # measured of these weights

    @property
    def drawn(self) -> dict[PlannedFigure, bool]:
        """The drawn figures of this checkpoint and of samples by its weights, and those over all checkpoints.

        And whether each is newer than the weights: plots have no receipts, and one that is older shows others.
        """
        layout, experiment = Layout(self.config.results), self.config.experiments[self.name]
        samplers = experiment.sample.samplers
        wanted = [
            one
            for one in figures(layout, self.name, experiment)
            if one.kimg in (None, self.kimg) and (not one.sampler or samplers[one.sampler].weights == self.weights)
        ]
        plots = {one: Path(layout.plot(self.name, one.name)) for one in wanted}
        since = Path(layout.ema(self.name, self.kimg)).stat().st_mtime
        return {one: path.stat().st_mtime >= since for one, path in plots.items() if path.exists()}

    @property
    def figures(self) -> list[PlannedFigure]:
        """Those of them that show these weights."""
        return [one for one, is_newer in self.drawn.items() if is_newer]

    @property
    def autoencoder(self) -> Autoencoder | None:
        """That of its latents; None of a model of pixels."""
        latents = self.config.experiments[self.name].latents
        return self.config.autoencoders[self.config.latents[latents].autoencoder] if latents else None


def write_card(
    config: Config, name: str, out: Path, kimg: int | None = None, weights: str | None = None, licence: str = UNKNOWN
) -> list[str]:
    """Write the folder `out`, which must be new or empty; returns lines that say what is in it. Raises UserError.

    The checkpoint is that at `kimg`, by default the one chosen for the test, or else the latest. What has not been
    measured or drawn yet is left out, and what was made from other weights. `licence` is an identifier of the hub's,
    such as `apache-2.0` or `cc-by-4.0`.
    """
    refuse_existing(out)
    layout = Layout(config.results)
    choice = chosen(Path(layout.choice(name)))
    run = Path(layout.run(name))
    path = checkpoint_of(config, name, kimg if kimg is not None or choice is None else choice["kimg"], weights)
    at, own = int(path.parent.name), weights or checkpoints.header(path)["weights"][0]
    shipped = Shipped(path, sha256(path))
    if choice and not shipped.made(Path(receipt(layout.choice(name)))):
        choice = None
    rows, others = measured(config, name, at, own, shipped)
    model = Model(config, name, at, own, licence, choice, rows)
    trained = path.parent / RECEIPT
    with atomic(out) as partial:
        partial.mkdir()
        export(path, weights, "safetensors", partial / WEIGHTS)
        if isinstance(model.autoencoder, Trained):
            copy_autoencoder(Path(str(Inputs(config).autoencoder(name))), trained, partial / AUTOENCODER)
        papers = [file for file in present(config, name) if shipped.made(Path(file))]
        receipts = [copy_receipt(Path(file), run, partial / RECEIPTS) for file in papers]
        settings: dict[str, Any] = (read_receipt(trained) or {}).get("config", {})
        (partial / "config.yaml").write_text(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))
        summary(model.rows).to_csv(partial / "results.csv", index=False, errors="replace")
        for figure in model.figures:
            copy_figure(layout, name, figure, partial)
        html.save(partial / CARD, card(model))
    count = f"{len(model.figures)} figures, {len(model.rows)} results, {len(receipts)} receipts"
    lines = [f"{out}: the checkpoint at {at} kimg as {WEIGHTS}, {CARD}, {count}"]
    if older := len(model.drawn) - len(model.figures):
        lines.append(f"{older} figures are older than these weights, and are left out: run the experiment again")
    if others:
        lines.append(f"{others} results are of other weights than these, and are left out: run the experiment again")
    if licence == UNKNOWN:
        lines.append("its licence is unknown to the hub: name one with --license, such as --license cc-by-4.0")
    return lines


def chosen(path: Path) -> Choice | None:
    return read_result(path, lambda choice: choice) if path.exists() else None


def present(config: Config, name: str) -> list[str]:
    return [file for file in Inputs(config).receipts(name) if Path(file).exists()]


def copy_receipt(path: Path, run: Path, folder: Path) -> dict[str, Any]:
    """Copy a receipt to its place in a folder, and return it. Raises UserError where it is damaged."""
    receipt = whole_receipt(path)
    target = folder / path.relative_to(run)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)
    return receipt


def copy_figure(layout: Layout, name: str, figure: PlannedFigure, folder: Path) -> None:
    """Copy a figure, and its data where it has any."""
    for file in (layout.plot(name, figure.name), layout.plot_data(name, figure.name)):
        if Path(file).exists():
            target = folder / "figures" / Path(file).relative_to(Path(layout.run(name)) / "plots")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)


# --- the text -----------------------------------------------------------------------------------------------


def card(model: Model) -> str:
    front = yaml.safe_dump(front_matter(model), sort_keys=False, allow_unicode=True)
    return f"---\n{front}---\n\n" + "\n\n".join(body(model)) + "\n"


def front_matter(model: Model) -> dict[str, Any]:
    """What the hub reads of a card."""
    experiment = model.config.experiments[model.name]
    front: dict[str, Any] = {
        "license": model.licence,
        "library_name": "diffprobe",
        "pipeline_tag": DRAWING,
        "tags": ["diffusion", "diffprobe", experiment.network.kind, experiment.process.kind],
    }
    results = [entry(model, row) for row in model.rows if is_shown(row)]
    return front | ({"model-index": [{"name": model.name, "results": results}]} if results else {})


def is_shown(row: ResultRow) -> bool:
    """Whether a row is a distance of samples, or the accuracy on `test` of a classifier of this model's features.

    Rows of another network's features have an extractor, those of decodings a sampler; others are means of overlaps.
    """
    name = row["evaluator"]
    accuracy = row["split"] == "test" and figure_of(name) is None and not name.endswith("_miou")
    return is_distance(name) or (accuracy and "sampler" not in row and "extractor" not in row)


def entry(model: Model, row: ResultRow) -> dict[str, Any]:
    """A result in the form of a model-index."""
    evaluator, dataset = row["evaluator"], model.config.experiments[model.name].dataset
    metric = {"value": round(float(row["value"]), 6), "name": evaluator}
    if is_distance(evaluator):
        return {
            "task": {"type": DRAWING, "name": "Samples"},
            "dataset": {"type": dataset, "name": dataset},
            "metrics": [{"type": str(figure_of(evaluator)), **metric}],
        }
    return {
        "task": {"type": PROBING, "name": "Classification by frozen features"},
        "dataset": {"type": row.get("dataset", dataset), "name": row.get("dataset", dataset), "split": row["split"]},
        "metrics": [{"type": "accuracy", **metric}],
    }


def body(model: Model) -> Iterator[str]:
    """The paragraphs of the text, in Markdown."""
    experiment = model.config.experiments[model.name]
    seen = f"latents ({experiment.latents})" if experiment.latents else "pixels"
    yield f"# {model.name}"
    yield (
        f"A diffusion model ({experiment.network.kind}, {experiment.process.kind}) of {seen} of {experiment.dataset}, "
        f"after {model.kimg} thousand training images, trained and measured by diffprobe."
    )
    if model.licence == UNKNOWN:
        yield "No licence was named for these weights."
    if isinstance(model.autoencoder, Trained):
        yield f"`{AUTOENCODER}` makes its latents and decodes them."
    elif isinstance(model.autoencoder, Pretrained):
        yield (
            f"Its latents are those of {model.autoencoder.source}, which is not in this folder: the licence of its "
            f"publisher applies. `{AUTOENCODER}` below is the file that diffprobe makes of it."
        )
    yield "## Use\n\n```python\nimport diffprobe\n\n" + "\n".join(usage(experiment.latents, model.weights)) + "\n```"
    if shown := [row for row in model.rows if is_shown(row)]:
        yield "## Results"
        yield "\n".join(["| figure | on | value |", "|---|---|---|", *map(line, shown)])
        yield (
            "Accuracies are those of classifiers on its features, ± the standard deviation over their seeds. "
            "`results.csv` has every figure."
        )
    subject = probed(model.config, model.name)
    if model.choice and model.choice["kimg"] == model.kimg and subject == model.weights:
        yield f"Layer and noise level, chosen on `{model.choice['selection']}`: {place_words(model.choice)}."
    if model.figures:
        yield "## Figures"
        if subject not in (None, model.weights):
            yield f"These show what was found with the weights `{subject}`; those here are `{model.weights}`."
    for figure in model.figures:
        title = LISTED[figure.kind][1] + (f", {figure.sampler}" if figure.sampler else "")
        data = f" Data: [CSV](figures/{figure.name}.csv)." if figure.has_data else ""
        yield f"![{title}](figures/{figure.name}.png)"
        caption = html.caption(figure.kind, experiment=model.name, kimg=str(model.kimg))
        yield f"**{title[0].upper()}{title[1:]}.** {caption}{data}"
    yield "## How it was made"
    yield (
        f"`config.yaml` is the config of the training; `{RECEIPTS}/` has the config, inputs, code, packages and cost "
        "of every result."
    )


def usage(latents: str | None, weights: str) -> Iterator[str]:
    """Lines of Python that load the weights."""
    more = f', weights="{weights}"' if weights != "ema" else ""
    more += f', autoencoder="{AUTOENCODER}"' if latents else ""
    yield f'model = diffprobe.load("{WEIGHTS}"{more})'
    yield "images = model.sample(16, seed=0)  # uint8 (16, H, W, C)"
    yield "features = model.features(images, sigma=0.1)  # by layer"


def line(row: ResultRow) -> str:
    value = float(row["value"])
    if is_distance(row["evaluator"]):
        return f"| {row['evaluator']} | {row.get('images', '')} samples, {row.get('sampler', '')} | {value:.4g} |"
    spread = row.get("spread")
    bars = f" ± {100 * spread:.1f}" if spread is not None else ""
    return f"| {row['evaluator']} | {row['split']} | {100 * value:.1f}{bars} % |"
