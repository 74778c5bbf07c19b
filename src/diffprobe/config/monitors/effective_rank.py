"""Effective rank."""

from typing import ClassVar, Literal

from pydantic import Field

from diffprobe.config.monitors import Monitor


class EffectiveRank(Monitor):
    """Effective rank (Roy & Vetterli 2007): the number of equally strong directions whose spectrum has as much entropy
    as that of the features.
    """

    kind: Literal["effective_rank"]
    build: ClassVar[str] = "diffprobe.evaluation.representation.monitors.effective_rank:measure"

    centre: bool = Field(
        True, description="Subtract the mean of the features first. `false`: as RankMe (Garrido et al. 2023)."
    )

    @property
    def figures(self) -> tuple[str, ...]:
        return ("effective_rank",) if self.centre else ("rankme",)
