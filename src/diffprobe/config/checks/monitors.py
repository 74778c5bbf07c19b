"""Checks of label-free figures, maps of similarity and pictures of features."""

from collections import Counter
from collections.abc import Iterator

from diffprobe.config.checks.probes import encoder
from diffprobe.config.models import Config, Experiment
from diffprobe.config.probing import Probe, Similarity
from diffprobe.config.problems import Problem, one_of


def problems(key: str, experiment: Experiment, probe: Probe, config: Config) -> Iterator[Problem]:
    """Figures that the grid, the subset or the extractors do not allow, or that have the name of another."""
    # Without noise the copies of an image are equal, except where each is a sample of a posterior.
    sampled = experiment.latents is not None and probe.latents_as == "sample"
    copies = (probe.noisy and probe.input == "noisy") or sampled
    figures = [figure for monitor in probe.monitors for figure in monitor.figures]
    images = subset_size(experiment, probe, config)
    taken = Counter([*probe.evaluators, *figures, *(probe.similarity.figures if probe.similarity else [])])
    for i, monitor in enumerate(probe.monitors):
        place = f"{key}.monitors.{i}"
        yield from monitor.problems(place, images)
        for figure in monitor.figures:
            if taken[figure] > 1:
                yield place, figure, "each figure once, and no evaluator or experiment of its name"
        if monitor.pairs and not copies:
            allowed = "also a level with noise, and `input: noisy`, since two copies of a clean image are equal"
            yield place, monitor.kind, allowed
        if monitor.encoder is not None:
            yield from encoder(f"{place}.to", monitor.encoder, experiment, config)
    if probe.pictures and 3 * probe.pictures.perplexity > probe.pictures.points:
        allowed = f"at most {probe.pictures.points / 3:.4g}, a third of pictures.points = {probe.pictures.points}"
        yield f"{key}.pictures.perplexity", probe.pictures.perplexity, allowed
    if probe.similarity:
        yield from similarity(f"{key}.similarity", experiment, probe, probe.similarity, config)


def similarity(
    key: str, experiment: Experiment, probe: Probe, settings: Similarity, config: Config
) -> Iterator[Problem]:
    """Experiments without features of the same images."""
    others = {name: other for name, other in config.experiments.items() if other is not experiment}
    alike = [
        name
        for name, other in others.items()
        if other.probe and (other.dataset, other.probe.subset) == (experiment.dataset, probe.subset)
    ]
    for name in settings.experiments:
        if name not in alike:
            allowed = f"another experiment of this run on {experiment.dataset} whose probe has the same subset: "
            yield f"{key}.experiments", name, allowed + one_of(alike)
    if len(set(settings.experiments)) < len(settings.experiments):
        yield f"{key}.experiments", settings.experiments, "each experiment once"
    if settings.neighbours >= (images := subset_size(experiment, probe, config)):
        yield f"{key}.neighbours", settings.neighbours, f"below the {images:,} images of the subset"


def subset_size(experiment: Experiment, probe: Probe, config: Config) -> int:
    """Images of the subset: those asked for, or those of the split where it is known to have fewer."""
    rows = config.datasets[experiment.dataset].split_rows
    return min(probe.subset.images, rows[probe.subset.split]) if rows else probe.subset.images
