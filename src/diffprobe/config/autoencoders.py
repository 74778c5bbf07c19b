"""Autoencoders: trained by the workflow, or pretrained and published."""

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from diffprobe.config import published
from diffprobe.config.base import (
    LEVELS,
    Batch,
    Blocks,
    File,
    Integer,
    Name,
    Number,
    Path,
    Pixels,
    Positive,
    Strict,
    Width,
)
from diffprobe.config.kinds import Kind
from diffprobe.config.problems import Problem, listed
from diffprobe.config.sources import Facts


class AutoencoderNetwork(Kind, family=True):
    """The network of an autoencoder. `build` names a class or function that takes `options` as keywords."""

    channels: Width = Field(3, description="Image channels; grey images are repeated to fill them.")
    latent_channels: Width = Field(4, description="Latent channels.")

    @property
    def factor(self) -> int:
        """Downsampling factor, in height and in width."""
        raise NotImplementedError

    def problems(self, key: str) -> Iterator[Problem]:
        yield from ()


class LevelledNetwork(AutoencoderNetwork):
    """A network of levels; every level after the first halves the resolution."""

    widths: list[Width] = Field(
        min_length=1,
        max_length=LEVELS,
        description="Width of each level; every level after the first halves the resolution.",
    )
    groups: Width = Field(32, description="Group-norm groups; must divide every width.")

    @property
    def factor(self) -> int:
        return 2 ** (len(self.widths) - 1)

    def problems(self, key: str) -> Iterator[Problem]:
        if any(width % self.groups for width in self.widths):
            yield f"{key}.groups", self.groups, f"a divisor of every width ({listed(self.widths)})"


class AutoencoderKL(LevelledNetwork):
    """AutoencoderKL: a Gaussian posterior for each latent pixel (Rombach et al. 2022)."""

    kind: Literal["autoencoder_kl"]
    build: ClassVar[str] = "diffprobe.networks.autoencoder_kl:AutoencoderKL"

    widths: list[Width] = Field(
        [128, 256, 512, 512],
        min_length=1,
        max_length=LEVELS,
        description="Width of each level; every level after the first halves the resolution.",
    )
    blocks: Blocks = Field(2, description="Residual blocks per level.")
    attention: bool = Field(True, description="Self-attention in the middle block.")


class ConvAutoencoder(LevelledNetwork):
    """The convolutional autoencoder of the CelebA-HQ recipe: no middle block, no attention; 17,760,359 parameters."""

    kind: Literal["conv_autoencoder"]
    build: ClassVar[str] = "diffprobe.networks.conv_autoencoder:ConvAutoencoder"

    widths: list[Width] = Field(
        [128, 256, 384],
        min_length=2,
        max_length=LEVELS,
        description="Width of each level; every level after the first halves the resolution.",
    )
    blocks: Blocks = Field(2, description="Residual blocks per level.")


class Perceptual(Strict):
    """LPIPS (Zhang et al. 2018) with VGG16, from the `lpips` package."""

    weight: Number = Field(1.0, gt=0, description="Weight in the loss.")
    vgg: File | None = Field(
        None,
        description="Local copy of torchvision's VGG16 weights (vgg16-397923af.pth); null: torchvision's download. If "
        "neither is available, training continues without LPIPS and says so in its log and receipt.",
    )


class Adversary(Strict):
    """A PatchGAN discriminator (Isola et al. 2017) with a least-squares loss (Mao et al. 2017)."""

    start_kimg: Number = Field(30, ge=0, description="Start of adversarial training, in thousands of images.")
    weight: Number = Field(0.5, gt=0, description="Weight in the autoencoder's loss.")
    widths: list[Width] = Field([64, 128, 256], min_length=1, max_length=LEVELS, description="Layer widths.")
    norm: Literal["batch", "group"] = Field(
        "batch", description="Normalisation; `batch`, as published, needs the whole batch at once (no `device_batch`)."
    )


class AutoencoderTraining(Strict):
    """Autoencoder training: a reconstruction loss plus the KL divergence to a standard normal; optionally LPIPS and a
    discriminator.
    """

    kimg: Positive = Field(description="Length in thousands of images. A longer run continues from the shorter one.")
    batch: Batch = Field(32, description="Images per step.")
    device_batch: Batch | None = Field(
        None, description="Images per forward pass, with gradient accumulation; null: the whole batch."
    )
    lr: Number = Field(1e-4, gt=0, description="Adam's learning rate, also for the discriminator.")
    beta1: Number = Field(0.9, ge=0, lt=1, description="Adam's decay rate for the first moment.")
    beta2: Number = Field(0.999, ge=0, lt=1, description="Adam's decay rate for the second moment.")
    warmup_kimg: Number = Field(0, ge=0, description="Linear learning-rate warm-up, in thousands of images.")
    reconstruction: Literal["mse", "l1"] = Field("mse", description="Mean squared or mean absolute error.")
    kl_weight: Number = Field(1e-6, ge=0, description="Weight of the KL divergence, summed over each latent.")
    perceptual: Perceptual | None = Field(None, description="LPIPS; null: none.")
    adversary: Adversary | None = Field(None, description="Discriminator; null: none.")
    ema_kimg: Number = Field(10, gt=0, description="Half-life of the EMA weights, in thousands of images.")
    ema_ramp: Number = Field(0.1, gt=0, description="Cap on the half-life, as a fraction of the images seen so far.")
    clip: Number | None = Field(None, gt=0, description="Maximum gradient norm; null: no clipping.")
    seed: Integer = Field(0, description="Seed for weight initialisation, image order and noise.")
    splits: list[Literal["train", "select"]] = Field(
        ["train", "select"], min_length=1, description="Splits it is trained on."
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto",
        description="Compute precision; weights stay in float32. `auto`: bf16 where it pays (GPUs since "
        "Ampere; CPUs with units for it, if layers are wide), else fp32.",
    )


PRETRAINED = "pretrained"  # the name of the single checkpoint of a published autoencoder

Resize = Literal["bilinear", "repeat"]


class Autoencoder(Kind, family=True):
    """An autoencoder between images and latents."""

    size: Pixels = Field(description="Height and width of its input; images are resized to it.")
    resize: Resize = Field(
        "bilinear",
        description="How images are resized: `bilinear` (antialiased, as published), or `repeat` (each pixel repeated "
        "an integer number of times, so that resizing back is exact).",
    )

    rule: ClassVar[str]
    """The rule that writes its weights."""

    @property
    def image_channels(self) -> int:
        raise NotImplementedError

    @property
    def latent_space(self) -> tuple[int, int]:
        """(channels, size) of its latents."""
        raise NotImplementedError

    @property
    def pixels_per_latent(self) -> int:
        """Downsampling factor, in height and in width."""
        raise NotImplementedError

    @property
    def trained_on(self) -> str | None:
        """The dataset it is trained on by the workflow; None for a pretrained one."""
        return None

    @property
    def last_checkpoint(self) -> int | str:
        """The checkpoint used for encoding."""
        return PRETRAINED

    @property
    def vgg(self) -> str | None:
        """Local VGG16 weights for LPIPS, if its training names any."""
        return None

    @property
    def local_sources(self) -> dict[str, str]:
        """Local folders it is read from, by config key."""
        return {}

    @property
    def has_published_scale(self) -> bool:
        return False

    def problems(self, key: str) -> Iterator[Problem]:
        if self.size % self.pixels_per_latent:
            yield f"{key}.size", self.size, f"a multiple of the downsampling factor {self.pixels_per_latent}"


class Trained(Autoencoder):
    """An autoencoder trained by the workflow."""

    kind: Literal["trained"]
    dataset: Name = Field(description="Entry of `datasets` to train on.")
    network: AutoencoderNetwork = Field(description="Network.")
    train: AutoencoderTraining = Field(description="Training.")

    rule: ClassVar[str] = "autoencoder"

    @property
    def image_channels(self) -> int:
        return self.network.channels

    @property
    def latent_space(self) -> tuple[int, int]:
        return self.network.latent_channels, self.size // self.network.factor

    @property
    def pixels_per_latent(self) -> int:
        return self.network.factor

    @property
    def trained_on(self) -> str:
        return self.dataset

    @property
    def last_checkpoint(self) -> int:
        return self.train.kimg

    @property
    def vgg(self) -> str | None:
        return self.train.perceptual.vgg if self.train.perceptual else None

    def problems(self, key: str) -> Iterator[Problem]:
        yield from super().problems(key)
        yield from self.network.problems(f"{key}.network")
        train = self.train
        whole = train.device_batch is None or train.device_batch >= train.batch
        if train.adversary and train.adversary.norm == "batch" and not whole:
            yield f"{key}.train.device_batch", train.device_batch, "null, or train.adversary.norm: group"
        least = {"train.perceptual": 16 if train.perceptual else 0}  # VGG16 halves the resolution four times
        least["train.adversary"] = 2 ** (1 + len(train.adversary.widths)) if train.adversary else 0
        for part, size in least.items():
            if self.size < size:
                yield f"{key}.size", self.size, f"at least {size}, for {part}"

    def problems_with(self, key: str, facts: Facts) -> Iterator[Problem]:
        """Mismatches with the images it is trained on."""
        if facts.channels not in (1, self.network.channels):
            yield f"{key}.network.channels", self.network.channels, f"{facts.channels}, the number of image channels"
        if self.resize == "repeat" and facts.size and self.size % facts.size:
            allowed = f"bilinear, or a size that is a multiple of the image size, {facts.size} pixels"
            yield f"{key}.resize", "repeat", allowed


class Pretrained(Autoencoder):
    """A published autoencoder: any diffusers AutoencoderKL or AutoencoderTiny. Its publisher's licence applies."""

    kind: Literal["pretrained"]
    source: Path = Field(
        description="Hub name such as stabilityai/sd-vae-ft-mse, or a folder that holds its config.json (or a "
        "pipeline folder, in which it is `vae`)."
    )
    decoder: Path | None = Field(
        None, description="Separate decoder of the same shape, such as stabilityai/sd-vae-ft-ema; null: the same model."
    )
    size: Pixels = Field(256, description="Height and width of its input; images are resized to it.")
    channels: Width = Field(3, description="Image channels; grey images are repeated to fill them.")
    latent_channels: Width = Field(4, description="Latent channels.")
    factor: Pixels = Field(8, description="Downsampling factor, in height and in width.")

    rule: ClassVar[str] = "pretrained"

    @property
    def image_channels(self) -> int:
        return self.channels

    @property
    def latent_space(self) -> tuple[int, int]:
        return self.latent_channels, self.size // self.factor

    @property
    def pixels_per_latent(self) -> int:
        return self.factor

    @property
    def local_sources(self) -> dict[str, str]:
        sources = {"source": self.source, "decoder": self.decoder}
        return {key: path for key, path in sources.items() if path and published.is_local(path)}

    @property
    def has_published_scale(self) -> bool:
        return True

    def problems(self, key: str) -> Iterator[Problem]:
        yield from super().problems(key)
        for name, value, allowed in published.local_problems(self):
            yield f"{key}.{name}", value, allowed
