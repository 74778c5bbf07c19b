"""The cost of an experiment, computed without running any of it: its network, its stores, its jobs.

FLOPs are counted operator by operator on the meta device, where tensors have shapes but no memory; one multiply-add is
2 FLOPs. Bytes are before compression. torch is imported inside functions, so that the command line starts fast.
"""

import json
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from diffprobe.config.built import parse_network
from diffprobe.config.checks import checkpoint_steps
from diffprobe.config.datasets import Dataset
from diffprobe.config.inferred import augment_label, conditional, latent_bytes, model_space
from diffprobe.config.models import Config, Experiment
from diffprobe.config.probing import Probe
from diffprobe.data.splits import SPLITS
from diffprobe.plan.graph import stages
from diffprobe.plan.job_arguments import features as part_features
from diffprobe.plan.job_arguments import kept
from diffprobe.plan.layout import Layout, receipt
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import read_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from torch import Tensor, nn

FLOAT32, FLOAT16, UINT8 = 4, 2, 1  # bytes
PEAK = "features at their peak"  # while a grid is scored
RAW_AND_MOMENTS = 3  # copies of every weight in a training state, besides its averages: raw, two moments of Adam
CLASSES = 10  # assumed for a dataset whose classes are not counted yet


class TapCost(TypedDict):
    tap: str
    shape: list[int]  # C, H, W
    flops: int  # forward, up to this tap


class NetworkSize(TypedDict):
    parameters: int
    trainable: int
    forward_flops: int  # of one image
    training_flops: int  # forward and backward, of one image


class NetworkCost(NetworkSize):
    taps: list[TapCost]


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
    labels = {"classes": classes if conditional(config, experiment) else 0}
    labels |= {"augment": augment_label(config, experiment)}
    network = cost(
        experiment.network.argument(), (channels, size, size), **{kind: n for kind, n in labels.items() if n}
    )
    train = experiment.train
    images = 0 if train.imported else checkpoint_steps(train.checkpoints[-1], train.batch) * train.batch
    return {
        "experiment": name,
        "dataset": {
            "name": experiment.dataset,
            "image": [dataset.facts.channels, *2 * [dataset.facts.size]],
            "rows": rows,
        },
        "latents": {"name": experiment.latents, "shape": [channels, size, size]} if experiment.latents else None,
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
        path = Path(receipt(Layout(config.results).images(dataset)))
        if not path.exists():
            return rows, CLASSES if classes is None else classes
        store = read_json(path)["store"]
        rows, classes = {split: store[split] for split in SPLITS}, len(store["classes"])
    return rows, classes


def cost(network: dict[str, Any], image: tuple[int, int, int], **labels: int) -> NetworkCost:
    """Size and FLOPs of a network (its part of the config) on an image (C, H, W); shape and cost of each tap.

    `labels` has the number of `classes` and the length of the `augment` label, each only where the network has one.
    """
    from diffprobe.networks.flops import on_meta

    module, inputs = on_meta(parse_network(network), image, **labels)
    return {**whole_cost(module, inputs), "taps": tap_costs(module, inputs)}


def whole_cost(module: "nn.Module", inputs: "tuple[Tensor, ...]") -> NetworkSize:
    from diffprobe.networks.flops import flops, training_flops

    return {
        "parameters": sum(p.numel() for p in module.parameters()),
        "trainable": sum(p.numel() for p in module.parameters() if p.requires_grad),
        "forward_flops": flops(lambda: module(*inputs)),
        "training_flops": training_flops(module, inputs),
    }


def tap_costs(module: Any, inputs: "tuple[Tensor, ...]") -> list[TapCost]:
    """Each tap's shape (C, H, W), and the FLOPs when nothing after it is computed."""
    from diffprobe.networks.flops import flops

    features = module(*inputs, taps=module.taps)[1]
    costs: list[TapCost] = []
    for tap in module.taps:
        only = partial(module, *inputs, taps=[tap], features_only=True)
        costs.append({"tap": tap, "shape": list(features[tap].shape[1:]), "flops": flops(only)})
    return costs


def store_bytes(
    config: Config, experiment: Experiment, rows: dict[str, int] | None, network: NetworkCost
) -> dict[str, int]:
    """Bytes of each store that the experiment fills, and their total.

    Without `rows`, those that grow with the dataset (images, latents, features) are left out.
    """
    image = config.datasets[experiment.dataset].facts
    pixels = image.channels * (image.size or 0) ** 2 * UINT8  # the checks have made sure that there is a size
    weights = network["parameters"] * FLOAT32
    checkpoints = len(experiment.train.checkpoints)
    averages = len(experiment.train.averages)
    sizes = {
        "checkpoints": checkpoints * (averages + 1) * weights,  # averages and raw
        "states": (checkpoints if config.state.keep == "all" else 1) * (averages + RAW_AND_MOMENTS) * weights,
        "samples": checkpoints * len(experiment.sample.samplers) * kept(experiment) * pixels,
    }
    if rows:
        images = image_bytes(config.datasets[experiment.dataset], sum(rows.values()) * pixels)
        latents = {"latents": latent_bytes(config, experiment.latents, rows) or 0} if experiment.latents else {}
        sizes = {"images": images} | latents | sizes
        if experiment.probe:
            sizes |= feature_bytes(config, experiment, experiment.probe, rows, network)
    peak = sizes.pop("features_peak", 0)  # not in the total: removed again when the grid is scored
    return {**sizes, "total": sum(sizes.values())} | ({"features_peak": peak} if peak else {})


def image_bytes(dataset: Dataset, pixels: int) -> int:
    """Of an image store: hardly anything where files are decoded when they are read."""
    return 0 if dataset.decode == "when_read" else pixels


def feature_bytes(
    config: Config, experiment: Experiment, probe: Probe, rows: dict[str, int], network: NetworkCost
) -> dict[str, int]:
    """Of the features that are kept, and the peak while one checkpoint's grid is scored.

    The choice is taken to fall on the widest tap.
    """
    probed = experiment.probed_taps
    factor = FLOAT16 * (2 if probe.pooling == "mean_std" else 1)
    shapes = [tap["shape"] for tap in network["taps"] if tap["tap"] in probed]
    wide = sum(shape[0] for shape in shapes) * factor  # of all taps, pooled over positions
    one = part_features(experiment, 0)
    fitted = sum(rows[split] for split in one["fit"])
    plain = fitted if one["plain"] or not probe.augmented else 0
    level = (probe.augmented * fitted + probe.draws * (plain + rows[one["read"]])) * wide
    # A search keeps its coarse levels and two more per round; otherwise each level is there once.
    levels = probe.search.coarse + 2 * probe.search.rounds if probe.search else len(probe.levels)
    grid = level * levels
    copies = probe.draws * len(probe.seeds) * sum(rows.values()) + probe.augmented * (rows["train"] + rows["select"])
    kept = copies * max((cell_bytes(probe, shape, factor) for shape in shapes), default=0)
    if config.state.keep_features == "all":
        kept += grid * len(experiment.train.checkpoints)
    return {"features": kept, "features_peak": kept + grid}


def cell_bytes(probe: Probe, shape: list[int], pooled: int) -> int:
    """Of the chosen cell's features for one copy of an image, were all taps (C, H, W) like this one.

    `pooled` is the bytes of a channel once pooled over positions.
    """
    joined = {(cell.tap, str(cell.level)) for e in probe.evaluators.values() for cell in e.combine}
    tokens = any(evaluator.tokens for evaluator in probe.evaluators.values())
    return (1 + len(joined)) * shape[0] * pooled + tokens * shape[0] * shape[1] * shape[2] * FLOAT16


def jobs(config: Config, name: str) -> dict[str, int]:
    """The number of jobs of each rule, including those that the experiment shares with others."""
    experiment = config.experiments[name]
    datasets = {experiment.dataset: config.datasets[experiment.dataset]}
    alone = config.model_copy(update={"experiments": {name: experiment}, "datasets": datasets})
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
