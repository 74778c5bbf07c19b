"""The one JSON argument of each kind of job: the part of the config that its result depends on, and nothing else.

What is left out here retrains and re-evaluates nothing when it changes. A key that came later is left out while it has
its default (`config.base.LATER`), and `tests/job_arguments.json` holds the arguments of every shipped recipe: a line of
it may change only together with a word in the log on what is made anew.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from diffprobe.config import levels
from diffprobe.config.autoencoders import Pretrained, Trained
from diffprobe.config.datasets import Dataset
from diffprobe.config.extractors.classifier import ClassifierExtractor
from diffprobe.config.latents import Latents
from diffprobe.config.models import Config, Experiment
from diffprobe.config.probing import Probe
from diffprobe.config.training import HalfLife, Training
from diffprobe.plan.graph import measured_at_once, reconstructing
from diffprobe.runtime.files import digest

Argument = dict[str, Any]  # plain data
SHOWN, BESIDE = 8, 4  # images in the picture of nearest neighbours, neighbours beside each
REFERENCE = ("train", "select")  # what samples are compared with: the images that generators may see


def dump(model: BaseModel) -> Argument:
    return model.model_dump(mode="json")


def images(dataset: Dataset, state: str | None) -> Argument:
    """`state` changes when a local source does. Without the mirror: the same bytes may come from anywhere."""
    return dataset.model_dump(mode="json", exclude={"source": {"mirror"}, "references": True}) | {"state": state}


# --- training

# Keys of a training that are no part of what it depends on: more checkpoints must not retrain those that stand, and how
# the work is divided among devices and compiled changes only rounding.
NOT_TRAINED_BY = {"checkpoints", "imported", "devices", "device_batch", "compile"}
OF_LATENTS = {"window_mib", "latents_as"}  # keys without a meaning for a training in pixels


def plain_training(train: Argument) -> Argument:
    """The options of a training with one average, the others those of the loop."""
    average = HalfLife(kind="half_life", kimg=train.pop("ema_kimg"), ramp=train.pop("ema_ramp"))
    defaults = dump(Training(checkpoints=[1], averages={"ema": average}))
    return {key: value for key, value in defaults.items() if key not in NOT_TRAINED_BY | OF_LATENTS} | train


def pretrain(config: Config, experiment: Experiment) -> Argument:
    """The task's own settings stand beside the parts that it trains."""
    settings = dump(experiment.task)
    argument = {"task": settings.pop("kind"), **imported(experiment), **settings}
    unused = NOT_TRAINED_BY if experiment.latents else NOT_TRAINED_BY | OF_LATENTS
    argument["train"] = experiment.train.model_dump(mode="json", exclude=unused)
    if experiment.latents is not None:
        argument["latents"] = latents(config, experiment.latents)
    return argument


def imported(experiment: Experiment) -> Argument:
    """What weights from elsewhere must have been imported as."""
    return {"network": experiment.network.argument(), "process": dump(experiment.process)}


LOSSES = ("reconstruction", "kl_weight", "perceptual", "adversary")  # the parts of an autoencoder's loss


def autoencoder(autoencoder: Trained) -> Argument:
    """Where the weights for LPIPS lie changes nothing: the job names them by their content."""
    without: Mapping[str, Any] = {"kimg": True, "device_batch": True, "perceptual": {"vgg": True}}
    train = autoencoder.train.model_dump(mode="json", exclude=dict(without))
    losses = {key: train.pop(key) for key in LOSSES}
    codec = autoencoder.model_dump(mode="json", include={"network", "size", "resize"})
    return {"task": "autoencoding", **codec, "losses": losses, "train": plain_training(train)}


def classifier(extractor: ClassifierExtractor) -> Argument:
    """As a training run; labels of `train` only."""
    train = {"batch": extractor.batch, "lr": extractor.lr, "seed": extractor.seed, "splits": ["train"]}
    return {
        "task": "classification",
        "network": {"kind": "classifier", "channels": extractor.channels},
        "train": plain_training(train | {"ema_kimg": 2.0, "ema_ramp": 0.1}),
    }


# --- latents


def pretrained(autoencoder: Pretrained, state: str | None) -> Argument:
    """`state` changes when a local folder does."""
    return dump(autoencoder) | {"state": state}


def latents(config: Config, name: str) -> Argument:
    """What a store is made with, besides the images and the autoencoder's weights; the batch changes no byte."""
    store = config.latents[name]
    if store.imported:
        return imported_latents(config, store)
    return store.model_dump(mode="json", include={"views", "scale", "seed", "imported"})


def imported_latents(config: Config, store: Latents) -> Argument:
    """Not where the files lie: their bytes speak for them, if not for a scale that the autoencoder has published."""
    assert store.imported is not None
    of = {"of": dump(config.autoencoders[store.autoencoder])} if store.scale == "published" else {}
    imported = store.imported.model_dump(mode="json", include={"kind", "scaled"})
    return {"imported": imported, "scale": store.scale, **of}


def encode(config: Config, name: str) -> Argument:
    """An encoding job's share; the job that completes the store finds its scale."""
    return config.latents[name].model_dump(mode="json", include={"views", "seed", "precision", "shard_chunks"})


def finish(config: Config, name: str) -> Argument:
    """How a store's scale is found; all else is in the receipts of the jobs that have encoded it."""
    return {"scale": config.latents[name].scale}


def import_latents(config: Config, name: str, state: str | None) -> Argument:
    """`state` changes when the files do; with the shape of a latent, and whether test is read."""
    store = config.latents[name]
    channels, size = config.autoencoders[store.autoencoder].latent_space
    probing = any(e.latents == name and e.probe is not None for e in config.experiments.values())
    shape = {"shape": [channels, size, size], "probing": probing}
    return latents(config, name) | {"shard_chunks": store.shard_chunks, "state": state} | shape


def reconstruct(config: Config, name: str) -> Argument:
    """With the extractors that measure samples of experiments on its dataset."""
    extractors = {key: extractor(config, key) for key in reconstructing(config, name)}
    return {"latents": name, "dataset": config.latents[name].dataset, "extractors": extractors}


# --- samples and their figures


def sample(experiment: Experiment, sampler: str) -> Argument:
    """What is drawn, how many of it are kept, and from which weights."""
    common = {"images", "seed"} if measured_at_once(experiment) else {"seed"}
    settings = dump(experiment.sample.samplers[sampler])
    weights = {"weights": averaged(experiment, settings.pop("weights")), "keep": kept(experiment)}
    return experiment.sample.model_dump(mode="json", include=common) | weights | {"sampler": settings}


def averaged(experiment: Experiment, weights: str) -> Argument:
    """What weights are called, and how they were averaged (nothing, if they were not)."""
    average = experiment.train.averages.get(weights)
    return {"name": weights, **(dump(average) if average else {})}


def kept(experiment: Experiment) -> int:
    """How many images of each sampler and checkpoint are written."""
    keep, images = experiment.sample.keep_samples, experiment.sample.images
    return images if keep == "all" else min(keep, images)


def extractor(config: Config, name: str) -> Argument:
    """Of an extractor that is trained here only its kind: its weights are an input of their own."""
    entry = config.extractors[name]
    return {"kind": entry.kind} if entry.trained_on is not None else dump(entry)


def metrics(config: Config) -> Argument:
    return config.metrics.model_dump(mode="json", include={"subset", "neighbours", "wide_neighbours"})


def reference(config: Config, name: str) -> Argument:
    return {"extractor": extractor(config, name), "subset": config.metrics.subset, "splits": list(REFERENCE)}


def generation(config: Config, experiment: Experiment, row: Argument) -> Argument:
    assert experiment.generation is not None
    extractors = {name: extractor(config, name) for name in experiment.generation.extractors}
    row = row | {"split": "+".join(REFERENCE)}
    figures = experiment.generation.figures
    return {"row": row, "extractors": extractors, "figures": figures, "metrics": metrics(config)}


def generate(config: Config, experiment: Experiment, sampler: str, row: Argument) -> Argument:
    """Samples drawn and measured in one job."""
    return {"sample": sample(experiment, sampler), "generation": generation(config, experiment, row)}


def nearest(count: int, row: Argument, splits: Sequence[str] = REFERENCE) -> Argument:
    """`count` images, those of `test` where the row is a dataset's, against those of the splits trained on."""
    return {"row": row, "images": count, "shown": SHOWN, "neighbours": BESIDE, "splits": list(splits)}


# --- features and what is fitted on them


def probe_of(experiment: Experiment) -> Probe:
    """The probe of an experiment that has one."""
    assert experiment.probe is not None
    return experiment.probe


def selection_splits(experiment: Experiment) -> Argument:
    """The splits that heads are fitted on before the choice, and the one that they are judged by."""
    if probe_of(experiment).selection == "published":
        return {"fit": ["train", "select"], "read": "test"}
    return {"fit": ["train"], "read": "select"}


def extraction(experiment: Experiment) -> Argument:
    """How features are computed, wherever. The batch changes none."""
    probe = probe_of(experiment)
    names = {"pooling", "label", "augmented", "draws", "precision", "noise_seed", "latents_as"}
    weighted = {"weights": averaged(experiment, probe.weights), "crop": dump(probe.crop)}
    return probe.model_dump(mode="json", include=names) | weighted


def features(experiment: Experiment, part: int) -> Argument:
    """The levels of one part of a grid, or a search for them; `plain`: whether un-augmented images are a bank."""
    probe = probe_of(experiment)
    plain = any(evaluator.plain for evaluator in probe.evaluators.values())
    common = extraction(experiment) | selection_splits(experiment) | {"taps": experiment.probed_taps, "plain": plain}
    if probe.search:
        ends = {name: levels.ratio(getattr(probe.search, name), experiment) for name in ("low", "high")}
        search = probe.search.model_dump(mode="json", include={"coarse", "rounds", "keep"})
        return common | {"levels": search | ends, "memory": memory_bytes(experiment)}
    each = probe.levels_per_job or len(probe.levels)
    grid = levels.grid_levels(experiment) or []
    return common | {"levels": grid[part * each : (part + 1) * each]}


def memory_bytes(experiment: Experiment) -> int:
    return round(probe_of(experiment).memory_gib * 2**30)


def scorer(experiment: Experiment) -> str:
    """The evaluator that scores the grid: the one that is named, or the first that can."""
    probe = probe_of(experiment)
    return probe.scorer or next(name for name, evaluator in probe.evaluators.items() if evaluator.scores)


def evaluators(experiment: Experiment) -> dict[str, Argument]:
    """By name, with the levels that they join as sigma/alpha."""
    entries = probe_of(experiment).evaluators.items()
    return {name: dump(e) | {"combine": [levels.joined(cell, experiment) for cell in e.combine]} for name, e in entries}


def about(experiment: Experiment) -> Argument:
    """What rows of results say of the features."""
    probe = probe_of(experiment)
    label = "" if probe.label is None else str(probe.label)
    return {"selection": probe.selection, "pooling": probe.pooling, "views": probe.augmented, "label": label}


def probing(experiment: Experiment, row: Argument) -> Argument:
    """What heads are fitted and judged by."""
    probe = probe_of(experiment)
    settings = {"seeds": probe.seeds, "memory": memory_bytes(experiment), "augmented": probe.augmented}
    return {"row": row, "about": about(experiment)} | settings | selection_splits(experiment)


def grid(experiment: Experiment, row: Argument) -> Argument:
    """`features` stands for the stores, which are gone when all else is there."""
    selection = probe_of(experiment).selection
    heads = {"evaluators": evaluators(experiment), "scorer": scorer(experiment), "taps": experiment.probed_taps}
    stores = [features(experiment, part) for part in range(levels.parts(experiment))]
    chosen_by = {"selection": selection, "split": selection, "features": digest(stores)}
    return probing(experiment, row) | heads | chosen_by


def chosen(experiment: Experiment) -> Argument:
    """Features of the choice; `sigmas` are the levels that evaluators join to it."""
    cells: list[Argument] = []
    for evaluator in evaluators(experiment).values():
        cell = {"combine": evaluator["combine"], "tokens": evaluator["tokens"]}
        cells += [cell] if cell not in cells else []
    sigmas = sorted({c["sigma"] for cell in cells for c in cell["combine"] if c["sigma"] is not None})
    when = {"seeds": probe_of(experiment).seeds, "checkpoints": experiment.train.checkpoints}
    return extraction(experiment) | {"evaluators": cells, "sigmas": sigmas} | when


def evaluate(experiment: Experiment, name: str, row: Argument) -> Argument:
    head = {"name": name, "evaluator": evaluators(experiment)[name], "draws": probe_of(experiment).draws}
    return probing(experiment, row) | head


# --- tables


def row(experiment: Experiment, name: str, **more: Any) -> Argument:
    """What every row of results about an experiment begins with; `more` is its checkpoint and sampler."""
    return {"experiment": name, "dataset": experiment.dataset, **more}


def summary(config: Config) -> Argument:
    """The experiments, and those of them that have a choice, in order."""
    probed = [name for name, experiment in config.experiments.items() if experiment.probe]
    return {"experiments": list(config.experiments), "probed": probed}
