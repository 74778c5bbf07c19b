"""Checks of a probe: levels, taps, copies and evaluators that the model or the data do not have."""

from collections import Counter
from collections.abc import Iterator, Sequence

from diffprobe.config import levels
from diffprobe.config.evaluators import Evaluator
from diffprobe.config.inferred import conditional, transferred_latents
from diffprobe.config.models import Config, Experiment
from diffprobe.config.names import figure_of, level_name
from diffprobe.config.noise import CLEAN, At, GridLevel, Level
from diffprobe.config.probing import Probe, Search
from diffprobe.config.problems import Problem, listed, one_of


def problems(key: str, experiment: Experiment, probe: Probe, config: Config) -> Iterator[Problem]:
    """Settings of an experiment's probe that contradict its model, its data or each other."""
    classes = config.datasets[experiment.dataset].facts.classes
    if classes == 0:
        yield key, "a probe", f"null, since {experiment.dataset} has no labels"
    yield from grid_levels(key, experiment, probe)
    yield from weights(f"{key}.weights", probe.weights, experiment)
    yield from taps(f"{key}.taps", experiment, probe)
    yield from columns(key, experiment, probe)
    if len(set(probe.seeds)) < len(probe.seeds):
        yield f"{key}.seeds", probe.seeds, "each seed once"
    if probe.label is not None and not conditional(config, experiment):
        yield f"{key}.label", probe.label, "null, since this network is not conditioned on labels"
    elif probe.label is not None and classes is not None and probe.label >= classes:
        yield f"{key}.label", probe.label, f"0 to {classes - 1}, the classes of {experiment.dataset}"
    for embedding in probe.zeroed:
        if embedding not in experiment.network.embeddings:
            yield f"{key}.zeroed", embedding, f"[], since zeros cannot replace it in a {experiment.network.kind}"
        elif embedding == "label" and not conditional(config, experiment):
            yield f"{key}.zeroed", embedding, "without label, since this network is not conditioned on labels"
        elif embedding == "label" and probe.label is not None:
            yield f"{key}.label", probe.label, "null, since zeroed has the label"
    if probe.augmented and experiment.latents and not config.latents[experiment.latents].several_views:
        yield f"{key}.augmented", probe.augmented, f"0, or more views of latents.{experiment.latents}"
    yield from view(f"{key}.view", experiment, probe, config)
    if probe.mirrored and experiment.latents:
        yield f"{key}.mirrored", True, "false, since latents are not mirrored"
    if probe.mirrored and probe.draws % 2:
        yield f"{key}.draws", probe.draws, "an even number, since every second copy is mirrored"
    yield from evaluators(key, experiment, probe, config)
    yield from transfer(f"{key}.transfer", experiment, probe, config)
    yield from baselines(f"{key}.baselines", experiment, probe, config)
    yield from shared_rows(key, probe)


def transfer(key: str, experiment: Experiment, probe: Probe, config: Config) -> Iterator[Problem]:
    """Datasets that are not there or that the evaluators cannot be fitted on."""
    others = [name for name in config.datasets if name != experiment.dataset]
    for name in probe.transfer:
        if name not in others:
            yield key, name, one_of(others)
            continue
        if experiment.latents:
            yield from transferred(key, name, experiment, probe, config)
        if config.datasets[name].facts.classes == 0:
            yield key, name, "datasets with labels"
        for evaluator, settings in probe.heads.items():
            for place, value, allowed in settings.problems(f"evaluators.{evaluator}", config.datasets[name]):
                yield key, name, f"a dataset that {place} = {value} allows: {allowed}"


def transferred(key: str, name: str, experiment: Experiment, probe: Probe, config: Config) -> Iterator[Problem]:
    """Another dataset without latents by the autoencoder of the model's own, or with too few views of them."""
    assert experiment.latents is not None
    autoencoder = config.latents[experiment.latents].autoencoder
    store = transferred_latents(config, experiment, name)
    if store is None:
        like = "" if config.latents[experiment.latents].normalise is None else " and the same normalise"
        yield key, name, f"a dataset that an entry of latents has with the autoencoder {autoencoder}{like}"
    elif probe.augmented and not config.latents[store].several_views:
        yield key, name, f"a dataset with more views in latents.{store}, since augmented copies are its views"


def baselines(key: str, experiment: Experiment, probe: Probe, config: Config) -> Iterator[Problem]:
    """Extractors that are not there, and classifiers of other images."""
    for name in probe.baselines:
        yield from encoder(key, name, experiment, config)


def encoder(key: str, name: str, experiment: Experiment, config: Config) -> Iterator[Problem]:
    """An extractor that is not there, or a classifier of other images."""
    if name not in config.extractors:
        yield key, name, f"an entry of extractors: {one_of(config.extractors)}"
    elif config.extractors[name].trained_on not in (None, experiment.dataset):
        yield key, name, f"a classifier of {experiment.dataset}, or a pretrained extractor"


def shared_rows(key: str, probe: Probe) -> Iterator[Problem]:
    """Rows of two evaluators, or of an evaluator and another dataset or an extractor, in one."""
    own = [(name, row) for name, evaluator in probe.evaluators.items() for row in evaluator.row_names(name)]
    others = [(other, f"{other}_{row}") for other in (*probe.transfer, *probe.baselines) for _, row in own]
    counts = Counter(row for _, row in (*own, *others))
    for name, row in (*own, *others):
        if counts[row] > 1:
            yield f"{key}.evaluators", name, f"another name, since {row} names rows of two"
            return


def view(key: str, experiment: Experiment, probe: Probe, config: Config) -> Iterator[Problem]:
    """Random views that the images do not allow, or that nothing uses."""
    if probe.view is None:
        return
    facts = config.datasets[experiment.dataset].facts
    yield from probe.view.problems(key, facts.channels, facts.size)
    if experiment.latents:
        yield key, "random views", f"null, since augmented copies are views of latents.{experiment.latents}"
    elif not probe.augmented:
        yield key, "random views", "null, or a number of augmented copies"


def weights(key: str, name: str, experiment: Experiment) -> Iterator[Problem]:
    """Weights that training does not write. Samplers use this check too."""
    names = [*experiment.train.averages, "raw"]
    if name not in names:
        yield key, name, one_of(names)


def grid_levels(key: str, experiment: Experiment, probe: Probe) -> Iterator[Problem]:
    """Levels that the process does not have or whose names collide, and impossible searches."""
    if bool(probe.levels) == bool(probe.search):
        yield f"{key}.levels", probe.levels, "either levels or a search"
    ratios: list[float] = []
    yield from resolved(f"{key}.levels", probe.levels, experiment, ratios)
    names = [level_name(ratio) for ratio in ratios]  # of files and columns
    if len(set(names)) < len(names):
        yield f"{key}.levels", ratios, f"levels that differ in six significant digits (these are {listed(names)})"
    if probe.search:
        yield from search(f"{key}.search", probe.search, experiment)
        if probe.levels_per_job:
            yield f"{key}.levels_per_job", probe.levels_per_job, "null, since a search is sequential"


def search(key: str, search: Search, experiment: Experiment) -> Iterator[Problem]:
    ends: list[float] = []
    yield from resolved(f"{key}.low", [search.low], experiment, ends)
    yield from resolved(f"{key}.high", [search.high], experiment, ends)
    if len(ends) == 2 and ends[0] >= ends[1]:
        yield f"{key}.low", level_name(ends[0]), f"less noise than high = {level_name(ends[1])}"
    if search.keep > search.coarse:
        yield f"{key}.keep", search.keep, f"at most coarse = {search.coarse}"


def resolved(key: str, written: Sequence[GridLevel], experiment: Experiment, ratios: list[float]) -> Iterator[Problem]:
    """Append sigma/alpha of the levels to `ratios`; report those that the process does not have."""
    for level in written:
        try:
            ratios.append(levels.ratio(level, experiment))
        except ValueError as error:
            yield key, level.model_dump(exclude_none=True) if isinstance(level, At) else level, str(error)


def taps(key: str, experiment: Experiment, probe: Probe) -> Iterator[Problem]:
    if not experiment.taps:
        yield key, probe.taps, "a network with taps (this one has none)"
    if probe.taps == "all":
        return
    for tap in probe.taps:
        if tap not in experiment.named_taps:
            yield key, tap, one_of(experiment.named_taps)
    if len(set(probe.taps)) < len(probe.taps) or not probe.taps:
        yield key, probe.taps, "at least one tap, each once"


def columns(key: str, experiment: Experiment, probe: Probe) -> Iterator[Problem]:
    """Taps that none of the levels has, and levels at which no tap is computed."""
    clean = experiment.clean_taps
    if clean and probe.input == "clean":
        yield f"{key}.input", probe.input, f"noisy, since {clean[0]} of this model sees images without noise anyway"
    if not clean:  # every tap has every level
        if probe.code != "encoded":
            yield f"{key}.code", probe.code, "encoded, since this model makes no code of an image"
        return
    kinds = ((CLEAN, probe.clean, "the level clean", clean), (1.0, probe.noisy, "a level with noise", experiment.taps))
    for ratio, has_level, level, such in kinds:
        probed = experiment.probed_at(ratio)
        if probed and not has_level:
            yield f"{key}.taps", probed[0], f"a tap of the grid's levels (this one is computed at {level})"
            return
        if has_level and not probed:
            yield f"{key}.taps", probe.taps, f"also a tap of {level}, such as {such[-1]}"
            return


def evaluators(key: str, experiment: Experiment, probe: Probe, config: Config) -> Iterator[Problem]:
    """Evaluators that cannot be fitted on these features, and a grid that none can score."""
    scorers = [name for name, evaluator in probe.evaluators.items() if evaluator.scores]
    if probe.scorer is not None and probe.scorer not in scorers:
        allowed = f"a linear or ridge evaluator without combine, at, levels or tokens: {one_of(scorers)}"
        yield f"{key}.scorer", probe.scorer, allowed
    elif not scorers:
        yield f"{key}.evaluators", list(probe.evaluators), "at least one linear or ridge evaluator, to score the grid"
    for name, evaluator in probe.evaluators.items():
        place = f"{key}.evaluators.{name}"
        if figure_of(name):
            yield place, name, "another name, since metrics of generation have names like this"
        if evaluator.fitted_on == "augmented" and not probe.augmented:
            yield f"{key}.augmented", 0, f"at least 1, since {name} is fitted on augmented copies"
        yield from evaluator.problems(place, config.datasets[experiment.dataset])
        if channels := experiment.network.tap_channels:
            yield from evaluator.tap_problems(place, channels)
        yield from evaluator.model_problems(place, experiment)
        yield from joined(place, evaluator, experiment, probe)
        yield from only_tap(place, evaluator, experiment)
        if evaluator.levels is not None:
            yield from by_level(f"{place}.levels", name, evaluator, evaluator.levels, experiment, probe)


def only_tap(place: str, evaluator: Evaluator, experiment: Experiment) -> Iterator[Problem]:
    """An evaluator of one tap that would see others."""
    tap, at = evaluator.only_tap, evaluator.at.tap if evaluator.at else None
    if not tap:
        return
    if tap not in experiment.taps:
        allowed = f"another, since the network {experiment.network.kind} has no layer {tap}"
        yield f"{place}.kind", evaluator.kind, allowed
    elif set([at] if at else experiment.probed_taps) != {tap} or evaluator.combine:
        yield place, f"kind {evaluator.kind}", f"probe.taps: [{tap}], or at: {{tap: {tap}}}"


def by_level(
    key: str, name: str, evaluator: Evaluator, written: list[Level] | str, experiment: Experiment, probe: Probe
) -> Iterator[Problem]:
    """Levels of an evaluator that are outside the grid, that are one level, or at which its layer is not computed."""
    if probe.search:
        yield key, written, "null, since the levels come from a search"
        return
    grid, own = list[float](), list[float]()
    list(resolved(key, probe.levels, experiment, grid))  # those that there are; the others are reported already
    if isinstance(written, str):
        own = [level for level in grid if level != CLEAN]
    else:
        yield from resolved(key, written, experiment, own)
    for level in own:
        if level not in grid:
            yield key, level_name(level), "levels of the grid"
    if len(set(own)) < max(len(own), 1):
        yield key, written, "at least one level with noise, each once"
    elif set(own) <= set(grid):
        yield from evaluator.level_problems(key.removesuffix(".levels"), own)
    tap = evaluator.at.tap if evaluator.at else None
    clean = [each for each in ([tap] if tap else experiment.probed_taps) if each in experiment.clean_taps]
    if clean:
        yield key, written, f"null, since {clean[0]} sees images without noise"
    if evaluator.combine or (evaluator.at and evaluator.at.level is not None):
        yield key, written, "null, or no combine and no other level in at"
    if f"{name}_mean" in probe.evaluators:
        yield key.removesuffix(".levels"), f"{name}_mean", f"another name (that of the mean of {name} over its levels)"


def joined(place: str, evaluator: Evaluator, experiment: Experiment, probe: Probe) -> Iterator[Problem]:
    """Named cells outside the grid. An evaluator must see the same features on `select` as on `test`."""
    in_grid, grid = experiment.probed_taps, list[float]()
    list(resolved(place, probe.levels, experiment, grid))  # those that there are; the others are reported already
    for cell in evaluator.named_cells:
        key = f"{place}.at" if cell is evaluator.at else f"{place}.combine"
        if cell.tap is None and cell.level is None:
            yield key, "{}", "another tap or another level than the chosen one"
        if cell.tap is not None and cell.tap not in in_grid:
            yield f"{key}.tap", cell.tap, one_of(in_grid)
        if cell.level is not None and probe.search:
            yield f"{key}.level", cell.level, "null, since the levels come from a search"
        elif cell.level is not None:
            ratios: list[float] = []
            yield from resolved(f"{key}.level", [cell.level], experiment, ratios)
            if ratios and ratios[0] not in grid:
                yield f"{key}.level", level_name(ratios[0]), "one of the grid's levels"
        # Whether it is clean: by its tap, or any that may be chosen, and by its level, or any that may be chosen.
        of_tap = {tap in experiment.clean_taps for tap in ([cell.tap] if cell.tap else in_grid)}
        of_level = {cell.level == "clean"} if cell.level else {level == "clean" for level in probe.levels or [1.0]}
        if experiment.clean_taps and len(of_tap | of_level) > 1:
            allowed = "a tap and a level at which it is computed, whatever cell is chosen"
            yield key, cell.model_dump(exclude_none=True), allowed


def shared_names(config: Config) -> Iterator[Problem]:
    """One name for evaluators that different rules evaluate: a rule tells its jobs by the evaluator's name."""
    rule_of: dict[str, str] = {}
    for name, experiment in config.experiments.items():
        for evaluator, settings in experiment.probe.evaluators.items() if experiment.probe else ():
            if rule_of.setdefault(evaluator, settings.rule) != settings.rule:
                place = f"experiments.{name}.probe.evaluators.{evaluator}.kind"
                yield place, settings.kind, "another name, since another experiment has an evaluator of this one"
