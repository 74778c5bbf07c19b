"""Checks of a config as a whole: combinations of entries that cannot work, refused before any job starts.

Contradictions within one entry are refused by the entry's own model, in its `problems`.
"""

from collections.abc import Iterator
from pathlib import Path

from diffprobe.config.autoencoders import Autoencoder, Trained
from diffprobe.config.checks import experiments, generation, probes
from diffprobe.config.datasets import Dataset
from diffprobe.config.latents import Latents
from diffprobe.config.models import Config
from diffprobe.config.problems import Problem, one_of


def problems(config: Config) -> Iterator[Problem]:
    """Every impossible combination in the config."""
    if Path(config.results).exists() and not Path(config.results).is_dir():
        yield "results", config.results, "a folder (a file has this name)"
    for name, dataset in config.datasets.items():
        yield from dataset.problems(f"datasets.{name}")
        yield from generation.references(f"datasets.{name}.references", dataset, config)
    yield from mirrors(config)
    for name, autoencoder in config.autoencoders.items():
        yield from autoencoder_problems(f"autoencoders.{name}", autoencoder, config)
    for name, latents in config.latents.items():
        yield from latents_problems(f"latents.{name}", latents, config)
    for name, extractor in config.extractors.items():
        yield from extractor.problems(f"extractors.{name}")
        dataset_name = extractor.trained_on
        if dataset_name is None:
            continue
        if dataset_name not in config.datasets:
            yield f"extractors.{name}.dataset", dataset_name, one_of(config.datasets)
        elif config.datasets[dataset_name].facts.classes == 0:
            yield f"extractors.{name}.dataset", dataset_name, "a dataset with labels"
    for name, experiment in config.experiments.items():
        yield from experiments.problems(f"experiments.{name}", experiment, config)
    yield from generation.shared_names(config)
    yield from probes.shared_names(config)


def mirrors(config: Config) -> Iterator[Problem]:
    """Different mirrors of one kind of source, which is downloaded only once."""
    by_kind: dict[str, str | None] = {}
    for name, dataset in config.datasets.items():
        if dataset.source.archives:
            mirror = getattr(dataset.source, "mirror", None)
            first = by_kind.setdefault(dataset.source.kind, mirror)
            if mirror != first:
                yield f"datasets.{name}.source.mirror", mirror, f"{first}, as in the other dataset of this kind"


def autoencoder_problems(key: str, autoencoder: Autoencoder, config: Config) -> Iterator[Problem]:
    yield from autoencoder.problems(key)
    if not isinstance(autoencoder, Trained):
        return
    if autoencoder.dataset in config.datasets:
        yield from autoencoder.problems_with(key, config.datasets[autoencoder.dataset].facts)
    else:
        yield f"{key}.dataset", autoencoder.dataset, one_of(config.datasets)


def latents_problems(key: str, latents: Latents, config: Config) -> Iterator[Problem]:
    """An autoencoder that does not fit the images or was trained on their test split; a scale it does not have."""
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
            return  # reported for the autoencoder
        yield from leaks(key, latents, autoencoder.trained_on, config)
    elif facts.channels not in (1, autoencoder.image_channels):
        yield f"{key}.autoencoder", latents.autoencoder, f"an autoencoder of images with {facts.channels} channels"
    # Repeating pixels must undo exactly. For its own dataset the autoencoder reports this itself.
    divides = not facts.size or autoencoder.size % facts.size == 0
    if autoencoder.resize == "repeat" and not divides and autoencoder.trained_on != latents.dataset:
        allowed = f"an autoencoder whose size is a multiple of the image size, {facts.size} pixels"
        yield f"{key}.autoencoder", latents.autoencoder, allowed
    if latents.scale == "published" and not autoencoder.has_published_scale:
        yield f"{key}.scale", "published", "measured, or a number (only pretrained autoencoders have a published scale)"
    if latents.normalise and autoencoder.image_channels != 3:
        allowed = f"null, since the autoencoder's images have {autoencoder.image_channels} channels, not 3"
        yield f"{key}.normalise", latents.normalise, allowed
    yield from latents.problems(key)


def division(dataset: Dataset) -> tuple[object, ...]:
    """What decides which of a source's images are in which split."""
    return dataset.split, dataset.only, dataset.per_class


def leaks(key: str, latents: Latents, trained_on: str, config: Config) -> Iterator[Problem]:
    """An autoencoder trained on other kinds of images, or on some of this dataset's test images."""
    dataset, other = config.datasets[latents.dataset], config.datasets[trained_on]
    if other.source == dataset.source and division(other) != division(dataset):
        allowed = f"an autoencoder of {latents.dataset}: {trained_on} splits the same images differently"
        yield f"{key}.autoencoder", latents.autoencoder, f"{allowed}, so it has seen some test images"
    if other.facts.channels != dataset.facts.channels:
        channels = dataset.facts.channels
        yield f"{key}.autoencoder", latents.autoencoder, f"an autoencoder of images with {channels} channels"
