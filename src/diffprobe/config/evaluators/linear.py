"""Linear probes."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from diffprobe.config.base import LATER
from diffprobe.config.evaluators.trained import EP, Trained


class Linear(Trained):
    """A linear softmax classifier trained by gradient descent. As published (DDAE): `lr: [1.0e-3], epochs: 15,
    weight_decay: 0, standardise: false, cosine: epoch, average: false`; for SODA's codes with `standardise: batch_norm,
    normalise: l2`; for Efficient Probing's linear probe `protocol: ep`.
    """

    kind: Literal["linear"]
    build: ClassVar[str] = "diffprobe.evaluation.representation.heads:fit"
    scores_grid: ClassVar[bool] = True
    of_protocol: ClassVar[dict[str, Any]] = EP | {"standardise": "batch_norm", "initial": "uniform"}

    standardise: bool | Literal["batch_norm"] = Field(
        True,
        description="Standardise features to mean 0 and standard deviation 1: those of all training images, or "
        "`batch_norm`: of each batch, and running averages of these in evaluation.",
    )
    initial: Annotated[Literal["zero", "uniform"], LATER] = Field(
        "zero",
        description="Initial weights: `zero`, or with `lars` small noise; `uniform`: within the inverse square root of "
        "the number of features, as those of PyTorch's linear layers.",
    )
