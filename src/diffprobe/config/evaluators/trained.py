"""Heads that are trained by gradient descent."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from diffprobe.config.base import LATER, Above0, Batch, NotNegative, Number, Positive, Repeats
from diffprobe.config.evaluators import Evaluator
from diffprobe.config.problems import Problem

if TYPE_CHECKING:
    from diffprobe.config.datasets import Dataset

# Efficient Probing's settings of all its heads (Psomas et al., ICLR 2026).
EP = {"optimizer": "lars", "epochs": 90, "warmup": 10, "batch": 4096, "norm_batch": 256, "drop_last": True}
EP |= {"weight_decay": 0.0, "momentum": 0.9, "cosine": "step"}
EP_RATE = 0.1 / 256  # per image of a batch


class Trained(Evaluator):
    """A head that is trained by gradient descent, at several learning rates and seeds at once."""

    setting: ClassVar[str] = "lr"
    seeded: ClassVar[bool] = True
    of_protocol: ClassVar[dict[str, Any]] = EP
    """The settings that `protocol: ep` stands for, besides the learning rate."""

    protocol: Literal["ep"] | None = Field(
        None,
        exclude=True,  # the settings stand in job arguments
        description="`ep`: as published for Efficient Probing (Psomas et al., ICLR 2026), where a key is not set: LARS "
        "at a learning rate of 0.1 per 256 images, 4,096 images per step, 90 epochs; null: the defaults below.",
    )
    optimizer: Literal["adam", "sgd", "lars"] = Field(
        "adam", description="LARS (You et al. 2017) is meant for large batches, with learning rates of 1 to 1,000."
    )
    lr: list[Above0] = Field(
        [3e-2], min_length=1, description="Initial learning rates to try, all trained in parallel."
    )
    epochs: Repeats = Field(100, description="Passes over the images; each uses another noisy copy.")
    batch: Batch = Field(128, description="Images per step.")
    drop_last: Annotated[bool, LATER] = Field(False, description="Leave out the last batch of an epoch if it is short.")
    norm_batch: Annotated[Positive | None, LATER] = Field(
        None,
        description="Images that batch norm takes the moments of at a time, as processes and accumulated parts of a "
        "batch do; null: the whole batch.",
    )
    weight_decay: Number = Field(1e-3, ge=0, description="L2 penalty on the weights.")
    momentum: Number = Field(0.9, ge=0, lt=1, description="Momentum of `sgd` and `lars`.")
    warmup: Annotated[NotNegative, LATER] = Field(0, description="Epochs of linear warm-up from a learning rate of 0.")
    cosine: Literal["step", "epoch"] = Field(
        "step", description="Whether the cosine decay of the learning rate to 0 is updated per step or per epoch."
    )

    @model_validator(mode="before")
    @classmethod
    def published(cls, settings: Any) -> Any:
        """A protocol's settings, where there are none of their own."""
        if not isinstance(settings, dict) or settings.get("protocol") != "ep":
            return settings
        settings = cls.of_protocol | settings
        batch = settings["batch"]
        return {"lr": [EP_RATE * batch]} | settings if isinstance(batch, int) else settings

    def problems(self, key: str, dataset: "Dataset") -> Iterator[Problem]:
        if self.warmup >= self.epochs:
            yield f"{key}.warmup", self.warmup, f"fewer than epochs = {self.epochs}"
        rows = dataset.split_rows
        if self.drop_last and rows and self.batch > max(rows["train"], 1):
            yield f"{key}.batch", self.batch, f"at most the number of train images (about {rows['train']:,})"
