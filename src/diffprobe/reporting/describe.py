"""The cost of an experiment, computed without running any of it: its network, its stores, its jobs."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypedDict

from diffprobe.config.inferred import augment_label, conditional, model_space
from diffprobe.config.load import used
from diffprobe.config.models import Config
from diffprobe.config.training import checkpoint_steps
from diffprobe.data.splits import SPLITS
from diffprobe.plan.graph import stages
from diffprobe.plan.layout import Layout, receipt
from diffprobe.reporting.network_cost import NetworkCost, remembered_cost
from diffprobe.reporting.sizes import store_bytes
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.receipts import read_receipt

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

PEAK = "features at their peak"  # while a grid is scored
CLASSES = 10  # assumed for a dataset whose classes are not counted yet


class DatasetShape(TypedDict):
    name: str
    image: list[int | None]  # C, H, W
    rows: dict[str, int] | None  # by split; None before the images are read


class LatentShape(TypedDict):
    name: str
    shape: list[int]  # C, H, W


class TrainingCost(TypedDict):
    images: int
    flops: int


class Description(TypedDict):
    """An experiment's costs, as `describe --json` prints them."""

    experiment: str
    dataset: DatasetShape
    latents: LatentShape | None
    network: NetworkCost
    probed: list[str]  # taps
    training: TrainingCost
    bytes: dict[str, int]  # by store, and `total`
    jobs: dict[str, int]  # by rule


def describe(config: Config, experiment: str | None = None) -> list[Description]:
    """The costs of one experiment, or of each. Raises UserError for an unknown name."""
    if experiment is not None and experiment not in config.experiments:
        raise UserError(f"{experiment}: no such experiment; there are {', '.join(config.experiments)}")
    return [description(config, name) for name in ([experiment] if experiment else config.experiments)]


def description(config: Config, name: str) -> Description:
    """The costs of one experiment: FLOPs per image, sizes in bytes, counts of images and jobs."""
    experiment = config.experiments[name]
    dataset = config.datasets[experiment.dataset]
    channels, size = model_space(config, experiment)
    rows, classes = counts(config, experiment.dataset)
    if size is None:
        raise UserError(f"datasets.{experiment.dataset}.size: missing; expected a number of pixels")
    labelled = conditional(config, experiment) or experiment.network.classifies
    labels = {"classes": classes if labelled else 0}
    labels |= {"augment": augment_label(config, experiment)}
    # A network without labels has no such argument.
    present = {label: n for label, n in labels.items() if n} | experiment.process.output_shape(channels)
    task = {"task": experiment.task.model_dump(mode="json")} if experiment.task.model else {}
    network = remembered_cost({"network": experiment.network.argument(), **task}, (channels, size, size), **present)
    shown = {*experiment.taps, *experiment.probed_taps}
    network["taps"] = [tap for tap in network["taps"] if tap["tap"] in shown]
    latents: LatentShape | None = None
    if experiment.latents:
        latents = {"name": experiment.latents, "shape": [channels, size, size]}
    train = experiment.train
    # Whole batches, as the loop trains; imported weights are not trained.
    images = 0 if train.imported else checkpoint_steps(train.checkpoints[-1], train.batch) * train.batch
    return {
        "experiment": name,
        "dataset": {
            "name": experiment.dataset,
            "image": [dataset.facts.channels, *2 * [dataset.facts.size]],
            "rows": rows,
        },
        "latents": latents,
        "network": network,
        "probed": experiment.probed_taps,
        "training": {"images": images, "flops": images * network["training_flops"]},
        "bytes": store_bytes(config, experiment, rows, network),
        "jobs": jobs(config, name),
    }


def counts(config: Config, dataset: str) -> tuple[dict[str, int] | None, int]:
    """Rows of each split and the number of classes: as published, else from the receipt of the image store.

    Before the images are read, the rows of an unpublished dataset are None and its classes taken to be CLASSES.
    """
    rows, classes = config.datasets[dataset].split_rows, config.datasets[dataset].facts.classes
    if rows is None or classes is None:
        recorded = read_receipt(receipt(Layout(config.results).images(dataset))) or {}
        if "store" not in recorded:
            return rows, CLASSES if classes is None else classes
        store = recorded["store"]
        rows, classes = {split: store[split] for split in SPLITS}, len(store["classes"])
    return rows, classes


def jobs(config: Config, name: str) -> dict[str, int]:
    """The number of jobs of each rule, including those that the experiment shares with others."""
    experiment = config.experiments[name]
    # As if it were the only experiment of the config.
    alone = used(config.model_copy(update={"experiments": {name: experiment}}))
    return dict(Counter(stage.rule for stage in stages(alone)))


def as_json(experiments: list[Description]) -> str:
    return json.dumps(experiments, indent=2)


def show(experiments: list[Description], console: "Console | None" = None) -> None:
    """Print as compact tables on a rich console, by default the terminal."""
    from rich.console import Console

    console = console or Console(highlight=False)
    for row in experiments:
        for part in (head(row), taps_table(row), stores_table(row), jobs_line(row)):
            console.print(part)


def head(row: Description) -> str:
    dataset, network, training = row["dataset"], row["network"], row["training"]
    counted = ", ".join(f"about {count:,} {split}" for split, count in (dataset["rows"] or {}).items())
    rows = counted or "to be counted when the images are read"
    latents = f"latents   {row['latents']['name']}, {by(row['latents']['shape'])}\n" if row["latents"] else ""
    return (
        f"[bold]{row['experiment']}[/bold]\n"
        f"data      {dataset['name']}, {by(dataset['image'])}; {rows}\n"
        f"{latents}"
        f"network   {network['parameters']:,} parameters, {network['trainable']:,} trainable\n"
        f"one image {si(network['forward_flops'])}FLOP forward, "
        f"{si(network['training_flops'])}FLOP forward and backward\n"
        f"training  {training['images']:,} images, {si(training['flops'])}FLOP"
    )


def taps_table(row: Description) -> "Table":
    table = plain_table("tap", "shape", "FLOP up to it", "probed")
    for tap in row["network"]["taps"]:
        probed = "yes" if tap["tap"] in row["probed"] else ""
        table.add_row(tap["tap"], by(tap["shape"]), si(tap["flops"]), probed)
    return table


def stores_table(row: Description) -> "Table":
    table = plain_table("store", "about")
    for store, size in row["bytes"].items():
        table.add_row(PEAK if store == "features_peak" else store, f"{si(size)}B")
    return table


def jobs_line(row: Description) -> str:
    rules = ", ".join(f"{rule} {count}" for rule, count in row["jobs"].items())
    return f"jobs      {sum(row['jobs'].values())}: {rules}\n"


def plain_table(*columns: str) -> "Table":
    """A table without a frame, its numbers right-aligned."""
    from rich.table import Table

    table = Table(box=None, header_style="dim", pad_edge=False)
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left")
    return table


def by(shape: Sequence[int | None]) -> str:
    return "x".join(map(str, shape))


def si(value: float) -> str:
    """Three significant digits with a decimal prefix: `12.4 G`."""
    for prefix in ("", "k", "M", "G", "T", "P", "E"):
        if value < 999.5 or prefix == "E":
            break
        value /= 1000
    return f"{value:.3g} {prefix}"
