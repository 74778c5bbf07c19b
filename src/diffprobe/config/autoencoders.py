"""Autoencoders: trained by the workflow, or published."""

from typing import Annotated, Literal

from pydantic import Field

from diffprobe.config.base import Integer, Name, Number, Path, Positive, Strict


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


class ConvAutoencoder(Strict):
    """The CelebA-HQ recipe's convolutional autoencoder: no middle, no attention; 17,760,359 parameters as it is."""

    kind: Literal["conv_autoencoder"]
    channels: Positive = Field(3, description="Channels of its images; grey ones are repeated.")
    latent_channels: Positive = Field(4, description="Channels of the latents.")
    widths: list[Positive] = Field(
        [128, 256, 384],
        min_length=2,
        description="Width of each level; each but the first halves the resolution.",
    )
    blocks: Positive = Field(2, description="Residual blocks per level.")
    groups: Positive = Field(32, description="Groups of the group norms; must divide every width.")


class Perceptual(Strict):
    """LPIPS (Zhang et al. 2018) with VGG16, of the package `lpips`."""

    weight: Number = Field(1.0, gt=0, description="Its weight in the loss.")
    vgg: Path | None = Field(
        None,
        description="A local file of torchvision's VGG16 weights (vgg16-397923af.pth); null: torchvision's download. "
        "Where neither is to be had the weight is 0, which log and receipt say.",
    )


class Adversary(Strict):
    """A discriminator of patches (PatchGAN, Isola et al. 2017) with least squares (Mao et al. 2017)."""

    start_kimg: Number = Field(30, ge=0, description="It plays from so many thousand images on.")
    weight: Number = Field(0.5, gt=0, description="Its weight in the autoencoder's loss.")
    widths: list[Positive] = Field([64, 128, 256], min_length=1, description="Widths of its layers.")
    norm: Literal["batch", "group"] = Field(
        "batch", description="Its norms; `batch` is the published one, and takes a batch whole (no `device_batch`)."
    )


class AutoencoderTraining(Strict):
    """Training of an autoencoder: reconstruction plus the KL divergence to the normal distribution, and if asked LPIPS
    and a discriminator.
    """

    kimg: Positive = Field(description="Length, in thousands of images; more of it goes on from what is there.")
    batch: Positive = Field(32, description="Images per step.")
    device_batch: Positive | None = Field(
        None, description="Images that the device takes at once, gradients being accumulated; null: all."
    )
    lr: Number = Field(1e-4, gt=0, description="Learning rate of Adam, of the discriminator's too.")
    beta1: Number = Field(0.9, ge=0, lt=1, description="Adam's decay of its first moment.")
    beta2: Number = Field(0.999, ge=0, lt=1, description="Adam's decay of its second moment.")
    warmup_kimg: Number = Field(0, ge=0, description="Linear warm-up, in thousands of images.")
    reconstruction: Literal["mse", "l1"] = Field("mse", description="Mean over pixels of squares, or absolute values.")
    kl_weight: Number = Field(1e-6, ge=0, description="Weight of the KL divergence (summed over a latent).")
    perceptual: Perceptual | None = Field(None, description="LPIPS; null: none.")
    adversary: Adversary | None = Field(None, description="A discriminator; null: none.")
    ema_kimg: Number = Field(10, gt=0, description="Half-life of the moving average, in thousands of images.")
    ema_ramp: Number = Field(0.1, gt=0, description="The half-life is at most this share of the images seen so far.")
    clip: Number | None = Field(None, gt=0, description="Bound on the norm of the gradient; null for none.")
    seed: Integer = Field(0, description="Seed of weights, order and noise.")
    splits: list[Literal["train", "select"]] = Field(
        ["train", "select"], min_length=1, description="The images that it may see."
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="Of the network's arithmetic; weights are float32. `auto`: bf16 on a GPU, else fp32."
    )


Resize = Literal["bilinear", "repeat"]
RESIZE = (
    "How the dataset's images come to that size: `bilinear` (with antialiasing, the published way), or `repeat` (each "
    "pixel repeated a whole number of times, which resizing back does not blur)."
)


class Trained(Strict):
    """An autoencoder that the workflow trains."""

    kind: Literal["trained"]
    dataset: Name = Field(description="An entry of `datasets`: what it is trained on.")
    size: Positive = Field(description="Height and width of the images that it takes; the dataset's are resized.")
    resize: Resize = Field("bilinear", description=RESIZE)
    network: Annotated[AutoencoderKL | ConvAutoencoder, Field(discriminator="kind")] = Field(description="The network.")
    train: AutoencoderTraining = Field(description="Its training.")


class Pretrained(Strict):
    """A published autoencoder: any AutoencoderKL or AutoencoderTiny of diffusers. Its licence is its publisher's."""

    kind: Literal["pretrained"]
    source: Path = Field(
        description="A hub name such as stabilityai/sd-vae-ft-mse, or a folder with its config.json (or a pipeline's, "
        "in which it is `vae`)."
    )
    decoder: Path | None = Field(
        None, description="Another of the same shape that decodes, such as stabilityai/sd-vae-ft-ema; null: the same."
    )
    size: Positive = Field(256, description="Height and width of the images that it takes; the dataset's are resized.")
    resize: Resize = Field("bilinear", description=RESIZE)
    channels: Positive = Field(3, description="Channels of its images; grey ones are repeated.")
    latent_channels: Positive = Field(4, description="Channels of its latents.")
    factor: Positive = Field(8, description="Pixels per latent pixel, in height and width.")


Autoencoder = Annotated[Trained | Pretrained, Field(discriminator="kind")]
