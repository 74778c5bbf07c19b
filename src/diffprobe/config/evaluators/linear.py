"""Linear probes."""

from typing import ClassVar, Literal

from pydantic import Field

from diffprobe.config.base import Above0, Batch, Number, Repeats
from diffprobe.config.evaluators import Evaluator


class Linear(Evaluator):
    """A linear softmax classifier trained by gradient descent. As published (DDAE): `lr: [1.0e-3], epochs: 15,
    weight_decay: 0, standardise: false, cosine: epoch, average: false`; for SODA's codes with `standardise: batch_norm,
    normalise: l2`.
    """

    kind: Literal["linear"]
    build: ClassVar[str] = "diffprobe.evaluation.representation.heads:fit"
    setting: ClassVar[str] = "lr"
    seeded: ClassVar[bool] = True
    scores_grid: ClassVar[bool] = True

    optimizer: Literal["adam", "sgd", "lars"] = Field(
        "adam", description="LARS (You et al. 2017) is meant for large batches, with learning rates of 1 to 1,000."
    )
    lr: list[Above0] = Field(
        [3e-2], min_length=1, description="Initial learning rates to try, all trained in parallel."
    )
    epochs: Repeats = Field(100, description="Passes over the images; each uses another noisy copy.")
    batch: Batch = Field(128, description="Images per step.")
    weight_decay: Number = Field(1e-3, ge=0, description="L2 penalty on the weights.")
    momentum: Number = Field(0.9, ge=0, lt=1, description="Momentum of `sgd` and `lars`.")
    standardise: bool | Literal["batch_norm"] = Field(
        True,
        description="Standardise features to mean 0 and standard deviation 1: those of all training images, or "
        "`batch_norm`: of each batch, and running averages of these in evaluation.",
    )
    cosine: Literal["step", "epoch"] = Field(
        "step", description="Whether the cosine decay of the learning rate to 0 is updated per step or per epoch."
    )
