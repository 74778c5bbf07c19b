"""The JSON argument of each kind of job: the part of the config that its result depends on, and nothing else.

Those of features and of what is fitted on them are in `probe_job_arguments`.

Settings left out here trigger no retraining and no re-evaluation when they change. A key added later is left out while
it has its default (`config.base.LATER`). `tests/data/job_arguments.txt` holds the arguments of every shipped recipe;
when a line changes, docs/LOG.md must say what is made anew.
"""

from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict

from pydantic import BaseModel

from diffprobe.config.autoencoders import Pretrained, Trained
from diffprobe.config.datasets import Dataset
from diffprobe.config.extractors.classifier import ClassifierExtractor
from diffprobe.config.latents import Latents
from diffprobe.config.models import Config, Experiment
from diffprobe.config.training import HalfLife, Training
from diffprobe.plan.repeats import histories, repeats
from diffprobe.plan.uses import measured_at_once, probed_on, reconstructing, representative_samples

Argument = dict[str, Any]  # plain data


class Identity(TypedDict):
    """Columns that identify what a row of results is about; only the dataset for its own images."""

    experiment: NotRequired[str]
    dataset: str
    kimg: NotRequired[int]
    sampler: NotRequired[str]


SHOWN, BESIDE = 8, 4  # in the plot of nearest neighbours: images, neighbours beside each
REFERENCE = ("train", "select")  # splits that samples are compared with: those generators may see


def dump(model: BaseModel) -> Argument:
    return model.model_dump(mode="json")


def images(dataset: Dataset, state: str | None) -> Argument:
    """`state` is a fingerprint of local sources. The mirror is left out, since downloads are verified by hash."""
    return dataset.model_dump(mode="json", exclude={"source": {"mirror"}, "references": True}) | {"state": state}


# --- training

# Training settings outside the argument. More checkpoints must not retrain the existing ones; devices, compilation and
# recomputation change only rounding, and the first which units dropout hides.
NOT_TRAINED_BY = {"checkpoints", "imported", "initial", "devices", "nodes", "device_batch", "compile", "recompute"}
OF_LATENTS = {"window_mib", "latents_as"}  # settings without meaning in pixel space


def plain_training(train: Argument) -> Argument:
    """Training settings with a single average; all others have their defaults."""
    average = HalfLife(kind="half_life", kimg=train.pop("ema_kimg"), ramp=train.pop("ema_ramp"))
    defaults = dump(Training(checkpoints=[1], averages={"ema": average}))
    return {key: value for key, value in defaults.items() if key not in NOT_TRAINED_BY | OF_LATENTS} | train


def pretrain(config: Config, experiment: Experiment) -> Argument:
    """The settings of an experiment's run. The task's own settings are at the top level."""
    settings = dump(experiment.task)
    argument = {**imported(experiment), "task": settings.pop("kind"), **settings}
    unused = NOT_TRAINED_BY if experiment.latents else NOT_TRAINED_BY | OF_LATENTS
    argument["train"] = experiment.train.model_dump(mode="json", exclude=unused)
    if experiment.latents is not None:
        argument["latents"] = latents(config, experiment.latents)
    return argument


def imported(experiment: Experiment) -> Argument:
    """What imported weights must match: network and process, and the task where the model is more than the network."""
    model = {"network": experiment.network.argument(), "process": dump(experiment.process)}
    return model | ({"task": dump(experiment.task)} if experiment.task.model else {})


LOSSES = ("reconstruction", "kl_weight", "perceptual", "adversary")  # settings of an autoencoder's loss


def autoencoder(autoencoder: Trained) -> Argument:
    """The path of LPIPS weights is left out, since the job identifies them by content."""
    without: Mapping[str, Any] = {"kimg": True, "device_batch": True, "perceptual": {"vgg": True}}
    train = autoencoder.train.model_dump(mode="json", exclude=dict(without))
    losses = {key: train.pop(key) for key in LOSSES}
    codec = autoencoder.model_dump(mode="json", include={"network", "size", "resize"})
    return {"task": "autoencoding", **codec, "losses": losses, "train": plain_training(train)}


def classifier(extractor: ClassifierExtractor) -> Argument:
    """The training of a classifier, on the labels of `train` only."""
    train = {"batch": extractor.batch, "lr": extractor.lr, "seed": extractor.seed, "splits": ["train"]}
    return {
        "task": "classification",
        "network": {"kind": "classifier", "channels": extractor.channels},
        "train": plain_training(train | {"ema_kimg": 2.0, "ema_ramp": 0.1}),
    }


# --- latents


def pretrained(autoencoder: Pretrained, state: str | None) -> Argument:
    """`state` is a fingerprint of local folders."""
    return dump(autoencoder) | {"state": state}


def latents(config: Config, name: str) -> Argument:
    """Settings that determine a store's content, besides the images and the autoencoder's weights."""
    store = config.latents[name]
    if store.imported:
        return imported_latents(config, store)
    return store.model_dump(mode="json", include={"views", "scale", "seed", "normalise", "imported"})


def imported_latents(config: Config, store: Latents) -> Argument:
    """Paths are left out, since files are identified by content. A published scale depends on the autoencoder."""
    assert store.imported is not None
    of = {"of": dump(config.autoencoders[store.autoencoder])} if store.scale == "published" else {}
    imported = store.imported.model_dump(mode="json", include={"kind", "scaled"})
    return {"imported": imported, "scale": store.scale, **of}


def encode(config: Config, name: str) -> Argument:
    """An encoding job. Scaling is left to the job that completes the store."""
    keys = {"views", "seed", "precision", "shard_chunks", "normalise"}
    return config.latents[name].model_dump(mode="json", include=keys)


def finish(config: Config, name: str) -> Argument:
    """The scaling of a store. Everything else is in the outputs of its encoding jobs."""
    return {"scale": config.latents[name].scale}


def import_latents(config: Config, name: str, state: str | None) -> Argument:
    """`state` is a fingerprint of the files. Also the shape of a latent, and whether a probe needs `test`."""
    store = config.latents[name]
    channels, size = config.autoencoders[store.autoencoder].latent_space
    probing = any(e.latents == name and e.probe is not None for e in config.experiments.values())
    shape = {"shape": [channels, size, size], "probing": probing}
    return latents(config, name) | {"shard_chunks": store.shard_chunks, "state": state} | shape


def reconstruct(config: Config, name: str) -> Argument:
    """The extractors are those that measure samples on the same dataset."""
    extractors = {key: extractor(config, key) for key in reconstructing(config, name)}
    return {"latents": name, "dataset": config.latents[name].dataset, "extractors": extractors}


# --- samples and their figures


def sample(experiment: Experiment, sampler: str) -> Argument:
    """What is sampled, from which weights, and how many images are kept."""
    # Images that are kept depend only on their number; metrics in the same job depend on all images.
    common = {"seed", "strip_stride"} | ({"images"} if measured_at_once(experiment) else set())
    settings = dump(experiment.sample.samplers[sampler])
    weights = {"weights": averaged(experiment, settings.pop("weights")), "keep": kept(experiment)}
    return experiment.sample.model_dump(mode="json", include=common) | weights | {"sampler": settings}


def averaged(experiment: Experiment, weights: str) -> Argument:
    """The name of weights, and the settings of their moving average, if any."""
    average = experiment.train.averages.get(weights)
    return {"name": weights, **(dump(average) if average else {})}


def kept(experiment: Experiment) -> int:
    """Number of images stored for each sampler and checkpoint."""
    keep, images = experiment.sample.keep_samples, experiment.sample.images
    return images if keep == "all" else min(keep, images)


def extractor(config: Config, name: str) -> Argument:
    """For an extractor trained by the workflow only its kind, since its weights are an input of the job."""
    entry = config.extractors[name]
    return {"kind": entry.kind} if entry.trained_on is not None else dump(entry)


def metrics(config: Config) -> Argument:
    return config.metrics.model_dump(mode="json", include={"subset", "neighbours", "wide_neighbours"})


def reference(config: Config, name: str) -> Argument:
    return {"extractor": extractor(config, name), "subset": config.metrics.subset, "splits": list(REFERENCE)}


def generation(config: Config, experiment: Experiment, row: Identity) -> Argument:
    assert experiment.generation is not None
    extractors = {name: extractor(config, name) for name in experiment.generation.extractors}
    columns = {**row, "split": "+".join(REFERENCE)}
    figures = experiment.generation.figures
    return {"row": columns, "extractors": extractors, "figures": figures, "metrics": metrics(config)}


def generate(config: Config, experiment: Experiment, sampler: str, row: Identity) -> Argument:
    """Samples that are drawn and measured in one job."""
    return {"sample": sample(experiment, sampler), "generation": generation(config, experiment, row)}


def nearest(count: int, row: Identity, train: Training | None = None) -> Argument:
    """Check `count` images for memorisation: samples against what their model was trained on, or a dataset's `test`."""
    few = {"few": [train.images, train.seed]} if train and train.images else {}
    splits = list(train.splits if train else REFERENCE)
    return {"row": row, "images": count, "shown": SHOWN, "neighbours": BESIDE, "splits": splits, **few}


def decodings(experiment: Experiment, sampler: str, row: Identity) -> Argument:
    """Decodings of test images, by the sampler and weights of the samples."""
    assert experiment.generation is not None and experiment.generation.decodings is not None
    settings = experiment.generation.decodings
    drawn = {key: value for key, value in sample(experiment, sampler).items() if key in ("seed", "weights", "sampler")}
    return {"row": row, "sample": drawn | {"keep": settings.images}, **dump(settings)}


# --- figures and tables


def plots(config: Config, experiment: Experiment, name: str) -> Argument:
    """How the figures of an experiment are drawn."""
    probe = {"taps": experiment.probed_taps, "evaluator": experiment.probe.scoring} if experiment.probe else {}
    return dump(config.report) | {"experiment": name} | probe


def row(experiment: Experiment, name: str, kimg: int | None = None, sampler: str | None = None) -> Identity:
    """The columns that identify an experiment, and one of its checkpoints and samplers, in every row of results."""
    identity: Identity = {"experiment": name, "dataset": experiment.dataset}
    if kimg is not None:
        identity["kimg"] = kimg
    if sampler is not None:
        identity["sampler"] = sampler
    return identity


def summary(config: Config) -> Argument:
    """All experiments, and those that have a choice, in order."""
    probed = [name for name, experiment in config.experiments.items() if experiment.probe]
    argument: Argument = {"experiments": list(config.experiments), "probed": probed}
    if groups := repeats(config):
        argument |= {"repeats": list(groups.items()), "histories": [history(config, *one) for one in histories(config)]}
    return argument


def overview(config: Config) -> Argument:
    """The experiments in order, and which samples stand for each."""
    drawn = [dict(zip(("experiment", "kimg", "sampler"), one, strict=True)) for one in representative_samples(config)]
    plain = summary(config)
    return {"experiments": plain["experiments"], "probed": plain["probed"], "drawn": drawn, "dpi": config.report.dpi}


def comparison(config: Config, dataset: str) -> Argument:
    """The experiments on a dataset in order, which a JSON object would not keep."""
    experiments = [
        {"name": name, "checkpoints": config.experiments[name].train.checkpoints}
        | {"taps": config.experiments[name].probed_taps}
        for name in probed_on(config, dataset)
    ]
    return {"dataset": dataset, "experiments": experiments, "dpi": config.report.dpi}


def history(config: Config, name: str, kimg: int) -> Argument:
    """Columns of the row of a checkpoint's training loss."""
    experiment = config.experiments[name]
    return {**row(experiment, name, kimg=kimg), "split": "+".join(experiment.train.splits)}
