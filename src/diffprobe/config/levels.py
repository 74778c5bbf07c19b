"""The noise levels of an experiment's probe, resolved to sigma/alpha."""

from diffprobe.config.evaluators import Evaluator, Joined
from diffprobe.config.models import Experiment
from diffprobe.config.noise import CLEAN, At, GridLevel


def ratio(level: GridLevel, experiment: Experiment) -> float:
    """sigma/alpha of a level. Raises ValueError, saying what is allowed, if the model has no features there."""
    process = experiment.process
    if level == "clean":
        untold = experiment.probe is not None and "time" in experiment.probe.zeroed
        if not experiment.clean_taps and not untold:
            raise ValueError("a noise level, since this model sees only noisy images (or zeroed: [time])")
        return CLEAN
    if not isinstance(level, At):
        return process.ratio(level)
    if (level.t is None) == (level.edm_index is None):
        raise ValueError("either t or edm_index")
    if level.edm_index is not None:
        return process.ratio_at_edm_index(level.edm_index)
    assert level.t is not None
    return process.ratio_at_step(level.t, experiment.network.steps_from)


def grid_levels(experiment: Experiment) -> list[float] | None:
    """sigma/alpha of the grid's levels; None if they come from a search."""
    probe = experiment.probe
    if probe is None or probe.search:
        return None
    return [ratio(level, experiment) for level in probe.levels]


def parts(experiment: Experiment) -> int:
    """Number of jobs that compute the features of one checkpoint."""
    probe = experiment.probe
    if probe is None or probe.search or not probe.levels_per_job:
        return 1
    return -(-len(probe.levels) // probe.levels_per_job)  # ceil


def by_level(evaluator: Evaluator, experiment: Experiment) -> list[float]:
    """sigma/alpha of the levels at which an evaluator is scored one by one, by increasing noise; empty: at the chosen
    level alone. Of a search there are none to name.
    """
    if evaluator.levels is None:
        return []
    if evaluator.levels == "all":
        return sorted(level for level in grid_levels(experiment) or [] if level != CLEAN)
    return sorted(ratio(level, experiment) for level in evaluator.levels)


def joined(cell: Joined, experiment: Experiment) -> dict[str, str | float | None]:
    """Tap and sigma/alpha of features joined to the chosen ones; None: the chosen tap or level."""
    return {"tap": cell.tap, "sigma": None if cell.level is None else ratio(cell.level, experiment)}
