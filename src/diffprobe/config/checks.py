"""What no single entry shows: combinations that cannot work, refused before any job starts.

An entry's own contradictions are refused by its model (`problems`); here is what lies between entries.
"""

from collections.abc import Iterator, Mapping

from diffprobe.config import checks_of_figures, checks_of_probes
from diffprobe.config.autoencoders import Autoencoder, Trained
from diffprobe.config.datasets import Dataset
from diffprobe.config.inferred import conditional, model_space
from diffprobe.config.latents import Latents
from diffprobe.config.models import Config, Experiment
from diffprobe.config.problems import Problem, one_of


def problems(config: Config) -> Iterator[Problem]:
    """Every impossible combination in the config."""
    for name, dataset in config.datasets.items():
        yield from dataset.problems(f"datasets.{name}")
        yield from checks_of_figures.of_references(f"datasets.{name}.references", dataset, config)
    yield from of_mirrors(config.datasets)
    for name, autoencoder in config.autoencoders.items():
        yield from of_autoencoder(f"autoencoders.{name}", autoencoder, config)
    for name, latents in config.latents.items():
        yield from of_latents(f"latents.{name}", latents, config)
    for name, extractor in config.extractors.items():
        yield from extractor.problems(f"extractors.{name}")
        if extractor.trained_on is not None:
            yield from of_classifier(f"extractors.{name}.dataset", extractor.trained_on, config)
    for name, experiment in config.experiments.items():
        yield from of_experiment(f"experiments.{name}", experiment, config)
    yield from checks_of_figures.of_names(config)


def of_mirrors(datasets: Mapping[str, Dataset]) -> Iterator[Problem]:
    """A public dataset is downloaded once, so from one place."""
    mirrors: dict[str, str | None] = {}
    for name, dataset in datasets.items():
        if dataset.source.archives:
            own = getattr(dataset.source, "mirror", None)
            mirror = mirrors.setdefault(dataset.source.kind, own)
            if mirror != own:
                yield f"datasets.{name}.source.mirror", own, f"{mirror}, as in the dataset before"


def of_autoencoder(key: str, autoencoder: Autoencoder, config: Config) -> Iterator[Problem]:
    yield from autoencoder.problems(key)
    if not isinstance(autoencoder, Trained):
        return
    if autoencoder.dataset not in config.datasets:
        yield f"{key}.dataset", autoencoder.dataset, one_of(config.datasets)
        return
    yield from autoencoder.problems_with(key, config.datasets[autoencoder.dataset].facts)


def of_latents(key: str, latents: Latents, config: Config) -> Iterator[Problem]:
    """Images that the autoencoder does not fit or whose test it has seen, and a scale that nobody has published."""
    if latents.dataset not in config.datasets:
        yield f"{key}.dataset", latents.dataset, one_of(config.datasets)
        return
    if latents.autoencoder not in config.autoencoders:
        yield f"{key}.autoencoder", latents.autoencoder, one_of(config.autoencoders)
        return
    autoencoder = config.autoencoders[latents.autoencoder]
    facts = config.datasets[latents.dataset].facts
    if autoencoder.trained_on is not None:
        if autoencoder.trained_on not in config.datasets:
            return  # refused where the autoencoder is
        yield from of_leaks(key, latents, autoencoder.trained_on, config)
    elif facts.channels not in (1, autoencoder.image_channels):
        yield f"{key}.autoencoder", latents.autoencoder, f"one of images with {facts.channels} channels"
    fitting = not facts.size or autoencoder.size % facts.size == 0
    if autoencoder.resize == "repeat" and not fitting and autoencoder.trained_on != latents.dataset:
        allowed = f"one whose size is a multiple of the images' {facts.size} pixels"
        yield f"{key}.autoencoder", latents.autoencoder, allowed
    if latents.scale == "published" and not autoencoder.has_published_scale:
        yield f"{key}.scale", "published", "measured, or a number: an autoencoder trained here has none"
    yield from latents.problems(key)


def of_leaks(key: str, latents: Latents, trained_on: str, config: Config) -> Iterator[Problem]:
    """An autoencoder that was trained on images of another kind, or on this dataset's test."""
    dataset, other = config.datasets[latents.dataset], config.datasets[trained_on]
    if other.source == dataset.source and (other.split, other.per_class) != (dataset.split, dataset.per_class):
        allowed = f"an autoencoder of {latents.dataset}: {trained_on} splits the same images otherwise"
        yield f"{key}.autoencoder", latents.autoencoder, f"{allowed}, so it has seen some of this test"
    if other.facts.channels != dataset.facts.channels:
        channels = dataset.facts.channels
        yield f"{key}.autoencoder", latents.autoencoder, f"an autoencoder of images with {channels} channels"


def of_classifier(key: str, dataset: str, config: Config) -> Iterator[Problem]:
    if dataset not in config.datasets:
        yield key, dataset, one_of(config.datasets)
    elif config.datasets[dataset].facts.classes == 0:
        yield key, dataset, "a dataset with labels"


def of_experiment(key: str, experiment: Experiment, config: Config) -> Iterator[Problem]:
    """What an experiment names that is not there, and what of it does not fit together."""
    if experiment.dataset not in config.datasets:
        yield f"{key}.dataset", experiment.dataset, one_of(config.datasets)
        return
    if experiment.latents is not None:
        own = [name for name, latents in config.latents.items() if latents.dataset == experiment.dataset]
        if experiment.latents not in own:
            yield f"{key}.latents", experiment.latents, f"latents of {experiment.dataset}: {one_of(own)}"
            return
        if config.latents[experiment.latents].autoencoder not in config.autoencoders:
            return  # refused where the latents are
    _, size = model_space(config, experiment)
    if size is not None:  # else refused where the dataset is
        yield from experiment.network.problems(f"{key}.network", size)
    yield from experiment.process.problems(f"{key}.process")
    yield from experiment.task.problems(f"{key}.task", experiment)
    yield from of_training(f"{key}.train", experiment)
    yield from of_sampling(f"{key}.sample.samplers", experiment, conditional(config, experiment))
    if experiment.probe:
        yield from checks_of_probes.of_probe(f"{key}.probe", experiment, experiment.probe, config)
    if experiment.generation:
        yield from checks_of_figures.of_generation(key, experiment, experiment.generation, config)


def of_sampling(key: str, experiment: Experiment, conditional: bool) -> Iterator[Problem]:
    """Samplers that the process, the network or its weights do not allow."""
    for name, sampler in experiment.sample.samplers.items():
        if sampler.guidance != 1 and not conditional:
            yield f"{key}.{name}.guidance", sampler.guidance, "1, since this network is not conditioned on labels"
        elif sampler.guidance != 1 and getattr(experiment.network, "label_dropout", 0) == 0:
            yield f"{key}.{name}.guidance", sampler.guidance, "1, or a network.label_dropout above 0"
        yield from sampler.problems(f"{key}.{name}", experiment.process)
        if sampler.clip and experiment.latents is not None:
            yield f"{key}.{name}.clip", True, "false, since latents are not bounded"
        yield from checks_of_probes.of_weights(f"{key}.{name}.weights", sampler.weights, experiment)


def of_training(key: str, experiment: Experiment) -> Iterator[Problem]:
    """Checkpoints, batches and augmentations that cannot be."""
    train = experiment.train
    if train.checkpoints != sorted(set(train.checkpoints)):
        yield f"{key}.checkpoints", train.checkpoints, "rising numbers"
    if train.imported and len(train.checkpoints) > 1:
        yield f"{key}.checkpoints", train.checkpoints, "one, since weights are imported"
    steps = [checkpoint_steps(kimg, train.batch) for kimg in (0, *train.checkpoints)]
    if len(set(steps)) < len(steps):
        yield f"{key}.batch", train.batch, "a batch that gives each checkpoint a step of its own"
    if len(set(train.splits)) < len(train.splits):
        yield f"{key}.splits", train.splits, "each split once"
    if train.devices > train.batch:
        yield f"{key}.devices", train.devices, f"at most the batch's {train.batch} images"
    if "raw" in train.averages:
        yield f"{key}.averages", "raw", "another name (raw are the weights themselves)"
    for name in ("flip", "augment"):
        if getattr(train, name) and experiment.latents is not None:
            yield f"{key}.{name}", True, f"only for pixel experiments; use latents.{experiment.latents}.views"
    if train.flip and train.augment:
        yield f"{key}.flip", True, "false, since train.augment flips images and labels them so"


def checkpoint_steps(kimg: int, batch: int) -> int:
    """The step at which a checkpoint of so many thousand images is taken: the first that reaches them."""
    return -(-1000 * kimg // batch)
