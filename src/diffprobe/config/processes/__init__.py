"""Diffusion processes, one file per kind."""

from collections.abc import Iterator
from typing import Any, ClassVar

from diffprobe.config.kinds import Kind, import_members
from diffprobe.config.problems import Problem


class Process(Kind, family=True):
    """A training objective and its noise levels. `build` names a class that takes the settings as keywords (see
    `diffusion.process`). Levels are sigma/alpha here, which is comparable across processes.
    """

    samplers: ClassVar[tuple[str, ...]] = ()
    """Kinds of compatible samplers. A sampler can list this process instead."""
    schedule: ClassVar[tuple[str, ...]] = ("steps",)
    """Sampler settings that determine the noise levels of sampling."""

    raises_levels: ClassVar[bool] = False
    """Whether a sampler can return to a higher noise level (EDM's churn)."""
    learns_variance: ClassVar[bool] = False
    """Whether the network predicts the variance of a sampler's steps too, in as many channels again."""

    @property
    def level_range(self) -> tuple[float, float, str]:
        """Lowest and highest sigma/alpha of features, and what determines them."""
        raise NotImplementedError

    def ratio(self, level: float) -> float:
        """The nearest sigma/alpha of the process. Raises ValueError outside its range, saying what is allowed."""
        lowest, highest, limits = self.level_range
        if not lowest <= level <= highest:
            raise ValueError(f"{lowest:.4g} to {highest:.4g} ({limits})")
        return level

    def ratio_at_step(self, t: float, steps_from: int) -> float:
        """sigma/alpha of a step or time in a recipe's numbering, which starts at `steps_from`. Raises ValueError."""
        raise ValueError(f"sigma/alpha (the process {self.kind} has no t)")

    def ratio_at_edm_index(self, index: int) -> float:
        """sigma/alpha of one of EDM's 18 levels; 1 is the lowest. Raises ValueError for other processes."""
        raise ValueError("sigma/alpha, or t (edm_index is only for the process edm)")

    def training_share(self, ratio: float) -> float:
        """The share of training's noise levels whose sigma/alpha is at most `ratio`. Raises ValueError, saying what is
        allowed instead, for a process that does not tell.
        """
        raise ValueError(f"uniform, or a share of each level (the process {self.kind} does not tell its shares)")

    def output_shape(self, channels: int) -> dict[str, int]:
        """What follows for the network's shape from an image of this many channels; empty: its output is an image."""
        return {"out_channels": 2 * channels} if self.learns_variance else {}

    def usual_sampler(self, bounded: bool) -> dict[str, Any]:
        """Default sampler of the Python API. `bounded`: the model works in pixels, so estimates can be clipped."""
        return {"kind": self.samplers[0]}

    def problems(self, key: str) -> Iterator[Problem]:
        """Contradictory settings."""
        yield from ()


import_members(__name__, __path__)
