"""What cannot be asked of a model's features, found before any job starts."""

from collections.abc import Iterator

from diffprobe.config import levels
from diffprobe.config.facts import conditional, facts, network_taps, split_rows
from diffprobe.config.models import Config, Experiment
from diffprobe.config.names import figure_of, level_name
from diffprobe.config.probing import KNN, Evaluated, Linear, Probe, Ridge, Search
from diffprobe.config.words import Problem, listed, one_of


def of_probe(key: str, experiment: Experiment, probe: Probe, config: Config) -> Iterator[Problem]:
    """Levels, taps, copies and evaluators that the model or the data do not have."""
    dataset = config.datasets[experiment.dataset]
    if facts(dataset).classes == 0:
        yield key, "a probe", f"null, since {experiment.dataset} has no labels"
    yield from of_levels(f"{key}.levels", experiment, probe)
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
        views = config.latents[experiment.latents].views
        if sum(getattr(view, "count", 1) for view in views) < 2:
            yield f"{key}.augmented", probe.augmented, f"0, or more views of latents.{experiment.latents}"
    yield from of_evaluators(key, experiment, probe, config)


def of_weights(key: str, name: str, experiment: Experiment) -> Iterator[Problem]:
    known = [*experiment.train.averages, "raw"]
    if name not in known:
        yield key, name, one_of(known)


def of_levels(key: str, experiment: Experiment, probe: Probe) -> Iterator[Problem]:
    searched = isinstance(probe.levels, Search)
    asked = [probe.levels.low, probe.levels.high] if searched else probe.levels
    found = []
    for level in asked:
        try:
            found.append(levels.ratio(level, experiment))
        except ValueError as error:
            yield key, level if isinstance(level, float) else level.model_dump(), str(error)
    if len(found) < len(asked):
        return
    if searched and found[0] >= found[1]:
        yield f"{key}.low", level_name(found[0]), f"less noise than high = {level_name(found[1])}"
    if searched and probe.levels_per_job:
        yield (
            f"{key[:-7]}.levels_per_job",
            probe.levels_per_job,
            "null, since one level follows from others",
        )
    if searched and probe.levels.keep > probe.levels.coarse:
        yield f"{key}.keep", probe.levels.keep, f"at most coarse = {probe.levels.coarse}"
    if not asked:
        yield key, asked, "at least one level"
    names = levels.names(found)
    if len(set(names)) < len(names):
        yield (
            key,
            found,
            f"levels that differ within six significant digits (there are {listed(names)})",
        )


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
    searched = isinstance(probe.levels, Search)
    for cell in evaluator.combine:
        if cell.tap is None and cell.level is None:
            yield key, "{}", "another tap or another level than the chosen one"
        if cell.tap is not None and cell.tap not in known:
            yield f"{key}.tap", cell.tap, one_of(known)
        if cell.level is not None and searched:
            yield f"{key}.level", cell.level, "null, since the levels are searched for"
        elif cell.level is not None:
            try:
                if levels.ratio(cell.level, experiment) not in levels.grid_levels(experiment):
                    yield f"{key}.level", cell.level, "one of the grid's levels"
            except ValueError:
                pass  # said where the levels are
