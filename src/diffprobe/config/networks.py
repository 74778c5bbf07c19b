"""What an experiment's network may be."""

from typing import Annotated, Literal

from pydantic import Field

from diffprobe.config.base import Integer, Number, Path, Positive, Strict


class UNet(Strict):
    """The U-Net of DDPM as DDAE trains it; other values of `head_groups`, `down_padding`, `norm_eps`, `skip_scale` and
    `init` are those of DDPM (Ho et al. 2020) and EDM. Taps: `in_1`.. (encoder), `mid`, `out_1`.. (decoder).
    """

    kind: Literal["unet"]
    channels: Positive = Field(128, description="Base width.")
    multipliers: list[Positive] = Field(
        [1, 2, 2, 2],
        min_length=1,
        description="Width of each level, in base widths; each level halves the resolution.",
    )
    blocks: Positive = Field(2, description="Residual blocks per level of the encoder (the decoder has one more).")
    attention: list[Integer] = Field([1], description="Levels with self-attention, counted from 0 at full resolution.")
    dropout: Number = Field(0.1, ge=0, lt=1, description="Dropout in residual blocks.")
    groups: Positive = Field(32, description="Groups of the group norms; must divide every width.")
    head_groups: Positive = Field(8, description="Groups of the last norm.")
    resample: Literal["conv", "block"] = Field(
        "conv", description="Resampling by convolution (DDPM) or by residual block (DDPM++)."
    )
    down_padding: Literal["both", "right"] = Field(
        "both", description="Sides on which downsampling convolutions pad; DDPM: `right` (and below)."
    )
    norm_eps: Number = Field(1e-5, gt=0, description="Epsilon of the group norms; DDPM and EDM: 1e-6.")
    skip_scale: Number = Field(1.0, gt=0, description="Factor on every residual sum; EDM: sqrt(0.5) = 0.70710678.")
    time_scale: Number = Field(1.0, gt=0, description="Factor on the noise level's input before its sinusoids.")
    init: Literal["torch", "ddpm", "edm"] = Field("torch", description="Initial weights: PyTorch's, DDPM's or EDM's.")
    conditional: bool = Field(False, description="Whether it is told the label (where there are labels).")
    augment: bool = Field(
        True,
        description="Whether it is told how a training image was augmented, so that it draws images as they are.",
    )
    label_dropout: Number = Field(0.1, ge=0, le=1, description="Share of labels hidden in training, for guidance.")


class DiT(Strict):
    """The diffusion transformer (Peebles & Xie 2023). Taps: `block_0`.. (the residual stream after each block)."""

    kind: Literal["dit"]
    width: Positive = Field(384, description="Width of the tokens.")
    depth: Positive = Field(12, description="Blocks.")
    heads: Positive = Field(6, description="Heads of the attention; must divide the width.")
    patch: Positive = Field(2, description="Height and width of a token's patch.")
    mlp_ratio: Number = Field(4.0, gt=0, description="Width of the MLPs, in widths.")
    time_scale: Number = Field(
        1.0, gt=0, description="Factor on the noise level's input before its sinusoids, made for values up to 1000."
    )
    conditional: bool = Field(True, description="Whether it is told the label (where there are labels).")
    augment: bool = Field(
        True,
        description="Whether it is told what a view has done to the image, so that it draws images as they are.",
    )
    label_dropout: Number = Field(0.1, ge=0, le=1, description="Share of labels hidden in training, for guidance.")


class Diffusers(Strict):
    """Any diffusers `UNet2DModel`, as it is. Taps: `in_1`.. (encoder), `mid`, `out_1`.. (decoder), its residual blocks
    with their attention.
    """

    kind: Literal["diffusers"]
    path: Path = Field(description="A folder with its config.json.")


Network = Annotated[UNet | DiT | Diffusers, Field(discriminator="kind")]
