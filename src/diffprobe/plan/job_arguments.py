"""The JSON argument of each kind of job: the part of the config that its result depends on, and nothing else.

Settings left out here trigger no retraining and no re-evaluation when they change. A key added later is left out while
it has its default (`config.base.LATER`). `tests/job_arguments.json` holds the arguments of every shipped recipe; when a
line changes, docs/LOG.md must say what is made anew.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

from pydantic import BaseModel

from diffprobe.config import levels
from diffprobe.config.autoencoders import Pretrained, Trained
from diffprobe.config.datasets import Dataset
from diffprobe.config.evaluators import Evaluator
from diffprobe.config.extractors.classifier import ClassifierExtractor
from diffprobe.config.latents import Latents
from diffprobe.config.models import Config, Experiment
from diffprobe.config.probing import Probe
from diffprobe.config.training import HalfLife, Training
from diffprobe.plan.graph import finetune_of, measured_at_once, reconstructing
from diffprobe.plan.repeats import histories, repeats
from diffprobe.runtime.files import digest

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
# recomputation change only rounding.
NOT_TRAINED_BY = {"checkpoints", "imported", "devices", "device_batch", "compile", "recompute"}
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


def nearest(count: int, row: Identity, splits: Sequence[str] = REFERENCE) -> Argument:
    """Check `count` images for memorisation: samples, or `test` if the row is a dataset's, against `splits`."""
    return {"row": row, "images": count, "shown": SHOWN, "neighbours": BESIDE, "splits": list(splits)}


def decodings(experiment: Experiment, sampler: str, row: Identity) -> Argument:
    """Decodings of test images, by the sampler and weights of the samples."""
    assert experiment.generation is not None and experiment.generation.decodings is not None
    settings = experiment.generation.decodings
    drawn = {key: value for key, value in sample(experiment, sampler).items() if key in ("seed", "weights", "sampler")}
    return {"row": row, "sample": drawn | {"keep": settings.images}, **dump(settings)}


# --- features and what is fitted on them


def probe_of(experiment: Experiment) -> Probe:
    """The probe of an experiment that has one."""
    assert experiment.probe is not None
    return experiment.probe


def selection_splits(experiment: Experiment) -> Argument:
    """The splits that heads are fitted on before the choice, and the split that scores them."""
    if probe_of(experiment).selection == "published":
        return {"fit": ["train", "select"], "read": "test"}
    return {"fit": ["train"], "read": "select"}


def extraction(experiment: Experiment) -> Argument:
    """How features are computed, in every job that computes any."""
    probe = probe_of(experiment)
    copies = probe.model_dump(mode="json", include={"augmented", "draws", "view"})
    return unaugmented(experiment) | copies | {"crop": dump(probe.crop)}


def unaugmented(experiment: Experiment) -> Argument:
    """How features of images as they are are computed."""
    names = {"pooling", "label", "code", "zeroed", "precision", "noise_seed", "latents_as"}
    probe = probe_of(experiment)
    weights = {"weights": averaged(experiment, probe.weights)}
    return probe.model_dump(mode="json", include=names) | weights


def features(experiment: Experiment, part: int) -> Argument:
    """Levels of one part of a grid, or a search. `plain`: whether unaugmented training images are needed too."""
    probe = probe_of(experiment)
    plain = any(evaluator.fitted_on == "plain" for evaluator in probe.heads.values())
    common = extraction(experiment) | selection_splits(experiment) | grid_taps(experiment) | {"plain": plain}
    if probe.search:
        ends = {name: levels.ratio(getattr(probe.search, name), experiment) for name in ("low", "high")}
        search = probe.search.model_dump(mode="json", include={"coarse", "rounds", "keep"})
        return common | {"levels": search | ends, "memory": memory_bytes(experiment)}
    each = probe.levels_per_job or len(probe.levels)
    grid = levels.grid_levels(experiment) or []  # sigma/alpha, so that a level's notation triggers no rerun
    return common | {"levels": grid[part * each : (part + 1) * each]}


def subset(experiment: Experiment) -> Argument:
    """Features of the cells of a grid for `probe.subset`, in two copies. The levels of a search are in the grid."""
    images = probe_of(experiment).subset
    copies: Argument = {
        "fit": [],
        "read": images.split,
        "images": images.images,
        "plain": False,
        "augmented": 0,
        "draws": 2,
    }
    return unaugmented(experiment) | grid_taps(experiment) | copies | {"levels": levels.grid_levels(experiment) or []}


def grid_taps(experiment: Experiment) -> Argument:
    """The taps of the grid; those at the level `clean` once more, where there are any."""
    clean = [tap for tap in experiment.probed_taps if tap in experiment.clean_taps]
    return {"taps": experiment.probed_taps} | ({"clean_taps": clean} if clean else {})


def memory_bytes(experiment: Experiment) -> int:
    return round(probe_of(experiment).memory_gib * 2**30)


def evaluators(experiment: Experiment) -> dict[str, Argument]:
    """Evaluators of stored features by name."""
    return {name: evaluator_argument(evaluator, experiment) for name, evaluator in probe_of(experiment).heads.items()}


def evaluator_argument(evaluator: Evaluator, experiment: Experiment) -> Argument:
    """An evaluator with the levels that it names as sigma/alpha."""
    return dump(evaluator) | named_cells(evaluator, experiment)


def named_cells(evaluator: Evaluator, experiment: Experiment) -> Argument:
    by_level = levels.by_level(evaluator, experiment)
    each = {"levels": by_level} | evaluator.at_levels(by_level, experiment.process) if by_level else {}
    combined = {"combine": [levels.joined(cell, experiment) for cell in evaluator.combine]}
    return combined | cell_of(evaluator, experiment) | each


def cell_of(evaluator: Evaluator, experiment: Experiment) -> Argument:
    """The cell that it names in place of the chosen one."""
    return {"at": levels.joined(evaluator.at, experiment)} if evaluator.at else {}


def monitors(experiment: Experiment, row: Identity) -> Argument:
    """`features` is a hash of the settings of the store, which is temporary and so cannot trigger a rerun."""
    probe = probe_of(experiment)
    settings = [dump(monitor) for monitor in probe.monitors]
    return watched(experiment, row) | {"monitors": settings, "features": digest(subset(experiment))}


def watched(experiment: Experiment, row: Identity) -> Argument:
    """Columns of rows of the features of a subset, and its cells."""
    columns = {name: value for name, value in about(experiment).items() if name not in ("selection", "views")}
    split = probe_of(experiment).subset.split
    return {"row": row | {"split": split}, "about": columns} | grid_taps(experiment)


def foreign(config: Config, name: str, subset: str) -> Argument:
    """The features of an extractor; `subset` by its name."""
    settings = next(e.probe.subset for e in config.experiments.values() if e.probe and e.probe.subset.name == subset)
    return {"extractor": extractor(config, name), **dump(settings)}


def similarity(config: Config, name: str) -> Argument:
    """Maps of similarity. `features` is a hash of the settings of all stores, which are temporary."""
    experiment = config.experiments[name]
    settings = probe_of(experiment).similarity
    assert settings is not None
    others = {other: config.experiments[other] for other in settings.experiments}
    checkpoints = experiment.train.checkpoints
    return watched(experiment, row(experiment, name)) | {
        "checkpoints": checkpoints,
        "mapped": checkpoints if settings.checkpoints == "all" else checkpoints[-1:],
        "neighbours": settings.neighbours,
        "memory": memory_bytes(experiment),
        "others": {other: {"checkpoints": e.train.checkpoints, **grid_taps(e)} for other, e in others.items()},
        "features": digest([subset(e) for e in (experiment, *others.values())]),
    }


def about(experiment: Experiment) -> Argument:
    """Columns of results that describe the features."""
    probe = probe_of(experiment)
    label = "" if probe.label is None else str(probe.label)
    zeroed = {"zeroed": "+".join(probe.zeroed)} if probe.zeroed else {}
    return {"selection": probe.selection, "pooling": probe.pooling, "views": probe.augmented, "label": label} | zeroed


def probing(experiment: Experiment, row: Identity) -> Argument:
    """How heads are fitted and scored."""
    probe = probe_of(experiment)
    settings = {"seeds": probe.seeds, "memory": memory_bytes(experiment), "augmented": probe.augmented}
    return {"row": row, "about": about(experiment)} | settings | selection_splits(experiment)


def grid(experiment: Experiment, row: Identity) -> Argument:
    """`features` is a hash of the settings of feature stores, which are temporary and so cannot trigger a rerun."""
    selection = probe_of(experiment).selection
    heads = {
        "evaluators": evaluators(experiment),
        "scorer": probe_of(experiment).scoring,
        **grid_taps(experiment),
    }
    stores = [features(experiment, part) for part in range(levels.parts(experiment))]
    chosen_by = {"selection": selection, "split": selection, "features": digest(stores)}
    return probing(experiment, row) | heads | chosen_by


def chosen(experiment: Experiment) -> Argument:
    """Features of the chosen cell. `sigmas` are the levels that evaluators join to it."""
    cells: list[Argument] = []
    named: list[Argument] = []
    for evaluator in probe_of(experiment).heads.values():
        cell = named_cells(evaluator, experiment) | {"tokens": evaluator.tokens}
        cells += [cell] if cell not in cells else []  # evaluators often share features
        named += [levels.joined(each, experiment) for each in evaluator.named_cells]
        named += [{"sigma": level} for level in levels.by_level(evaluator, experiment)]
    sigmas = sorted({cell["sigma"] for cell in named if cell["sigma"] is not None})
    when = {"seeds": probe_of(experiment).seeds, "checkpoints": experiment.train.checkpoints}
    return extraction(experiment) | {"evaluators": cells, "sigmas": sigmas} | when


def evaluate(experiment: Experiment, name: str, row: Identity) -> Argument:
    probe = probe_of(experiment)
    evaluator = evaluator_argument(probe.evaluators[name], experiment)
    return probing(experiment, row) | {"name": name, "evaluator": evaluator, "draws": probe.draws}


def transfer(experiment: Experiment, dataset: str, name: str, row: Identity) -> Argument:
    """The same on another dataset's features. Its name is another, so that its setting is chosen anew."""
    other: Identity = {**row, "dataset": dataset}
    return evaluate(experiment, name, other) | {"name": f"{dataset}_{name}"}


def extractor_probe(config: Config, experiment: Experiment, extractor: str, name: str, row: Identity) -> Argument:
    """The same on an extractor's features of images that are not augmented."""
    probe = probe_of(experiment)
    columns = {"row": {**row, "extractor": config.extractors[extractor].printed_name}}
    about = {"about": {"selection": probe.selection, "views": 0}}
    return evaluate(experiment, name, row) | {"name": f"{extractor}_{name}", "augmented": 0} | columns | about


def extracted(config: Config, name: str) -> Argument:
    """Features of a dataset by an extractor."""
    return {"name": name, "extractor": extractor(config, name)}


OF_SCORES = {"lr", "at", "average", "combine", "tokens"}  # settings of fine-tuning that are not those of a run


def finetuning(config: Config, experiment: Experiment, name: str, trial: str) -> Argument:
    """A training run of fine-tuning: of a learning rate, to choose among several, or of a seed, for `test`."""
    probe, evaluator = probe_of(experiment), finetune_of(experiment, name)
    if trial in evaluator.rates:
        splits = selection_splits(experiment)["fit"]
        run: Argument = {"lr": evaluator.rates[trial], "seed": probe.seeds[0], "splits": splits}
    else:
        # Without a rate where the input `setting` has the best of several.
        lr: Argument = {} if evaluator.rates else {"lr": evaluator.lr[0]}
        run = lr | {"seed": evaluator.repeats(probe.seeds)[trial], "splits": ["train", "select"]}
    train = {key: value for key, value in plain_training(evaluator.training).items() if key != "lr"} | run
    argument: Argument = {
        "task": "finetuning",
        "network": experiment.network.argument(),
        "process": dump(experiment.process),
    }
    if experiment.task.model:
        argument["model_task"] = dump(experiment.task)
    if experiment.latents is not None:
        argument["latents"] = latents(config, experiment.latents)
        train["latents_as"] = probe.latents_as
    argument |= {"weights": probe.weights, "checkpoints": experiment.train.checkpoints}
    argument |= {"lowest": experiment.process.level_range[0], **cell_of(evaluator, experiment)}
    argument |= probe.model_dump(mode="json", include={"pooling", "label", "code", "zeroed"})
    settings = evaluator.model_dump(mode="json", exclude=OF_SCORES | evaluator.training.keys())
    return argument | {"evaluator": settings, "train": train}


def finetuned(experiment: Experiment, name: str, row: Identity, choosing: bool) -> Argument:
    """The scores of its runs: of one for each learning rate, or of one for each seed on `test`."""
    probe, evaluator = probe_of(experiment), finetune_of(experiment, name)
    read = selection_splits(experiment)["read"] if choosing else "test"
    scored = {"read": read, "split": probe.selection if choosing else "test"}
    runs = {"choosing": choosing, "rates": evaluator.lr, "seeds": probe.seeds}
    draws = probe.model_dump(mode="json", include={"draws", "noise_seed", "latents_as", "precision"})
    columns: Argument = {"row": row, "about": about(experiment) | {"views": 0}}
    head = {"name": name, "average": evaluator.average, **cell_of(evaluator, experiment)}
    return columns | scored | runs | draws | head


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


def history(config: Config, name: str, kimg: int) -> Argument:
    """Columns of the row of a checkpoint's training loss."""
    experiment = config.experiments[name]
    return {**row(experiment, name, kimg=kimg), "split": "+".join(experiment.train.splits)}
