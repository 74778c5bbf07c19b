"""Autoencoders, and the latents that they make."""

from typing import Annotated, Literal

from pydantic import Field

from diffprobe.config.base import Integer, Name, Number, Positive, Strict


class AutoencoderKL(Strict):
    """diffusers' AutoencoderKL: a Gaussian posterior per latent pixel (Rombach et al. 2022)."""

    kind: Literal["autoencoder_kl"]
    channels: Positive = Field(3, description="Channels of its images; grey ones are repeated.")
    latent_channels: Positive = Field(4, description="Channels of the latents.")
    widths: list[Positive] = Field(
        [128, 256, 512, 512],
        min_length=1,
        description="Width of each level; each but the first halves the resolution.",
    )
    blocks: Positive = Field(2, description="Residual blocks per level.")
    groups: Positive = Field(32, description="Groups of the group norms; must divide every width.")
    attention: bool = Field(True, description="Self-attention in the middle.")


class AutoencoderTraining(Strict):
    """Training of an autoencoder: mean squared error plus the KL divergence to the normal distribution."""

    kimg: Positive = Field(description="Length, in thousands of images.")
    batch: Positive = Field(32, description="Images per step.")
    lr: Number = Field(1e-4, gt=0, description="Learning rate of Adam.")
    warmup_kimg: Number = Field(0, ge=0, description="Linear warm-up, in thousands of images.")
    kl_weight: Number = Field(1e-6, ge=0, description="Weight of the KL divergence (summed over a latent).")
    ema_kimg: Number = Field(10, gt=0, description="Half-life of the moving average, in thousands of images.")
    ema_ramp: Number = Field(0.1, gt=0, description="The half-life is at most this share of the images seen so far.")
    clip: Number | None = Field(None, gt=0, description="Bound on the norm of the gradient; null for none.")
    seed: Integer = Field(0, description="Seed of weights, order and noise.")
    splits: list[Literal["train", "select"]] = Field(
        ["train", "select"], min_length=1, description="The images that it may see."
    )


class Autoencoder(Strict):
    """An autoencoder that the workflow trains."""

    dataset: Name = Field(description="An entry of `datasets`: what it is trained on.")
    size: Positive = Field(description="Height and width of the images that it takes; the dataset's are resized.")
    resize: Literal["bilinear", "repeat"] = Field(
        "bilinear",
        description="How the dataset's images come to that size: `bilinear` (with antialiasing, the published way), or "
        "`repeat` (each pixel repeated a whole number of times, which resizing back does not blur).",
    )
    network: AutoencoderKL = Field(description="The network.")
    train: AutoencoderTraining = Field(description="Its training.")


class Identity(Strict):
    """The image as it is."""

    kind: Literal["identity"]


class Mirror(Strict):
    """Left and right exchanged."""

    kind: Literal["mirror"]


class Crop(Strict):
    """A random crop of the padded image at its own size, drawn anew for each image and view."""

    kind: Literal["crop"]
    count: Positive = Field(1, description="So many views.")
    pad: Positive = Field(4, description="Pixels of padding on each side.")
    fill: Literal["zero", "edge"] = Field("zero", description="What the padding holds: black, or the border repeated.")
    flip: bool = Field(True, description="Half of the views are mirrored first.")


View = Annotated[Identity | Mirror | Crop, Field(discriminator="kind")]


class Latents(Strict):
    """A store of latents: a dataset as an autoencoder's posterior moments, in several views."""

    dataset: Name = Field(description="An entry of `datasets`.")
    autoencoder: Name = Field(description="An entry of `autoencoders`.")
    views: list[View] = Field(
        [{"kind": "identity"}],
        min_length=1,
        validate_default=True,
        description="Views of `train` (select and test have the identity alone); the identity comes first. A DiT is "
        "told what a view has done and draws images as they are; a U-Net is not, so its samples come in all views.",
    )
    scale: Literal["measured"] | Number = Field(
        "measured",
        description="Factor that brings latents to unit deviation: measured per channel (with the mean as shift), "
        "or a number (and no shift), such as 0.18215.",
    )
    seed: Integer = Field(0, description="Seed of the views.")
    batch: Positive = Field(64, description="Images per pass of the autoencoder; a divisor of 256.")
    shard_chunks: Positive = Field(16, description="Chunks of 256 images per file.")
