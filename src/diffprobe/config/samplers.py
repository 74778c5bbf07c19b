"""What is drawn, and by which samplers."""

from typing import Annotated, Literal

from pydantic import Field

from diffprobe.config.base import Integer, Name, Number, Positive, Strict


class Drawn(Strict):
    """What all samplers have."""

    guidance: Number = Field(
        1.0,
        ge=0,
        description="Classifier-free guidance of a conditional network: 0 ignores the label, 1 follows it, more "
        "exaggerates it (at twice the evaluations).",
    )
    weights: Name = Field("ema", description="Which of `train.averages` draws, or `raw`.")
    clip: bool = Field(False, description="Estimates of the image are held within [-1, 1] (DDPM, DDAE; in pixels).")
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="Of the network's arithmetic; on a GPU convolutions of fp32 multiply in TF32."
    )


class Ancestral(Drawn):
    """DDPM's sampler (Ho et al. 2020, algorithm 2), for the process `ddpm`."""

    kind: Literal["ddpm"]
    steps: Integer | None = Field(None, ge=1, description="Evenly spaced steps; null: all of the process's.")
    variance: Literal["large", "small"] = Field(
        "large", description="Of a step's noise: beta_t, or that of the posterior."
    )


class DDIM(Drawn):
    """DDIM (Song et al. 2021), for the process `ddpm`."""

    kind: Literal["ddim"]
    steps: Integer = Field(100, ge=1, description="Evenly spaced steps; as many evaluations of the network.")
    eta: Number = Field(0.0, ge=0, le=1, description="0 is deterministic, 1 as noisy as DDPM.")
    table: Literal["exact", "ddae"] = Field(
        "exact", description="Noise levels as in training, or those that DDAE's code reads, off by one."
    )


class Heun(Drawn):
    """Heun's second-order steps (Karras et al. 2022, algorithm 1 and 2), for `edm` and `flow`."""

    kind: Literal["heun"]
    steps: Integer = Field(18, ge=2, description="Noise levels; 2 * steps - 1 evaluations of the network per image.")
    rho: Number = Field(7.0, gt=0, description="How EDM's levels crowd near zero.")
    shift: Number = Field(1.0, gt=0, description="How flow matching's times crowd near noise; 1: evenly spaced.")
    churn: Number = Field(
        0.0,
        ge=0,
        description="Noise added before steps (EDM's S_churn); 0: none. DDAE's eta: churn / (0.4142 steps).",
    )
    churn_min: Number = Field(0.01, ge=0, description="Lowest level at which it is (S_min).")
    churn_max: Number = Field(1.0, gt=0, description="Highest level at which it is (S_max).")
    churn_noise: Number = Field(1.007, gt=0, description="Factor on it (S_noise).")


class Euler(Drawn):
    """Euler's first-order steps, for `edm` and `flow`."""

    kind: Literal["euler"]
    steps: Integer = Field(50, ge=1, description="Noise levels, and evaluations of the network per image.")
    rho: Number = Field(7.0, gt=0, description="How EDM's levels crowd near zero.")
    shift: Number = Field(1.0, gt=0, description="How flow matching's times crowd near noise; 1: evenly spaced.")


Sampler = Annotated[Ancestral | DDIM | Heun | Euler, Field(discriminator="kind")]


class Sampling(Strict):
    """What is drawn from each checkpoint."""

    samplers: dict[Name, Sampler] = Field(min_length=1, description="Samplers by name.")
    images: Positive = Field(
        50_000, description="Images per sampler and checkpoint; image i depends on the seed and i alone."
    )
    keep_samples: Positive | Literal["all"] = Field(
        "all",
        description="Images that are written: `all`, or the first so many, for the grids. With a number all are drawn, "
        "decoded and measured in one job, and the others are never written, so that other figures mean drawing anew.",
    )
    batch: Positive = Field(256, description="Images per batch (256 at most of those that are kept); changes no image.")
    seed: Integer = Field(0, description="Seed of the start noise and of the steps' noise.")
