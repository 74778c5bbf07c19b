"""A classifier of noisy images on a model's features."""

from collections.abc import Iterator
from itertools import pairwise
from math import sqrt
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from diffprobe.config.base import Above0, Number, Repeats, Width
from diffprobe.config.evaluators.trained import Trained
from diffprobe.config.noise import Level
from diffprobe.config.problems import Problem

if TYPE_CHECKING:
    from diffprobe.config.datasets import Dataset
    from diffprobe.config.processes import Process

Share = Annotated[Number, Field(ge=0)]


class NoiseClassifier(Trained):
    """One classifier for all noise levels (Xiang et al. 2023, DDAE): an MLP on the pooled features of the noisy image
    and an embedding of its noise level. As published: `lr: [1.0e-3], epochs: 15, standardise: false, cosine: epoch,
    average: false, shares: uniform`.
    """

    kind: Literal["noise_classifier"]
    build: ClassVar[str] = "diffprobe.evaluation.representation.noise_classifier:fit"
    joint: ClassVar[bool] = True

    levels: list[Level] | Literal["all"] = Field(
        "all", description="Noise levels on which it is fitted, and scored one by one; `all`: those of the grid."
    )
    shares: Literal["training", "uniform"] | list[Share] = Field(
        "training",
        description="How often each level is drawn in fitting: as often as training draws levels that are nearer to it "
        "than to the others in log-SNR (`training`), equally often (`uniform`), or in these proportions, by increasing "
        "noise.",
    )
    width: Width = Field(512, description="Width of the hidden layer.")
    lr: list[Above0] = Field([1e-3], min_length=1, description="Initial learning rates to try, in parallel.")
    epochs: Repeats = Field(15, description="Passes over the images; each uses another noisy copy.")
    weight_decay: Number = Field(0.0, ge=0, description="L2 penalty on the weights.")
    standardise: bool = Field(
        True, description="Standardise the features of each level to mean 0 and standard deviation 1."
    )

    @property
    def sigmas(self) -> list[float]:
        """`levels` as a job's argument has them, sigma/alpha."""
        return [level for level in self.levels if isinstance(level, float)]

    def at_levels(self, levels: list[float], process: "Process") -> dict[str, Any]:
        """Shares as proportions, one of each level."""
        if self.shares == "training":
            # A level stands for those up to the geometric mean with its neighbour, which is the middle in log-SNR.
            below = [process.training_share(sqrt(low * high)) for low, high in pairwise(levels)]
            return {"shares": [float(f"{b - a:.6g}") for a, b in pairwise([0.0, *below, 1.0])]}
        if self.shares == "uniform":
            return {"shares": [1.0] * len(levels)}
        return {}

    def level_problems(self, key: str, levels: list[float]) -> Iterator[Problem]:
        if isinstance(self.shares, list) and (len(self.shares) != len(levels) or not any(self.shares)):
            yield f"{key}.shares", self.shares, f"{len(levels)} shares, one of each level, not all of them 0"

    def problems(self, key: str, dataset: "Dataset") -> Iterator[Problem]:
        yield from super().problems(key, dataset)
        for name in ("protocol", "norm_batch"):
            if getattr(self, name) is not None:
                yield f"{key}.{name}", getattr(self, name), "null, since it has no batch norm"
        if self.tokens:
            yield f"{key}.tokens", True, "false, since it sees pooled features"
