"""The one JSON argument of each kind of job: the part of the config that its result depends on, and nothing else.

What is left out here retrains and re-evaluates nothing when it changes.
"""

from collections.abc import Sequence
from typing import Any

from diffprobe.config import levels
from diffprobe.config.autoencoders import Pretrained, Trained
from diffprobe.config.datasets import Dataset
from diffprobe.config.extractors import ClassifierExtractor
from diffprobe.config.inferred import latent_space, network_taps
from diffprobe.config.latents import Latents
from diffprobe.config.models import Config, Experiment
from diffprobe.config.names import diffusers_config
from diffprobe.config.probes import scores
from diffprobe.config.training import Training
from diffprobe.plan.graph import measured_at_once, reconstructing
from diffprobe.runtime.files import digest

Subtree = dict[str, Any]
SHOWN, BESIDE = 8, 4  # images in the picture of nearest neighbours, neighbours beside each
REFERENCE = ("train", "select")  # what samples are compared with: the images that generators may see


def dump(model: Any) -> Subtree:
    return model.model_dump(mode="json")


def images(dataset: Dataset, state: str | None) -> Subtree:
    """`state` tells whether a local source has changed. Without the mirror: the same bytes may come from anywhere."""
    known = dataset.model_dump(mode="json", exclude={"source": {"mirror"}, "references": True})
    if dataset.decode == "once":
        del known["decode"]  # stores made before there was a choice stand
    return known | {"state": state}


# Keys of a training that are no part of what it depends on: more checkpoints must not retrain those that stand, and how
# the work is divided among devices and compiled changes only rounding.
NOT_TRAINED_BY = {"checkpoints", "imported", "devices", "device_batch", "compile"}
OF_LATENTS = {"window_mib", "latents_as"}  # keys that say nothing to a training in pixels


def plain_training(train: Subtree) -> Subtree:
    """The options of a training with one average, the others those of the loop."""
    average = {"kind": "half_life", "kimg": train.pop("ema_kimg"), "ramp": train.pop("ema_ramp")}
    defaults = dump(Training(checkpoints=[1], averages={"ema": average}))
    return {key: value for key, value in defaults.items() if key not in NOT_TRAINED_BY | OF_LATENTS} | train


def network(experiment: Experiment) -> Subtree:
    """Of a diffusers model what its folder says of it, so that a checkpoint of it can stand alone."""
    found = dump(experiment.network)
    return {"kind": "diffusers", "config": diffusers_config(found["path"])} if found["kind"] == "diffusers" else found


def pretrain(config: Config, experiment: Experiment) -> Subtree:
    found = {"task": "diffusion", "network": network(experiment), "process": dump(experiment.process)}
    unused = NOT_TRAINED_BY if experiment.latents else NOT_TRAINED_BY | OF_LATENTS
    found["train"] = experiment.train.model_dump(mode="json", exclude=unused)
    if experiment.latents is not None:
        found["latents"] = latents(config, experiment.latents)
    return found


def imported(experiment: Experiment) -> Subtree:
    """What weights from elsewhere must have been imported as."""
    return {"network": network(experiment), "process": dump(experiment.process)}


LOSSES = ("reconstruction", "kl_weight", "perceptual", "adversary")  # what an autoencoder's loss is made of


def autoencoder(autoencoder: Trained) -> Subtree:
    """Where the weights for LPIPS lie changes nothing: the job tells them by their content."""
    without = {"kimg": True, "device_batch": True, "perceptual": {"vgg": True}}
    asked = autoencoder.train.model_dump(mode="json", exclude=without)
    losses = {key: asked.pop(key) for key in LOSSES}
    codec = autoencoder.model_dump(mode="json", include={"network", "size", "resize"})
    return {"task": "autoencoding", **codec, "losses": losses, "train": plain_training(asked)}


def pretrained(autoencoder: Pretrained, state: str | None) -> Subtree:
    """`state` tells whether a local folder has changed."""
    return dump(autoencoder) | {"state": state}


def latents(config: Config, name: str) -> Subtree:
    """What a store is made with, besides the images and the autoencoder's weights; changes no byte: the batch."""
    found = config.latents[name]
    if found.imported:
        return imported_latents(config, found)
    return found.model_dump(mode="json", include={"views", "scale", "seed", "imported"})


def imported_latents(config: Config, found: Latents) -> Subtree:
    """Not where the files lie: their bytes speak for them, if not for a scale that the autoencoder has published."""
    known = {"imported": found.imported.model_dump(mode="json", include={"kind", "scaled"}), "scale": found.scale}
    return known | ({"of": dump(config.autoencoders[found.autoencoder])} if found.scale == "published" else {})


def encode(config: Config, name: str) -> Subtree:
    """What an encoding job is told; how its scale is found is the matter of the job that completes the store."""
    names = {"views", "seed", "precision", "shard_chunks"}
    return config.latents[name].model_dump(mode="json", include=names)


def finish(config: Config, name: str) -> Subtree:
    """How a store's scale is found; all else the jobs that have encoded it tell."""
    return {"scale": config.latents[name].scale}


def import_latents(config: Config, name: str, state: str | None) -> Subtree:
    """With what tells when the files change, the shape of a latent, and whether test is asked for."""
    found = config.latents[name]
    channels, size = latent_space(config.autoencoders[found.autoencoder])
    probing = any(e.latents == name and e.probe is not None for e in config.experiments.values())
    plan = {"shard_chunks": found.shard_chunks, "state": state}
    return latents(config, name) | plan | {"shape": [channels, size, size], "probing": probing}


def reconstruct(config: Config, name: str) -> Subtree:
    """With the extractors by which samples of experiments on its dataset are measured."""
    found = config.latents[name]
    chosen = {key: extractor(config, key) for key in reconstructing(config, name)}
    return {"latents": name, "dataset": found.dataset, "extractors": chosen}


def classifier(extractor: ClassifierExtractor) -> Subtree:
    """As a training run; labels of `train` only."""
    train = {"batch": extractor.batch, "lr": extractor.lr, "seed": extractor.seed, "splits": ["train"]}
    train = plain_training(train | {"ema_kimg": 2.0, "ema_ramp": 0.1})
    return {
        "task": "classification",
        "network": {"kind": "classifier", "channels": extractor.channels},
        "train": train,
    }


def sample(experiment: Experiment, sampler: str) -> Subtree:
    """What is drawn, how many of it are kept, and from which weights."""
    asked = experiment.sample
    common = asked.model_dump(mode="json", include={"images", "seed"} if measured_at_once(experiment) else {"seed"})
    chosen = dump(asked.samplers[sampler])
    known = {"weights": weights(experiment, chosen.pop("weights"))}
    return common | known | {"keep": kept(experiment), "sampler": chosen}


def weights(experiment: Experiment, name: str) -> Subtree:
    """What weights are called, and how they were averaged (nothing, if they were not)."""
    average = experiment.train.averages.get(name)
    return {"name": name, **(dump(average) if average else {})}


def kept(experiment: Experiment) -> int:
    """How many images of each sampler and checkpoint are written."""
    keep, images = experiment.sample.keep_samples, experiment.sample.images
    return images if keep == "all" else min(keep, images)


def extractor(config: Config, name: str) -> Subtree:
    """Of a trained classifier only its kind: its weights are an input of their own."""
    found = config.extractors[name]
    return {"kind": found.kind} if found.kind == "classifier" else dump(found)


def metrics(config: Config) -> Subtree:
    return config.metrics.model_dump(mode="json", include={"subset", "neighbours", "wide_neighbours"})


def reference(config: Config, name: str) -> Subtree:
    return {"extractor": extractor(config, name), "subset": config.metrics.subset, "splits": list(REFERENCE)}


def generation(config: Config, experiment: Experiment, row: Subtree) -> Subtree:
    asked = experiment.generation
    chosen = {name: extractor(config, name) for name in asked.extractors}
    row = row | {"split": "+".join(REFERENCE)}
    return {"row": row, "extractors": chosen, "figures": asked.figures, "metrics": metrics(config)}


def nearest(count: int, row: Subtree, splits: Sequence[str] = REFERENCE) -> Subtree:
    """`count` images, those of `test` where the row is a dataset's, against those of the splits trained on."""
    return {"row": row, "images": count, "shown": SHOWN, "neighbours": BESIDE, "splits": list(splits)}


def taps(experiment: Experiment) -> list[str]:
    """The taps asked for, in the order of computation."""
    known, asked = network_taps(experiment), experiment.probe.taps if experiment.probe else []
    return known if asked == "all" else [tap for tap in known if tap in asked]


def chosen_on(experiment: Experiment) -> Subtree:
    """The splits that heads are fitted on before the choice, and the one that they are judged by."""
    if experiment.probe.selection == "published":
        return {"fit": ["train", "select"], "read": "test"}
    return {"fit": ["train"], "read": "select"}


def extraction(experiment: Experiment) -> Subtree:
    """How features are computed, wherever. The batch changes none."""
    probe = experiment.probe
    names = {"pooling", "label", "augmented", "draws", "precision", "noise_seed", "latents_as"}
    weighted = {"weights": weights(experiment, probe.weights), "crop": dump(probe.crop)}
    return probe.model_dump(mode="json", include=names) | weighted


def features(experiment: Experiment, part: int) -> Subtree:
    """The levels of one part of a grid, or a search for them; `plain`: whether un-augmented images are a bank."""
    probe, asked = experiment.probe, experiment.probe.search
    if asked:
        ends = {name: levels.ratio(getattr(asked, name), experiment) for name in ("low", "high")}
        found: Any = asked.model_dump(mode="json", include={"coarse", "rounds", "keep"}) | ends
    else:
        each = probe.levels_per_job or len(probe.levels)
        found = levels.grid_levels(experiment)[part * each : (part + 1) * each]
    plain = any(evaluator.kind == "knn" for evaluator in probe.evaluators.values())
    memory = {"memory": memory_bytes(experiment)} if asked else {}
    common = {"levels": found, "taps": taps(experiment), "plain": plain, **memory}
    return extraction(experiment) | chosen_on(experiment) | common


def memory_bytes(experiment: Experiment) -> int:
    return round(experiment.probe.memory_gib * 2**30)


def scorer(experiment: Experiment) -> str:
    """The evaluator that scores the grid: the one that is named, or the first that can."""
    probe = experiment.probe
    return probe.scorer or next(name for name, found in probe.evaluators.items() if scores(found))


def evaluators(experiment: Experiment) -> dict[str, Subtree]:
    """By name, with the levels that they join as sigma/alpha."""
    found = experiment.probe.evaluators.items()
    return {name: dump(e) | {"combine": [levels.joined(cell, experiment) for cell in e.combine]} for name, e in found}


def about(experiment: Experiment) -> Subtree:
    """What rows of results say of the features."""
    probe = experiment.probe
    known = {"selection": probe.selection, "pooling": probe.pooling, "views": probe.augmented}
    return known | {"label": "" if probe.label is None else str(probe.label)}


def probing(experiment: Experiment, row: Subtree) -> Subtree:
    """What heads are fitted and judged by."""
    probe = experiment.probe
    known = {"row": row, "about": about(experiment), "seeds": probe.seeds, "memory": memory_bytes(experiment)}
    return known | {"augmented": probe.augmented} | chosen_on(experiment)


def grid(experiment: Experiment, row: Subtree) -> Subtree:
    """`features` stands for the stores, which are gone when all else is there."""
    selection = experiment.probe.selection
    known = {"evaluators": evaluators(experiment), "scorer": scorer(experiment), "taps": taps(experiment)}
    known |= {"selection": selection, "split": selection}
    made = [features(experiment, part) for part in range(levels.parts(experiment))]
    return probing(experiment, row) | known | {"features": digest(made)}


def chosen(experiment: Experiment) -> Subtree:
    """Features of the choice; `sigmas` are the levels that evaluators join to it."""
    probe, asked = experiment.probe, evaluators(experiment)
    cells = [{"combine": e["combine"], "tokens": e["tokens"]} for e in asked.values()]
    cells = [cell for i, cell in enumerate(cells) if cell not in cells[:i]]
    sigmas = sorted({c["sigma"] for e in cells for c in e["combine"] if c["sigma"] is not None})
    known = {"evaluators": cells, "sigmas": sigmas, "seeds": probe.seeds, "checkpoints": experiment.train.checkpoints}
    return extraction(experiment) | known


def evaluate(experiment: Experiment, name: str, row: Subtree) -> Subtree:
    known = {"name": name, "evaluator": evaluators(experiment)[name], "draws": experiment.probe.draws}
    return probing(experiment, row) | known


def summary(config: Config) -> Subtree:
    """The experiments, and those of them that have a choice, in order."""
    probed = [name for name, experiment in config.experiments.items() if experiment.probe]
    return {"experiments": list(config.experiments), "probed": probed}
