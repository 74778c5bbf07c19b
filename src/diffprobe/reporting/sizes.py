"""Bytes of the stores that an experiment fills, before compression."""

import math

from diffprobe.config.datasets import Dataset
from diffprobe.config.inferred import latent_bytes
from diffprobe.config.levels import by_level, grid_levels
from diffprobe.config.models import Config, Experiment
from diffprobe.config.names import PARTS
from diffprobe.config.probing import Probe
from diffprobe.plan.job_arguments import kept
from diffprobe.plan.probe_job_arguments import features as part_features
from diffprobe.plan.uses import compared_features
from diffprobe.reporting.network_cost import NetworkCost

FLOAT32, FLOAT16, UINT8 = 4, 2, 1  # bytes
ONE_MOMENT = ("sgd", "muon")  # optimizers with one moment of a weight, or of nearly all
RAW_AND_MOMENTS = 3  # copies of every weight in a training state, besides its averages: raw, two moments of Adam


def store_bytes(
    config: Config, experiment: Experiment, rows: dict[str, int] | None, network: NetworkCost
) -> dict[str, int]:
    """Bytes of each store that the experiment fills, and their total.

    Without `rows`, those that grow with the dataset (images, latents, features) are left out.
    """
    image = config.datasets[experiment.dataset].facts
    pixels = image.channels * (image.size or 0) ** 2 * UINT8  # the checks have made sure that there is a size
    weights = network["trainable"] * FLOAT32  # fixed tables are in no file
    checkpoints = len(experiment.train.checkpoints)
    averages = len(experiment.train.averages)
    # Imported weights are one set without a training state.
    kept_raw = RAW_AND_MOMENTS - (experiment.train.optimizer in ONE_MOMENT)
    sets, states = (1, 0) if experiment.train.imported else (averages + 1, averages + kept_raw)
    sizes = {
        "checkpoints": checkpoints * sets * weights,  # averages and raw
        "states": (checkpoints if config.state.keep == "all" else 1) * states * weights,
        "samples": checkpoints * len(experiment.sample.samplers) * kept(experiment) * pixels,
    }
    probe = experiment.probe
    if probe and (runs := sum(len(evaluator.trials(probe.seeds)) for evaluator in probe.evaluators.values())):
        # Each has an average, raw weights and its last state; at most of the whole network.
        sizes["fine_tuned"] = runs * (2 + 1 + RAW_AND_MOMENTS) * weights
    if rows:
        images = image_bytes(config.datasets[experiment.dataset], sum(rows.values()))
        latents = {"latents": latent_bytes(config, experiment.latents, rows) or 0} if experiment.latents else {}
        sizes = {"images": images} | latents | sizes
        if probe:
            sizes |= feature_bytes(config, experiment, probe, rows, network)
    peak = sizes.pop("features_peak", 0)  # not in the total: removed again when the grid is scored
    return {**sizes, "total": sum(sizes.values())} | ({"features_peak": peak} if peak else {})


def image_bytes(dataset: Dataset, rows: int) -> int:
    """Of an image store: hardly anything but masks where files are decoded when they are read."""
    image = dataset.facts
    planes = (0 if dataset.decode == "when_read" else image.channels) + (1 if dataset.masks else 0)
    return rows * planes * (image.size or 0) ** 2 * UINT8


def feature_bytes(
    config: Config, experiment: Experiment, probe: Probe, rows: dict[str, int], network: NetworkCost
) -> dict[str, int]:
    """Of the features that are kept, and the peak while one checkpoint's grid is scored.

    The choice is taken to fall on the widest tap.
    """
    probed = experiment.probed_taps
    factor = FLOAT16 * PARTS[probe.pooling]
    shapes = {tap["tap"]: tap["shape"] for tap in network["taps"] if tap["tap"] in probed}
    one = part_features(experiment, 0)
    # Augmented copies of the images that heads are fitted on; plain draws of these only where an evaluator needs them.
    fitted = sum(rows[split] for split in one["fit"])
    plain = fitted if one["plain"] or not probe.augmented else 0

    def wide(ratio: float) -> int:
        return sum(shapes[tap][0] for tap in experiment.probed_at(ratio) if tap in shapes) * factor  # pooled

    def level_bytes(ratio: float) -> int:
        draws = probe.draws if ratio and probe.input == "noisy" else 1
        return (probe.augmented * fitted + draws * (plain + rows[one["read"]])) * wide(ratio)

    # A search keeps its coarse levels and two more per round; otherwise each level is there once.
    searched = [1.0] * (probe.search.coarse + 2 * probe.search.rounds) if probe.search else []
    levels = searched or grid_levels(experiment) or []
    grid, checkpoints = sum(map(level_bytes, levels)), len(experiment.train.checkpoints)
    # Those of a subset of images wait for the last checkpoint, with which the others are compared.
    used = any(config.experiments[name] is experiment for name in compared_features(config))
    subset = used * checkpoints * 2 * min(rows[probe.subset.split], probe.subset.images) * sum(map(wide, levels))
    # The chosen cell is computed again in fresh noise, of all splits and for each seed.
    copies = probe.draws * len(probe.seeds) * sum(rows.values()) + probe.augmented * (rows["train"] + rows["select"])
    kept = copies * max((cell_bytes(experiment, probe, shape, factor) for shape in shapes.values()), default=0)
    if config.state.keep_features == "all":
        kept, subset = kept + grid * checkpoints + subset, 0
    return {"features": kept, "features_peak": kept + grid + subset}


def cell_bytes(experiment: Experiment, probe: Probe, shape: list[int], pooled: int) -> int:
    """Of the chosen cell's features for one copy of an image, were all taps (C, H, W) or (D,) like this one.

    `pooled` is the bytes of a channel once pooled over positions.
    """
    # `combine`, `at` and `levels` ask for further cells; `tokens` keeps every position of the tap as well.
    evaluators = probe.heads.values()
    joined = {(cell.tap, str(cell.level)) for e in evaluators for cell in e.named_cells}
    apart = {(e.at and e.at.tap, level) for e in evaluators for level in by_level(e, experiment)}
    tokens = any(evaluator.tokens for evaluator in evaluators)
    return (1 + len(joined) + len(apart)) * shape[0] * pooled + tokens * math.prod(shape) * FLOAT16
