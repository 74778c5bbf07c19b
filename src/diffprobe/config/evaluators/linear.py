"""Linear heads."""

from typing import ClassVar, Literal

from pydantic import Field

from diffprobe.config.base import Above0, Number, Positive
from diffprobe.config.evaluators import Evaluator


class Linear(Evaluator):
    """A linear softmax classifier by gradient descent. Published (DDAE): `lr: [1.0e-3], epochs: 15, weight_decay: 0,
    standardise: false, cosine: epoch, average: false`.
    """

    kind: Literal["linear"]
    build: ClassVar[str] = "diffprobe.evaluation.representation.heads:fit"
    setting: ClassVar[str] = "lr"
    seeded: ClassVar[bool] = True
    scores_grid: ClassVar[bool] = True

    optimizer: Literal["adam", "sgd", "lars"] = Field(
        "adam", description="LARS (You et al. 2017) is made for large batches; its rates are 1 to 1,000."
    )
    lr: list[Above0] = Field([3e-2], min_length=1, description="Initial learning rates, all tried at once.")
    epochs: Positive = Field(100, description="Passes over the images, each sees another copy of them.")
    batch: Positive = Field(128, description="Images per step.")
    weight_decay: Number = Field(1e-3, ge=0, description="L2 penalty on the weights.")
    momentum: Number = Field(0.9, ge=0, lt=1, description="Of `sgd` and `lars`.")
    standardise: bool = Field(True, description="Features are brought to mean 0 and deviation 1 first.")
    cosine: Literal["step", "epoch"] = Field("step", description="Where the rate falls, to 0 in the end.")
