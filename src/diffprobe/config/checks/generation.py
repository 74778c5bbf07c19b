"""Checks of the metrics of generation: extractors, metrics they do not support, and numbers of images."""

from collections.abc import Iterator, Sequence

from diffprobe.config.datasets import Dataset
from diffprobe.config.extractors import Extractor
from diffprobe.config.models import Config, Experiment, Generation
from diffprobe.config.names import FIGURES, OF_SUBSET, count_name, promised_figure
from diffprobe.config.problems import Problem, listed, one_of


def references(key: str, dataset: Dataset, config: Config) -> Iterator[Problem]:
    for name, path in dataset.references.items():
        if name not in config.extractors:
            yield f"{key}.{name}", path, f"references by extractor: {one_of(config.extractors)}"
        elif not path.endswith(".npz"):
            yield f"{key}.{name}", path, "an .npz file with mu and sigma"


def problems(key: str, experiment: Experiment, generation: Generation, config: Config) -> Iterator[Problem]:
    """Missing or unsuitable extractors, metrics they do not support, too few images."""
    kept, images = experiment.sample.keep_samples, experiment.sample.images
    if kept != "all" and kept > images:
        yield f"{key}.sample.keep_samples", kept, f"all, or at most sample.images = {images:,}"
    if generation.decodings and not experiment.task.samples_from_images:
        yield f"{key}.generation.decodings", "of codes", f"null, since the task {experiment.task.kind} makes none"
    extractors: dict[str, Extractor] = {}
    for name in generation.extractors:
        if name not in config.extractors:
            yield f"{key}.generation.extractors", name, one_of(config.extractors)
            continue
        extractors[name] = config.extractors[name]
        if extractors[name].trained_on not in (None, experiment.dataset):
            allowed = f"a classifier of {experiment.dataset}, or a pretrained extractor"
            yield f"{key}.generation.extractors", name, allowed
    if len(set(generation.extractors)) < len(generation.extractors):
        yield f"{key}.generation.extractors", generation.extractors, "each extractor once"
    if len(extractors) < len(set(generation.extractors)) or not extractors:
        return
    if generation.figures != "all":
        for figure in generation.figures:
            yield from metric(f"{key}.generation.figures", figure, experiment, list(extractors), config)
        if not generation.figures:
            yield f"{key}.generation.figures", [], "at least one metric, or all"
    yield from counts(key, experiment, config)


def shared_names(config: Config) -> Iterator[Problem]:
    """Two extractors whose metrics would have the same name for one dataset, and so collide in the tables."""
    extractor_of: dict[tuple[str, str], str] = {}
    for name, experiment in config.experiments.items():
        for extractor in experiment.generation.extractors if experiment.generation else ():
            if extractor not in config.extractors:
                continue  # reported for the experiment
            printed = config.extractors[extractor].printed_name
            other = extractor_of.setdefault((experiment.dataset, printed), extractor)
            if other != extractor:
                allowed = f"one extractor that prints as {printed} for {experiment.dataset} (already used by {other})"
                yield f"experiments.{name}.generation.extractors", extractor, allowed


def metric(key: str, text: str, experiment: Experiment, extractors: Sequence[str], config: Config) -> Iterator[Problem]:
    """A metric by name, perhaps with a number of images: `fid` or `fid50k`."""
    promise = promised_figure(text)
    if promise is None:
        yield key, text, f"{listed(FIGURES)}, each with or without its number of images (fid50k), or all"
        return
    figure, promised = promise
    images = experiment.sample.images
    # Names state how many images a metric used, so a promise must match what it will use.
    measured = min(images, config.metrics.subset) if figure in OF_SUBSET else images
    if promised not in (None, measured):
        limit = "metrics.subset" if measured < images else "sample.images"
        allowed = f"{figure}{count_name(measured)}, since {limit} is {measured:,}; or change that to {promised:,}"
        yield key, text, allowed
    if not any(config.extractors[name].gives(figure) for name in extractors):
        yield key, text, f"metrics that {listed(extractors)} supports: {Extractor.needs[figure]}"


def counts(key: str, experiment: Experiment, config: Config) -> Iterator[Problem]:
    """Too few images for the nearest neighbours or for a covariance matrix."""
    metrics, images = config.metrics, experiment.sample.images
    least = max(metrics.neighbours + 1, 4)  # k neighbours besides the image itself
    if min(images, metrics.subset) < least:
        name = f"{key}.sample.images" if images < least else "metrics.subset"
        yield name, min(images, metrics.subset), f"at least {least}, for metrics.neighbours = {metrics.neighbours}"
    rows = config.datasets[experiment.dataset].split_rows
    if rows is None:
        return
    reference = min(rows["train"] + rows["select"], metrics.subset)
    widest = max(metrics.neighbours, metrics.wide_neighbours)
    if widest >= reference:
        name = "neighbours" if metrics.neighbours == widest else "wide_neighbours"
        yield f"metrics.{name}", widest, f"below the number of reference images, {reference:,}"
