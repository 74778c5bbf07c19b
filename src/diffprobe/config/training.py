"""How a training goes, and the averages of its weights."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from diffprobe.config.base import LATER, Integer, Name, Number, Path, Positive, Strict
from diffprobe.config.kinds import Kind


class Average(Kind, family=True):
    """A moving average of the weights. `build` names the function of its decay (see `training.ema`)."""


class HalfLife(Average):
    """An average in which a weight counts half after so many images (Karras et al. 2022, appendix F.2)."""

    kind: Literal["half_life"]
    build: ClassVar[str] = "diffprobe.training.ema:half_life"

    kimg: Number = Field(500, gt=0, description="Half-life, in thousands of images.")
    ramp: Number = Field(0.05, gt=0, description="The half-life is at most this share of the images seen so far.")


class DDAERamp(Average):
    """DDAE's average: at its s-th update, from 0 on, the decay is min(`decay`, 1 - (1 + s)^(-2/3)), for any batch."""

    kind: Literal["ddae"]
    build: ClassVar[str] = "diffprobe.training.ema:ddae"

    decay: Number = Field(0.9999, gt=0, lt=1, description="Decay per step that is reached in the end (if it is).")


def default_averages() -> dict[str, Average]:
    return {"ema": HalfLife(kind="half_life")}


class Augment(Strict):
    """EDM's non-leaking augmentation (Karras et al. 2022, appendix F.2): flips, scale, rotation, stretch, shift."""

    p: Number = Field(0.12, gt=0, le=1, description="Probability of each; images are flipped left to right always.")


class Training(Strict):
    """The one training loop: images as clock, a checkpoint at each listed count."""

    checkpoints: list[Positive] = Field(
        min_length=1,
        description="Checkpoints, in thousands of images seen; each is trained from the one before. "
        "A longer list trains only what is new.",
    )
    imported: Path | None = Field(
        None,
        description="Weights from elsewhere, as `diffprobe import` writes them: nothing is trained, they are the one "
        "checkpoint.",
    )
    batch: Positive = Field(128, description="Images per step, over all devices.")
    optimizer: Literal["adam", "adamw", "sgd"] = Field(
        "adamw", description="`adam` and `adamw` differ in `weight_decay` alone; `sgd` takes `momentum`."
    )
    lr: Number = Field(1e-3, gt=0, description="Learning rate after the warm-up.")
    beta1: Number = Field(0.9, ge=0, lt=1, description="Adam's decay of its first moment.")
    beta2: Number = Field(0.999, ge=0, lt=1, description="Adam's decay of its second moment.")
    momentum: Annotated[Number, LATER] = Field(0.9, ge=0, lt=1, description="Of `sgd`.")
    weight_decay: Number = Field(0.0, ge=0, description="Decoupled (AdamW), or added to the gradient (Adam, SGD).")
    warmup_kimg: Number = Field(0, ge=0, description="Linear warm-up, in thousands of images.")
    cosine_kimg: Number | None = Field(
        None,
        gt=0,
        description="The learning rate falls to 0 as a cosine up to so many thousand images; null: constant.",
    )
    averages: dict[Name, Average] = Field(
        default_factory=default_averages,
        min_length=1,
        description="Moving averages of the weights by name; what is drawn and probed says which it takes.",
    )
    clip: Number | None = Field(None, gt=0, description="Bound on the norm of the gradient; null for none.")
    flip: bool = Field(False, description="Images flipped left to right with probability 0.5 (in pixels).")
    augment: Augment | None = Field(
        None, description="EDM's augmentation, on whose label the network is conditioned (in pixels); null: none."
    )
    seed: Integer = Field(0, description="Seed of weights, order and noise.")
    splits: list[Literal["train", "select"]] = Field(
        ["train", "select"], min_length=1, description="The images that the generator may see."
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="Of the network's arithmetic; weights are float32. `auto`: bf16 on a GPU, else fp32."
    )
    compile: Literal["auto", "always", "never"] = Field(
        "auto", description="torch.compile. `auto`: on a GPU, where a slice is long enough to pay for it."
    )
    resident_gib: Number = Field(
        8, ge=0, description="Images (as bytes, in GiB) up to which they are held on the device; more are streamed."
    )
    latents_as: Literal["sample", "mean"] = Field(
        "sample", description="A latent is drawn anew from its posterior each time, or is its mean."
    )
    window_mib: Number = Field(
        48,
        gt=0,
        description="Latents (in MiB) that are permuted together: chunks of 256 come in a new order each epoch, then "
        "the rows of as many chunks as this holds are mixed.",
    )
    devices: Positive = Field(
        1, description="GPUs (without any, processes) that train together and share each batch; changes only rounding."
    )
    device_batch: Positive | None = Field(
        None,
        description="Images that a device takes at once, its share of a batch being accumulated; null: all. Changes "
        "only rounding.",
    )
