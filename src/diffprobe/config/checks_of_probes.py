"""Checks of what is probed: levels, taps, copies and evaluators that the model or the data do not have."""

from collections.abc import Iterator, Sequence

from diffprobe.config import levels
from diffprobe.config.evaluators import Evaluator
from diffprobe.config.inferred import conditional
from diffprobe.config.models import Config, Experiment
from diffprobe.config.names import figure_of, level_name
from diffprobe.config.noise import At, Level
from diffprobe.config.probing import Probe, Search
from diffprobe.config.problems import Problem, listed, one_of


def of_probe(key: str, experiment: Experiment, probe: Probe, config: Config) -> Iterator[Problem]:
    dataset = config.datasets[experiment.dataset]
    classes = dataset.facts.classes
    if classes == 0:
        yield key, "a probe", f"null, since {experiment.dataset} has no labels"
    yield from of_levels(key, experiment, probe)
    yield from of_weights(f"{key}.weights", probe.weights, experiment)
    yield from of_taps(f"{key}.taps", experiment, probe)
    if len(set(probe.seeds)) < len(probe.seeds):
        yield f"{key}.seeds", probe.seeds, "each seed once"
    if probe.label is not None and not conditional(config, experiment):
        yield f"{key}.label", probe.label, "null, since this network is not conditioned on labels"
    elif probe.label is not None and classes is not None and probe.label >= classes:
        yield f"{key}.label", probe.label, f"0 to {classes - 1}, the classes of {experiment.dataset}"
    if probe.augmented and experiment.latents:
        latents = config.latents[experiment.latents]
        countable = latents.imported is None or latents.imported.versions > 0
        if countable and latents.versions < 2:
            yield f"{key}.augmented", probe.augmented, f"0, or more views of latents.{experiment.latents}"
    yield from of_evaluators(key, experiment, probe, config)


def of_weights(key: str, name: str, experiment: Experiment) -> Iterator[Problem]:
    weights = [*experiment.train.averages, "raw"]
    if name not in weights:
        yield key, name, one_of(weights)


def of_levels(key: str, experiment: Experiment, probe: Probe) -> Iterator[Problem]:
    """Levels that the process does not have or that share a name, and a search that cannot be."""
    if bool(probe.levels) == bool(probe.search):
        yield f"{key}.levels", probe.levels, "at least one level, or a search"
    ratios: list[float] = []
    yield from of_each(f"{key}.levels", probe.levels, experiment, ratios)
    names = levels.names(ratios)
    if len(set(names)) < len(names):
        allowed = f"levels that differ within six significant digits (there are {listed(names)})"
        yield f"{key}.levels", ratios, allowed
    if probe.search:
        yield from of_search(f"{key}.search", probe.search, experiment)
        if probe.levels_per_job:
            yield f"{key}.levels_per_job", probe.levels_per_job, "null, since one level follows from others"


def of_search(key: str, search: Search, experiment: Experiment) -> Iterator[Problem]:
    ends: list[float] = []
    yield from of_each(f"{key}.low", [search.low], experiment, ends)
    yield from of_each(f"{key}.high", [search.high], experiment, ends)
    if len(ends) == 2 and ends[0] >= ends[1]:
        yield f"{key}.low", level_name(ends[0]), f"less noise than high = {level_name(ends[1])}"
    if search.keep > search.coarse:
        yield f"{key}.keep", search.keep, f"at most coarse = {search.coarse}"


def of_each(key: str, wanted: Sequence[Level], experiment: Experiment, ratios: list[float]) -> Iterator[Problem]:
    """Levels that the process does not have; the others are appended to `ratios` as sigma/alpha."""
    for level in wanted:
        try:
            ratios.append(levels.ratio(level, experiment))
        except ValueError as error:
            yield key, level.model_dump(exclude_none=True) if isinstance(level, At) else level, str(error)


def of_taps(key: str, experiment: Experiment, probe: Probe) -> Iterator[Problem]:
    taps = experiment.taps
    if not taps:
        yield key, probe.taps, "a network with taps (this one has none)"
    if probe.taps == "all":
        return
    for tap in probe.taps:
        if tap not in taps:
            yield key, tap, one_of(taps)
    if len(set(probe.taps)) < len(probe.taps) or not probe.taps:
        yield key, probe.taps, "at least one tap, each once"


def of_evaluators(key: str, experiment: Experiment, probe: Probe, config: Config) -> Iterator[Problem]:
    scorers = [name for name, evaluator in probe.evaluators.items() if evaluator.scores]
    if probe.scorer is not None and probe.scorer not in scorers:
        yield f"{key}.scorer", probe.scorer, f"a linear or ridge evaluator of the chosen cell alone: {one_of(scorers)}"
    elif not scorers:
        yield f"{key}.evaluators", list(probe.evaluators), "a linear or ridge one among them, to score the grid by"
    for name, evaluator in probe.evaluators.items():
        place = f"{key}.evaluators.{name}"
        if figure_of(name):
            yield place, name, "another name, since figures of generation are called like this"
        yield from evaluator.problems(place, config.datasets[experiment.dataset])
        yield from of_joined(f"{place}.combine", evaluator, experiment, probe)


def of_joined(key: str, evaluator: Evaluator, experiment: Experiment, probe: Probe) -> Iterator[Problem]:
    """Only cells of the grid can be joined, so that an evaluator is chosen on `select` as it is read on `test`."""
    taps = experiment.taps if probe.taps == "all" else probe.taps
    for cell in evaluator.combine:
        if cell.tap is None and cell.level is None:
            yield key, "{}", "another tap or another level than the chosen one"
        if cell.tap is not None and cell.tap not in taps:
            yield f"{key}.tap", cell.tap, one_of(taps)
        if cell.level is not None and probe.search:
            yield f"{key}.level", cell.level, "null, since the levels are searched for"
        elif cell.level is not None:
            joined: list[float] = []
            yield from of_each(f"{key}.level", [cell.level], experiment, joined)
            if joined and joined[0] not in (levels.grid_levels(experiment) or []):
                yield f"{key}.level", level_name(joined[0]), "one of the grid's levels"
