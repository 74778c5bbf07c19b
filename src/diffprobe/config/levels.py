"""Noise levels as a config names them, as sigma/alpha: which there are, and which is meant."""

from collections.abc import Sequence

from diffprobe.config.models import Experiment
from diffprobe.config.names import level_name
from diffprobe.config.probing import At, Joined, Level
from diffprobe.config.processes import Process
from diffprobe.config.schedules import edm_sigmas, linear_abar, nearest, ratios

EDM_STEPS = 18  # of the grid that `edm_index` counts in


def level_range(process: Process) -> tuple[float, float, str]:
    """The lowest and the highest sigma/alpha that features may be asked at, and what sets these."""
    if process.kind == "edm":
        return process.sigma_min, process.sigma_max, "the process's sigma_min, sigma_max"
    if process.kind == "flow":
        return 0.001, 1000.0, "flow matching"  # t from 0.001 to 0.999
    known = table(process)
    return known[1] * (1 - 1e-6), known[-1] * (1 + 1e-6), "sigma/alpha of the process's first and last step"


def table(process: Process) -> list[float]:
    """sigma/alpha of the steps 0 .. T of `ddpm`."""
    return ratios(linear_abar(process.steps, process.beta_min, process.beta_max))


def ratio(level: Level, experiment: Experiment) -> float:
    """The sigma/alpha that is meant. Raises ValueError, with what is allowed, where the process has no such level."""
    process = experiment.process
    lowest, highest, limits = level_range(process)
    if isinstance(level, At) and level.edm_index is not None:
        if process.kind != "edm":
            raise ValueError("sigma/alpha, or t (edm_index is for the process edm)")
        return edm_sigmas(EDM_STEPS, process.sigma_min, process.sigma_max)[EDM_STEPS - level.edm_index]
    if isinstance(level, At):
        return at_step(level.t, experiment)
    if not lowest <= level <= highest:
        raise ValueError(f"{lowest:.4g} to {highest:.4g} ({limits})")
    if process.kind == "ddpm":
        known = table(process)
        return known[nearest(level, known)]
    return level


def at_step(t: float, experiment: Experiment) -> float:
    process, base = experiment.process, 0 if experiment.network.kind == "dit" else 1
    if process.kind == "edm":
        raise ValueError("sigma or edm_index (t is for the processes ddpm and flow)")
    if process.kind == "flow":
        if not 0.001 <= t <= 0.999:
            raise ValueError("t from 0.001 to 0.999")
        return t / (1 - t)
    if t != int(t) or not base <= t <= process.steps - 1 + base:
        raise ValueError(
            f"t from {base} to {process.steps - 1 + base}, as a recipe of a {experiment.network.kind} counts"
        )
    return table(process)[int(t) + 1 - base]


def grid_levels(experiment: Experiment) -> list[float] | None:
    """sigma/alpha of the grid's levels; None where they are searched for."""
    probe = experiment.probe
    return None if probe.search else [ratio(level, experiment) for level in probe.levels]


def parts(experiment: Experiment) -> int:
    """Into how many jobs the features of a checkpoint are divided."""
    probe = experiment.probe
    if probe.search or not probe.levels_per_job:
        return 1
    return -(-len(probe.levels) // probe.levels_per_job)


def names(levels: Sequence[float]) -> list[str]:
    return [level_name(level) for level in levels]


def joined(cell: Joined, experiment: Experiment) -> dict[str, str | float | None]:
    """Features to be joined to the chosen ones: tap and sigma/alpha, None for the chosen."""
    return {"tap": cell.tap, "sigma": None if cell.level is None else ratio(cell.level, experiment)}
