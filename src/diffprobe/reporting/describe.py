"""What an experiment will cost, told without running any of it: its network, its stores, its jobs.

FLOPs are counted operator by operator on the meta device, where tensors have shapes and no memory; one
multiply-add is 2 FLOPs. Bytes are those before compression. torch is imported where it is needed, since the
command line must start fast.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from diffprobe.config.checks import checkpoint_steps
from diffprobe.config.datasets import Dataset
from diffprobe.config.inferred import augment_label, conditional, facts, latent_bytes, model_space, split_rows
from diffprobe.config.models import Config, Experiment
from diffprobe.data.splits import SPLITS
from diffprobe.plan.graph import stages
from diffprobe.plan.job_arguments import features as part_features
from diffprobe.plan.job_arguments import kept, taps
from diffprobe.plan.job_arguments import network as network_subtree
from diffprobe.plan.layout import Layout, receipt
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import read_json

FLOAT32, FLOAT16, UINT8 = 4, 2, 1  # bytes
PEAK = "features at their peak"  # while a grid is scored
RAW_AND_MOMENTS = 3  # copies of every weight in a training state, besides its averages: raw, two moments of Adam


def describe(config: Config, experiment: str | None = None) -> list[dict[str, Any]]:
    """The costs of one experiment, or of each, as plain data. UserError where there is none of this name."""
    if experiment is not None and experiment not in config.experiments:
        raise UserError(f"{experiment}: no such experiment; known: {', '.join(config.experiments)}")
    return [described(config, name) for name in ([experiment] if experiment else config.experiments)]


def described(config: Config, name: str) -> dict[str, Any]:
    """The costs of one experiment: FLOPs per image, sizes in bytes, counts of images and jobs."""
    experiment = config.experiments[name]
    dataset = config.datasets[experiment.dataset]
    channels, size = model_space(config, experiment)
    rows, classes = counts(config, experiment.dataset)
    told = {"classes": classes if conditional(config, experiment) else 0, "augment": augment_label(config, experiment)}
    network = cost(network_subtree(experiment), (channels, size, size), **{k: n for k, n in told.items() if n})
    train = experiment.train
    images = 0 if train.imported else checkpoint_steps(train.checkpoints[-1], train.batch) * train.batch
    return {
        "experiment": name,
        "dataset": {
            "name": experiment.dataset,
            "image": [facts(dataset).channels, *2 * [facts(dataset).size]],
            "rows": rows,
        },
        "latents": experiment.latents and {"name": experiment.latents, "shape": [channels, size, size]},
        "network": network,
        "probed": taps(experiment),
        "training": {"images": images, "flops": images * network["training_flops"]},
        "bytes": store_bytes(config, experiment, rows, network),
        "jobs": jobs(config, name),
    }


def counts(config: Config, dataset: str) -> tuple[dict[str, int] | None, int]:
    """Rows of each split and the number of classes, as known or as found when the images were read; else None, 10."""
    rows, classes = split_rows(config.datasets[dataset]), facts(config.datasets[dataset]).classes
    if rows is None or classes is None:
        path = Path(receipt(Layout(config.results).images(dataset)))
        if not path.exists():
            return rows, 10 if classes is None else classes
        store = read_json(path)["store"]
        rows, classes = {split: store[split] for split in SPLITS}, len(store["classes"])
    return rows, classes


def cost(network: dict[str, Any], image: tuple[int, int, int], **told: int) -> dict[str, Any]:
    """Size and FLOPs of a network (a config subtree) on an image (C, H, W); shape and price of each tap.

    `told` are the numbers of classes and of what it is told of augmentation, where it is.
    """
    from diffprobe.networks.flops import on_meta

    module, inputs = on_meta(network, image, **told)
    return {**whole_cost(module, inputs), "taps": tap_costs(module, inputs)}


def whole_cost(module: Any, inputs: tuple) -> dict[str, int]:
    from diffprobe.networks.flops import flops, training_flops

    return {
        "parameters": sum(p.numel() for p in module.parameters()),
        "trainable": sum(p.numel() for p in module.parameters() if p.requires_grad),
        "forward_flops": flops(lambda: module(*inputs)),
        "training_flops": training_flops(module, inputs),
    }


def tap_costs(module: Any, inputs: tuple) -> list[dict[str, Any]]:
    """Each tap's shape (C, H, W), and the FLOPs when nothing after it is computed."""
    from diffprobe.networks.flops import flops

    found = module(*inputs, taps=module.taps)[1]
    return [
        {
            "tap": tap,
            "shape": list(found[tap].shape[1:]),
            "flops": flops(lambda tap=tap: module(*inputs, taps=[tap], features_only=True)),
        }
        for tap in module.taps
    ]


def store_bytes(config: Config, experiment: Experiment, rows: dict[str, int] | None, network: dict) -> dict[str, int]:
    """Bytes of each store that the experiment fills, and of all; without those that hang on an unknown dataset."""
    known = facts(config.datasets[experiment.dataset])
    pixels = known.channels * known.size**2 * UINT8
    weights = network["parameters"] * FLOAT32
    checkpoints = len(experiment.train.checkpoints)
    averages = len(experiment.train.averages)
    found = {
        "checkpoints": checkpoints * (averages + 1) * weights,  # averages and raw
        "states": (checkpoints if config.state.keep == "all" else 1) * (averages + RAW_AND_MOMENTS) * weights,
        "samples": checkpoints * len(experiment.sample.samplers) * kept(experiment) * pixels,
    }
    if rows:
        images = image_bytes(config.datasets[experiment.dataset], sum(rows.values()) * pixels)
        latents = {"latents": latent_bytes(config, experiment.latents, rows)} if experiment.latents else {}
        found = {"images": images} | latents | found
        found |= feature_bytes(config, experiment, rows, network)
    peak = found.pop("features_peak", 0)  # gone again when the grid is done
    return {**found, "total": sum(found.values())} | ({"features_peak": peak} if peak else {})


def image_bytes(dataset: Dataset, pixels: int) -> int:
    """Of an image store: next to nothing where files are decoded when they are read."""
    return 0 if dataset.decode == "when_read" else pixels


def feature_bytes(config: Config, experiment: Experiment, rows: dict[str, int], network: dict) -> dict[str, int]:
    """Of the features that are kept, and of those of one checkpoint's grid while it is scored; of the widest tap."""
    probe, asked = experiment.probe, taps(experiment)
    if probe is None:
        return {}
    factor = FLOAT16 * (2 if probe.pooling == "mean_std" else 1)
    shapes = [tap["shape"] for tap in network["taps"] if tap["tap"] in asked]
    wide = sum(shape[0] for shape in shapes) * factor  # of all taps, pooled over positions
    one = part_features(experiment, 0)
    fitted = sum(rows[split] for split in one["fit"])
    plain = fitted if one["plain"] or not probe.augmented else 0
    level = (probe.augmented * fitted + probe.draws * (plain + rows[one["read"]])) * wide
    grid = level * level_count(experiment)
    copies = probe.draws * len(probe.seeds) * sum(rows.values()) + probe.augmented * (rows["train"] + rows["select"])
    kept = copies * max((cell_bytes(experiment, shape, factor) for shape in shapes), default=0)
    if config.state.keep_features == "all":
        kept += grid * len(experiment.train.checkpoints)
    return {"features": kept, "features_peak": kept + grid}


def level_count(experiment: Experiment) -> int:
    """Levels of a checkpoint's grid that are there at once."""
    search = experiment.probe.search
    return search.coarse + 2 * search.rounds if search else len(experiment.probe.levels)


def cell_bytes(experiment: Experiment, shape: list[int], pooled: int) -> int:
    """Of what is kept of the choice for a copy of an image, were all taps like this one (C, H, W); `pooled` bytes a
    channel.
    """
    joined = {(cell.tap, str(cell.level)) for e in experiment.probe.evaluators.values() for cell in e.combine}
    tokens = any(evaluator.tokens for evaluator in experiment.probe.evaluators.values())
    return (1 + len(joined)) * shape[0] * pooled + tokens * shape[0] * shape[1] * shape[2] * FLOAT16


def jobs(config: Config, name: str) -> dict[str, int]:
    """How many jobs of each rule the experiment takes by itself, what it shares with others included."""
    experiment = config.experiments[name]
    datasets = {experiment.dataset: config.datasets[experiment.dataset]}
    alone = config.model_copy(update={"experiments": {name: experiment}, "datasets": datasets})
    return dict(Counter(stage.rule for stage in stages(alone)))


def as_json(rows: list[dict[str, Any]]) -> str:
    return json.dumps(rows, indent=2)


def show(rows: list[dict[str, Any]], console: Any = None) -> None:
    """Print as compact tables on a rich console, by default the terminal."""
    from rich.console import Console

    console = console or Console(highlight=False)
    for row in rows:
        for part in (head(row), taps_table(row), stores_table(row), jobs_line(row)):
            console.print(part)


def head(row: dict[str, Any]) -> str:
    dataset, network, training = row["dataset"], row["network"], row["training"]
    counted = ", ".join(f"about {count:,} {split}" for split, count in (dataset["rows"] or {}).items())
    rows = counted or "how many is known once they are read"
    latents = row["latents"] and f"latents   {row['latents']['name']}, {by(row['latents']['shape'])}\n"
    return (
        f"[bold]{row['experiment']}[/bold]\n"
        f"data      {dataset['name']}, {by(dataset['image'])}; {rows}\n"
        f"{latents or ''}"
        f"network   {network['parameters']:,} parameters, {network['trainable']:,} trainable\n"
        f"one image {si(network['forward_flops'])}FLOP forward, "
        f"{si(network['training_flops'])}FLOP forward and backward\n"
        f"training  {training['images']:,} images, {si(training['flops'])}FLOP"
    )


def taps_table(row: dict[str, Any]) -> Any:
    table = plain_table("tap", "shape", "FLOP up to it", "probed")
    for tap in row["network"]["taps"]:
        probed = "yes" if tap["tap"] in row["probed"] else ""
        table.add_row(tap["tap"], by(tap["shape"]), si(tap["flops"]), probed)
    return table


def stores_table(row: dict[str, Any]) -> Any:
    table = plain_table("store", "about")
    for store, size in row["bytes"].items():
        table.add_row(PEAK if store == "features_peak" else store, f"{si(size)}B")
    return table


def jobs_line(row: dict[str, Any]) -> str:
    rules = ", ".join(f"{rule} {count}" for rule, count in row["jobs"].items())
    return f"jobs      {sum(row['jobs'].values())}: {rules}\n"


def plain_table(*columns: str) -> Any:
    """A table without a frame, its numbers to the right."""
    from rich.table import Table

    table = Table(box=None, header_style="dim", pad_edge=False)
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left")
    return table


def by(shape: list[int]) -> str:
    return "x".join(map(str, shape))


def si(value: float) -> str:
    """Three significant digits with a decimal prefix: `12.4 G`."""
    for prefix in ("", "k", "M", "G", "T", "P", "E"):
        if value < 999.5 or prefix == "E":
            break
        value /= 1000
    return f"{value:.3g} {prefix}"
