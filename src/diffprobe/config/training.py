"""Settings of training, and moving averages of the weights."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from diffprobe.config.base import LATER, Batch, File, Images, Integer, Name, Number, Positive, Repeats, Strict
from diffprobe.config.kinds import Kind


class Average(Kind, family=True):
    """A moving average of the weights. `build` names its decay function (see `training.ema`)."""


class HalfLife(Average):
    """An exponential moving average with a half-life in images (Karras et al. 2022, appendix F.2)."""

    kind: Literal["half_life"]
    build: ClassVar[str] = "diffprobe.training.ema:half_life"

    kimg: Number = Field(500, gt=0, description="Half-life, in thousands of images.")
    ramp: Number = Field(0.05, gt=0, description="Cap on the half-life, as a fraction of the images seen so far.")


class DDAERamp(Average):
    """DDAE's moving average: the decay of update s = 0, 1, .. is min(`decay`, 1 - (1 + s)^(-2/3)), for any batch."""

    kind: Literal["ddae"]
    build: ClassVar[str] = "diffprobe.training.ema:ddae"

    decay: Number = Field(0.9999, gt=0, lt=1, description="Upper limit of the decay per step.")


def default_averages() -> dict[str, Average]:
    return {"ema": HalfLife(kind="half_life")}


class Augment(Strict):
    """EDM's non-leaking augmentation (Karras et al. 2022, appendix F.2): flips, scale, rotation, stretch, shift."""

    p: Number = Field(
        0.12,
        gt=0,
        le=1,
        description="Probability of each transformation; left-right flips always have probability 0.5.",
    )


class Training(Strict):
    """The training loop. Progress is counted in images."""

    checkpoints: list[Positive] = Field(
        min_length=1,
        max_length=10_000,
        description="Checkpoints, in thousands of images seen; each continues from the one before. Extending the list "
        "trains only the new ones.",
    )
    imported: File | None = Field(
        None,
        description="Weights written by `diffprobe import`, used as the only checkpoint instead of training; null: "
        "train.",
    )
    initial: Annotated[File | None, LATER] = Field(
        None,
        description="Weights to begin with: a checkpoint of a run, also of one that this config trains, or a file "
        "written by `diffprobe import`. The network's settings must be the same, the size of its images may differ. "
        "null: fresh weights.",
    )
    batch: Batch = Field(128, description="Images per step, summed over all devices.")
    optimizer: Literal["adam", "adamw", "muon", "sgd"] = Field(
        "adamw",
        description="`adam` and `adamw` differ only in `weight_decay`; `sgd` uses `momentum`. `muon` (Jordan et al. "
        "2024): weights of two or more dimensions by orthogonal momentum, with `momentum` 0.95 as published, all "
        "others by `adamw`; of the same size of update, so that learning rates of `adamw` suit it.",
    )
    lr: Number = Field(1e-3, gt=0, description="Learning rate after the warm-up.")
    beta1: Number = Field(0.9, ge=0, lt=1, description="Adam's decay rate for the first moment.")
    beta2: Number = Field(0.999, ge=0, lt=1, description="Adam's decay rate for the second moment.")
    momentum: Annotated[Number, LATER] = Field(0.9, ge=0, lt=1, description="Momentum of `sgd` and `muon`.")
    weight_decay: Number = Field(
        0.0, ge=0, description="Weight decay: decoupled for AdamW and Muon, added to the gradient for Adam and SGD."
    )
    warmup_kimg: Number = Field(0, ge=0, description="Linear learning-rate warm-up, in thousands of images.")
    cosine_kimg: Number | None = Field(
        None,
        gt=0,
        description="Cosine decay of the learning rate to 0 at this many thousand images; null: constant.",
    )
    averages: dict[Name, Average] = Field(
        default_factory=default_averages,
        min_length=1,
        description="Moving averages of the weights, by name. Samplers and probes select one of them.",
    )
    clip: Number | None = Field(None, gt=0, description="Maximum gradient norm; null: no clipping.")
    flip: bool = Field(False, description="Flip images left to right with probability 0.5 (pixels only).")
    augment: Augment | None = Field(
        None,
        description="EDM's augmentation; the network is conditioned on the augmentation label (pixels only). null: "
        "none.",
    )
    seed: Integer = Field(0, description="Seed for weight initialisation, image order and noise.")
    splits: list[Literal["train", "select"]] = Field(
        ["train", "select"], min_length=1, description="Splits the generator is trained on."
    )
    images: Annotated[Images | None, LATER] = Field(
        None,
        description="Number of their images that it is trained on, the first in a random order by `seed`, so that more "
        "contain fewer; samples are then compared with these alone (`nearest`). Only in pixels. null: all.",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto",
        description="Compute precision; weights stay in float32. `auto`: bf16 where it pays (GPUs since "
        "Ampere; CPUs with units for it, if layers are wide), else fp32.",
    )
    compile: Literal["auto", "always", "graphs", "never"] = Field(
        "auto",
        description="torch.compile. `auto`: on a GPU, if training is long enough to repay compilation. `graphs`: on a "
        "GPU, and recorded as CUDA graphs, for small networks whose kernels are shorter than their launch.",
    )
    resident_gib: Number = Field(
        8,
        ge=0,
        description="Image sets up to this size (uint8, in GiB) are held on the device; larger ones are streamed.",
    )
    latents_as: Literal["sample", "mean"] = Field(
        "sample", description="Sample each latent from its posterior every time it is read, or use the posterior mean."
    )
    window_mib: Number = Field(
        48,
        gt=0,
        description="Shuffle window for latents, in MiB. Each epoch permutes chunks of 256 images, then shuffles the "
        "rows within a window of chunks.",
    )
    devices: Repeats = Field(
        1,
        description="GPUs (CPU processes if there are none) that share each batch. Changes only rounding, and which "
        "units dropout hides.",
    )
    nodes: Annotated[Repeats, LATER] = Field(
        1,
        description="Nodes of a Slurm cluster that the devices lie on, equally many on each; elsewhere all lie on one "
        "machine. Changes nothing.",
    )
    device_batch: Batch | None = Field(
        None,
        description="Images per device and forward pass, with gradient accumulation; null: the device's whole share "
        "of the batch. Changes only rounding, and which units dropout hides.",
    )
    recompute: Annotated[bool, LATER] = Field(
        False,
        description="Gradient checkpointing: keep only the inputs of a network's blocks and compute the rest again in "
        "the backward pass, for much less memory and about a third more time (`dit`). Changes only rounding.",
    )

    def several_passes(self, batch: int) -> bool:
        """Whether `device_batch` divides a device's share of a batch."""
        return self.device_batch is not None and self.device_batch * self.devices < batch


def checkpoint_steps(kimg: int, batch: int) -> int:
    """The step of a checkpoint at `kimg` thousand images: the first step that reaches them."""
    return -(-1000 * kimg // batch)  # ceil
