"""What an experiment's diffusion process may be: a file a kind."""

from collections.abc import Iterator
from typing import Any, ClassVar

from diffprobe.config.kinds import Kind, import_members
from diffprobe.config.problems import Problem


class Process(Kind, family=True):
    """An objective with its noise levels. `build` names a class that takes the settings as keywords (see
    `diffusion.process`). Levels are sigma/alpha here, by which those of all processes compare.
    """

    samplers: ClassVar[tuple[str, ...]] = ()
    """The kinds of samplers that suit it; a sampler may name it as well."""
    schedule: ClassVar[tuple[str, ...]] = ("steps",)
    """Keys of a sampler that say at which of its levels it samples."""

    raises_levels: ClassVar[bool] = False
    """Whether sampling can go back up to a noisier level (EDM's churn)."""

    @property
    def level_range(self) -> tuple[float, float, str]:
        """The lowest and the highest sigma/alpha of features, and what sets these."""
        raise NotImplementedError

    def ratio(self, level: float) -> float:
        """The sigma/alpha that the process has nearest to `level`. Raises ValueError, with what is allowed."""
        lowest, highest, limits = self.level_range
        if not lowest <= level <= highest:
            raise ValueError(f"{lowest:.4g} to {highest:.4g} ({limits})")
        return level

    def ratio_at_step(self, t: float, steps_from: int) -> float:
        """The sigma/alpha of a step or time as a recipe counts it, from `steps_from` on. Raises ValueError as above."""
        raise ValueError(f"sigma/alpha (t is no setting of the process {self.kind})")

    def ratio_at_edm_index(self, index: int) -> float:
        """The sigma/alpha of one of EDM's 18 levels, 1 the lowest. Raises ValueError as above."""
        raise ValueError("sigma/alpha, or t (edm_index is for the process edm)")

    def usual_sampler(self, bounded: bool) -> dict[str, Any]:
        """The sampler of a model in Python where none is named; `bounded` in pixels, whose estimates may be clipped."""
        return {"kind": self.samplers[0]}

    def problems(self, key: str) -> Iterator[Problem]:
        """Settings that contradict each other."""
        yield from ()


import_members(__name__, __path__)
