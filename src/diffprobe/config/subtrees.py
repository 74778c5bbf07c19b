"""The one JSON argument of each kind of job: the part of the config that its result depends on, and nothing else.

What is left out here retrains and re-evaluates nothing when it changes.
"""

from typing import Any

from diffprobe.config.checks import network_taps
from diffprobe.config.models import ClassifierExtractor, Config, Experiment

Subtree = dict[str, Any]


def dump(model: Any) -> Subtree:
    return model.model_dump(mode="json")


def pretrain(experiment: Experiment) -> Subtree:
    """Without the list of checkpoints: raising it must not retrain what stands."""
    train = experiment.train.model_dump(mode="json", exclude={"checkpoints"})
    process = dump(experiment.process)
    return {"task": "diffusion", "network": dump(experiment.network), "process": process, "train": train}


def classifier(extractor: ClassifierExtractor) -> Subtree:
    """As a training run; labels of `train` only."""
    train = {
        "batch": extractor.batch,
        "lr": extractor.lr,
        "seed": extractor.seed,
        "splits": ["train"],
        "clip": None,
    }
    train |= {"warmup_kimg": 0, "ema_kimg": 2.0, "ema_ramp": 0.1}
    return {
        "task": "classification",
        "network": {"kind": "classifier", "channels": extractor.channels},
        "train": train,
    }


def sample(experiment: Experiment, sampler: str) -> Subtree:
    common = experiment.sample.model_dump(mode="json", exclude={"samplers"})
    return common | {"sampler": dump(experiment.sample.samplers[sampler])}


def extractor(config: Config, name: str) -> Subtree:
    """Of a trained classifier only its kind: its weights are an input of their own."""
    found = config.extractors[name]
    return {"kind": found.kind} if found.kind == "classifier" else dump(found)


def generation(config: Config, experiment: Experiment, row: Subtree) -> Subtree:
    name = experiment.generation.extractor
    chosen, row = extractor(config, name), row | {"extractor": name}
    return {"row": row, "extractor": chosen, "neighbours": experiment.generation.neighbours}


def taps(experiment: Experiment) -> list[str]:
    """The taps asked for, in the order of computation."""
    known, asked = network_taps(experiment), experiment.probe.taps
    return known if asked == "all" else [tap for tap in known if tap in asked]


def features(experiment: Experiment) -> Subtree:
    probe = experiment.probe
    common = {
        "levels": probe.levels,
        "draws": probe.draws,
        "batch": probe.batch,
        "noise_seed": probe.noise_seed,
    }
    return common | {"taps": taps(experiment)}


def grid(experiment: Experiment, row: Subtree) -> Subtree:
    probe = experiment.probe
    heads = {"seeds": probe.seeds, "linear": dump(probe.linear), "neighbours": probe.neighbours}
    return {"row": row, "taps": taps(experiment)} | heads


def test(experiment: Experiment, row: Subtree) -> Subtree:
    probe = experiment.probe
    noise = {"draws": probe.draws, "batch": probe.batch, "noise_seed": probe.noise_seed}
    return grid(experiment, row) | noise | {"checkpoints": experiment.train.checkpoints}
