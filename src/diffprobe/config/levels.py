"""Noise levels of an experiment's probe as sigma/alpha: which there are, and which is meant."""

from collections.abc import Sequence

from diffprobe.config.evaluators import Joined
from diffprobe.config.models import Experiment
from diffprobe.config.names import level_name
from diffprobe.config.noise import At, Level


def ratio(level: Level, experiment: Experiment) -> float:
    """The sigma/alpha that is meant. Raises ValueError, with what is allowed, where the process has no such level."""
    process = experiment.process
    if not isinstance(level, At):
        return process.ratio(level)
    if (level.t is None) == (level.edm_index is None):
        raise ValueError("t or edm_index")
    if level.edm_index is not None:
        return process.ratio_at_edm_index(level.edm_index)
    assert level.t is not None
    return process.ratio_at_step(level.t, experiment.network.steps_from)


def grid_levels(experiment: Experiment) -> list[float] | None:
    """sigma/alpha of the grid's levels; None where they are searched for."""
    probe = experiment.probe
    if probe is None or probe.search:
        return None
    return [ratio(level, experiment) for level in probe.levels]


def parts(experiment: Experiment) -> int:
    """Into how many jobs the features of a checkpoint are divided."""
    probe = experiment.probe
    if probe is None or probe.search or not probe.levels_per_job:
        return 1
    return -(-len(probe.levels) // probe.levels_per_job)


def names(levels: Sequence[float]) -> list[str]:
    return [level_name(level) for level in levels]


def joined(cell: Joined, experiment: Experiment) -> dict[str, str | float | None]:
    """Features to be joined to the chosen ones: tap and sigma/alpha, None for the chosen."""
    return {"tap": cell.tap, "sigma": None if cell.level is None else ratio(cell.level, experiment)}
