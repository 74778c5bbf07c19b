"""Checks of what is measured of generated images: figures that the extractors cannot give, numbers that do not fit."""

from collections.abc import Iterator, Mapping

from diffprobe.config.datasets import Dataset
from diffprobe.config.extractors import Extractor
from diffprobe.config.models import Config, Experiment, Generation
from diffprobe.config.names import FIGURES, OF_SUBSET, count_name, promised_figure
from diffprobe.config.problems import Problem, listed, one_of


def of_references(key: str, dataset: Dataset, config: Config) -> Iterator[Problem]:
    for name, path in dataset.references.items():
        if name not in config.extractors:
            yield f"{key}.{name}", path, f"references by extractor: {one_of(config.extractors)}"
        elif not path.endswith(".npz"):
            yield f"{key}.{name}", path, "an .npz file with mu and sigma"


def of_generation(key: str, experiment: Experiment, generation: Generation, config: Config) -> Iterator[Problem]:
    """Extractors that are not there or of other images, figures that they cannot give, too few images."""
    kept, images = experiment.sample.keep_samples, experiment.sample.images
    if kept != "all" and kept > images:
        yield f"{key}.sample.keep_samples", kept, f"all, or at most sample.images = {images:,}"
    extractors = {name: config.extractors.get(name) for name in generation.extractors}
    for name, extractor in extractors.items():
        if extractor is None:
            yield f"{key}.generation.extractors", name, one_of(config.extractors)
        elif extractor.trained_on not in (None, experiment.dataset):
            allowed = f"a classifier of {experiment.dataset}, or an extractor of any images"
            yield f"{key}.generation.extractors", name, allowed
    if len(extractors) < len(generation.extractors):
        yield f"{key}.generation.extractors", generation.extractors, "each extractor once"
    usable = {name: extractor for name, extractor in extractors.items() if extractor is not None}
    if len(usable) < len(extractors) or not usable:
        return
    if generation.figures != "all":
        for figure in generation.figures:
            yield from of_figure(f"{key}.generation.figures", figure, experiment, usable, config)
        if not generation.figures:
            yield f"{key}.generation.figures", [], "at least one figure, or all"
    yield from of_counts(key, experiment, config)


def of_names(config: Config) -> Iterator[Problem]:
    """Two extractors whose figures would stand under one name, of one dataset, in one table."""
    seen: dict[tuple[str, str], str] = {}
    for name, experiment in config.experiments.items():
        for extractor in experiment.generation.extractors if experiment.generation else ():
            if extractor not in config.extractors:
                continue  # refused where it is
            printed = config.extractors[extractor].printed_name
            other = seen.setdefault((experiment.dataset, printed), extractor)
            if other != extractor:
                allowed = f"one extractor that prints as {printed} for {experiment.dataset} (there is {other} already)"
                yield f"experiments.{name}.generation.extractors", extractor, allowed


def of_figure(
    key: str, text: str, experiment: Experiment, by_name: Mapping[str, Extractor], config: Config
) -> Iterator[Problem]:
    """A figure by name, perhaps with the number of images that it promises."""
    promise = promised_figure(text)
    if promise is None:
        yield key, text, f"{listed(FIGURES)}, each alone or with its number of images (fid50k), or all"
        return
    figure, number = promise
    images = experiment.sample.images
    has = min(images, config.metrics.subset) if figure in OF_SUBSET else images
    if number not in (None, has):
        why = "metrics.subset" if has < images else "sample.images"
        yield key, text, f"{figure}{count_name(has)}, since {why} is {has:,}; or change that to {number:,}"
    if not any(extractor.gives(figure) for extractor in by_name.values()):
        yield key, text, f"figures that {listed(by_name)} can give: {Extractor.needs[figure]}"


def of_counts(key: str, experiment: Experiment, config: Config) -> Iterator[Problem]:
    """Fewer images than the neighbourhoods reach over, or than a covariance takes."""
    metrics, images = config.metrics, experiment.sample.images
    least = max(metrics.neighbours + 1, 4)
    if min(images, metrics.subset) < least:
        name = "sample.images" if images < least else "metrics.subset"
        where = f"{key}.{name}" if images < least else name
        yield where, min(images, metrics.subset), f"at least {least}, for metrics.neighbours = {metrics.neighbours}"
    rows = config.datasets[experiment.dataset].split_rows
    seen = rows["train"] + rows["select"] if rows else None  # the reference
    widest = max(metrics.neighbours, metrics.wide_neighbours)
    if seen is not None and widest >= min(seen, metrics.subset):
        name = "neighbours" if metrics.neighbours == widest else "wide_neighbours"
        yield f"metrics.{name}", widest, f"below the reference's {min(seen, metrics.subset):,} images"
