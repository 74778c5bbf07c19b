"""Fine-tuning."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from diffprobe.config.base import Above0, Batch, Number, Positive
from diffprobe.config.evaluators import Evaluator
from diffprobe.config.problems import Problem
from diffprobe.config.views import Crop, RandAugment

if TYPE_CHECKING:
    from diffprobe.config.datasets import Dataset
    from diffprobe.config.models import Experiment

Share = Annotated[Number, Field(ge=0, le=1)]


class FineTune(Evaluator):
    """The network up to the chosen layer, trained further with a linear classifier of its pooled activation. Layers
    after it are neither computed nor trained. One run for each seed, and for several learning rates one for each on
    `train` before.
    """

    kind: Literal["finetune"]
    build: ClassVar[str] = "diffprobe.training.tasks.finetuning:make"
    rule: ClassVar[str] = "finetune"
    setting: ClassVar[str] = "lr"
    seeded: ClassVar[bool] = True

    start: Literal["checkpoint", "scratch"] = Field(
        "checkpoint", description="Weights at the start: the checkpoint's, or fresh ones, which shows what those gave."
    )
    input: Literal["noisy", "clean"] = Field(
        "noisy",
        description="Images with the noise of the level, drawn anew at each step; or without noise, at the process's "
        "lowest level.",
    )
    lr: list[Above0] = Field([1e-3], min_length=1, description="Highest learning rates to try, of the classifier.")
    layer_decay: Number = Field(
        0.75, gt=0, le=1, description="Learning rate of a block, relative to that of the block after it."
    )
    kimg: Positive = Field(20, description="Length of a run, in thousands of images.")
    batch: Batch = Field(64, description="Images per step.")
    optimizer: Literal["adam", "adamw", "sgd"] = Field("adamw", description="Optimiser, as in `train`.")
    weight_decay: Number = Field(0.05, ge=0, description="Weight decay; biases and norms have none.")
    warmup: Share = Field(
        0.1, description="Share of the run in which the learning rate rises; then it falls to 0 as a cosine."
    )
    clip: Number | None = Field(None, gt=0, description="Maximum gradient norm; null: no clipping.")
    average: bool = Field(
        True,
        description="Average probabilities over an image's noisy copies (`draws`); `false`: score each copy.",
    )
    norm: Literal["layer", "batch"] | None = Field(
        "layer", description="Normalisation between the pooled activation and the classifier, without parameters."
    )
    crop: Crop | None = Field(None, description="Flip and crop of the padded image, in pixels; null: none.")
    randaugment: RandAugment | None = Field(None, description="RandAugment, in pixels; null: none.")
    mixup: Number | None = Field(
        None, gt=0, description="Mixup (Zhang et al. 2018): alpha of its Beta distribution; null: none."
    )
    ema_kimg: Number = Field(
        1,
        gt=0,
        description="Half-life of the moving average of the weights that is scored, in thousands of images; at most a "
        "twentieth of those seen.",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="Compute precision, as in `train`.")

    @property
    def training(self) -> dict[str, Any]:
        """Settings of `train` for its runs, but for learning rate, seed and splits."""
        names = {"batch", "optimizer", "weight_decay", "clip", "precision", "ema_kimg"}
        schedule = {"warmup_kimg": self.warmup * self.kimg, "cosine_kimg": self.kimg}
        return self.model_dump(mode="json", include=names) | schedule | {"ema_ramp": 0.05}

    def trials(self, seeds: list[int]) -> dict[str, int]:
        """One for each learning rate if there are several, then one for each seed."""
        return dict.fromkeys([*self.rates, *self.repeats(seeds)], self.kimg)

    @property
    def rates(self) -> dict[str, float]:
        """The learning rates to choose from, by the name of the run; none where there is nothing to choose."""
        return {f"lr_{lr:g}": lr for lr in self.lr} if self.only_setting is None else {}

    def repeats(self, seeds: list[int]) -> dict[str, int]:
        """The seeds of the runs that are scored on `test`, by the name of the run."""
        return {f"seed_{seed}": seed for seed in seeds}

    def problems(self, key: str, dataset: "Dataset") -> Iterator[Problem]:
        for name, allowed in (("combine", "[]"), ("levels", "null"), ("tokens", "false"), ("normalise", "null")):
            if value := getattr(self, name):
                yield f"{key}.{name}", value, f"{allowed}, since it trains the network up to one pooled layer"
        if len({f"{lr:g}" for lr in self.lr}) < len(self.lr):
            yield f"{key}.lr", self.lr, "each learning rate once"
        if self.randaugment and dataset.facts.channels not in (1, 3):
            allowed = f"null, since images have {dataset.facts.channels} channels"
            yield f"{key}.randaugment", "operations on colours", allowed

    def model_problems(self, key: str, experiment: "Experiment") -> Iterator[Problem]:
        train = experiment.train
        if train.devices > self.batch:
            yield f"{key}.batch", self.batch, f"at least train.devices, {train.devices}"
        place = f"{key.partition('.probe')[0]}.train"
        if train.compile == "graphs" and train.several_passes(self.batch):
            yield f"{place}.compile", "graphs", f"always, since train.device_batch divides a step of {key}"
        for name in ("crop", "randaugment"):
            if getattr(self, name) and experiment.latents:
                yield f"{key}.{name}", "views of pixels", f"null; use latents.{experiment.latents}.views"
        if self.mixup:  # pairs of neighbours, which no division of a batch may separate
            if self.batch % (2 * train.devices):
                yield f"{key}.batch", self.batch, f"a multiple of {2 * train.devices}, since mixup takes pairs"
            elif train.device_batch and train.device_batch % 2:
                yield f"{place}.device_batch", train.device_batch, "an even number, since mixup takes pairs"
