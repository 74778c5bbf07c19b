"""What cannot be asked of a model's features, found before any job starts."""

from collections.abc import Iterator

from diffprobe.config import levels
from diffprobe.config.inferred import conditional, facts, network_taps, split_rows
from diffprobe.config.models import Config, Experiment
from diffprobe.config.names import figure_of, level_name
from diffprobe.config.probing import KNN, At, Evaluated, Level, Linear, Probe, Ridge
from diffprobe.config.problems import Problem, listed, one_of


def of_probe(key: str, experiment: Experiment, probe: Probe, config: Config) -> Iterator[Problem]:
    """Levels, taps, copies and evaluators that the model or the data do not have."""
    dataset = config.datasets[experiment.dataset]
    if facts(dataset).classes == 0:
        yield key, "a probe", f"null, since {experiment.dataset} has no labels"
    yield from of_levels(key, experiment, probe)
    yield from of_weights(f"{key}.weights", probe.weights, experiment)
    yield from of_taps(f"{key}.taps", experiment, probe)
    if len(set(probe.seeds)) < len(probe.seeds):
        yield f"{key}.seeds", probe.seeds, "each seed once"
    classes = facts(dataset).classes
    if probe.label is not None and not conditional(config, experiment):
        yield f"{key}.label", probe.label, "null, since this network is told no label"
    elif probe.label is not None and classes is not None and probe.label >= classes:
        yield f"{key}.label", probe.label, f"0 to {classes - 1}, the classes of {experiment.dataset}"
    if probe.augmented and experiment.latents:
        latents = config.latents[experiment.latents]
        known = latents.imported is None or latents.imported.versions > 0
        if known and latents.versions < 2:
            yield f"{key}.augmented", probe.augmented, f"0, or more views of latents.{experiment.latents}"
    yield from of_evaluators(key, experiment, probe, config)


def of_weights(key: str, name: str, experiment: Experiment) -> Iterator[Problem]:
    known = [*experiment.train.averages, "raw"]
    if name not in known:
        yield key, name, one_of(known)


def of_levels(key: str, experiment: Experiment, probe: Probe) -> Iterator[Problem]:
    """Levels that the process does not have, that have one name, or a search that cannot be."""
    search = probe.search
    if bool(probe.levels) == bool(search):
        yield f"{key}.levels", probe.levels, "at least one level, or a search"
    found: list[float] = []
    yield from of_each(f"{key}.levels", probe.levels, experiment, found)
    names = levels.names(found)
    if len(set(names)) < len(names):
        yield (
            f"{key}.levels",
            found,
            f"levels that differ within six significant digits (there are {listed(names)})",
        )
    if search is None:
        return
    ends: list[float] = []
    yield from of_each(f"{key}.search.low", [search.low], experiment, ends)
    yield from of_each(f"{key}.search.high", [search.high], experiment, ends)
    if len(ends) == 2 and ends[0] >= ends[1]:
        yield f"{key}.search.low", level_name(ends[0]), f"less noise than high = {level_name(ends[1])}"
    if search.keep > search.coarse:
        yield f"{key}.search.keep", search.keep, f"at most coarse = {search.coarse}"
    if probe.levels_per_job:
        yield f"{key}.levels_per_job", probe.levels_per_job, "null, since one level follows from others"


def of_each(key: str, asked: list[Level], experiment: Experiment, found: list[float]) -> Iterator[Problem]:
    """Levels that the process does not have; what it has, goes into `found` as sigma/alpha."""
    for level in asked:
        told = level.model_dump(exclude_none=True) if isinstance(level, At) else level
        if isinstance(level, At) and len(told) != 1:
            yield key, told, "t or edm_index"
            continue
        try:
            found.append(levels.ratio(level, experiment))
        except ValueError as error:
            yield key, told, str(error)


def of_taps(key: str, experiment: Experiment, probe: Probe) -> Iterator[Problem]:
    known = network_taps(experiment)
    if not known:
        yield key, probe.taps, "a network with taps (this one has none)"
    if probe.taps == "all":
        return
    for tap in probe.taps:
        if tap not in known:
            yield key, tap, one_of(known)
    if len(set(probe.taps)) < len(probe.taps) or not probe.taps:
        yield key, probe.taps, "at least one tap, each once"


def of_evaluators(key: str, experiment: Experiment, probe: Probe, config: Config) -> Iterator[Problem]:
    scorers = [name for name, found in probe.evaluators.items() if scores(found)]
    if probe.scorer is not None and probe.scorer not in scorers:
        yield f"{key}.scorer", probe.scorer, f"a linear or ridge evaluator of the chosen cell alone: {one_of(scorers)}"
    elif not scorers:
        yield f"{key}.evaluators", list(probe.evaluators), "a linear or ridge one among them, to score the grid by"
    rows = split_rows(config.datasets[experiment.dataset])
    for name, evaluator in probe.evaluators.items():
        at = f"{key}.evaluators.{name}"
        if figure_of(name):
            yield at, name, "another name, since figures of generation are called like this"
        if rows and isinstance(evaluator, KNN) and max(evaluator.k) > max(rows["train"], 1):
            yield f"{at}.k", max(evaluator.k), f"at most the images of train (about {rows['train']:,})"
        yield from of_joined(f"{at}.combine", evaluator, experiment, probe)


def scores(evaluator: Evaluated) -> bool:
    """Whether an evaluator can score the grid."""
    return isinstance(evaluator, Linear | Ridge) and not evaluator.combine and not evaluator.tokens


def of_joined(key: str, evaluator: Evaluated, experiment: Experiment, probe: Probe) -> Iterator[Problem]:
    """Only cells of the grid can be joined, so that `select` is asked what `test` is."""
    known = network_taps(experiment) if probe.taps == "all" else probe.taps
    for cell in evaluator.combine:
        if cell.tap is None and cell.level is None:
            yield key, "{}", "another tap or another level than the chosen one"
        if cell.tap is not None and cell.tap not in known:
            yield f"{key}.tap", cell.tap, one_of(known)
        if cell.level is not None and probe.search:
            yield f"{key}.level", cell.level, "null, since the levels are searched for"
        elif cell.level is not None:
            joined: list[float] = []
            yield from of_each(f"{key}.level", [cell.level], experiment, joined)
            if joined and joined[0] not in levels.grid_levels(experiment):
                yield f"{key}.level", level_name(joined[0]), "one of the grid's levels"
