"""Autoencoders: trained by the workflow, or published."""

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from diffprobe.config import published
from diffprobe.config.base import Integer, Name, Number, Path, Positive, Strict
from diffprobe.config.kinds import Kind
from diffprobe.config.problems import Problem, listed
from diffprobe.config.sources import Facts


class AutoencoderNetwork(Kind, family=True):
    """An autoencoder's network. `build` names a class or function that takes `options` as keywords."""

    channels: Positive = Field(3, description="Channels of its images; grey ones are repeated.")
    latent_channels: Positive = Field(4, description="Channels of the latents.")

    @property
    def factor(self) -> int:
        """Pixels per latent pixel, in height and width."""
        raise NotImplementedError

    def problems(self, key: str) -> Iterator[Problem]:
        yield from ()


class LevelledNetwork(AutoencoderNetwork):
    """A network of levels, each but the first at half the resolution."""

    widths: list[Positive] = Field(min_length=1, description="Width of each level; each but the first halves.")
    groups: Positive = Field(32, description="Groups of the group norms; must divide every width.")

    @property
    def factor(self) -> int:
        return 2 ** (len(self.widths) - 1)

    def problems(self, key: str) -> Iterator[Problem]:
        if any(width % self.groups for width in self.widths):
            yield f"{key}.groups", self.groups, f"a divisor of every width ({listed(self.widths)})"


class AutoencoderKL(LevelledNetwork):
    """diffusers' AutoencoderKL: a Gaussian posterior per latent pixel (Rombach et al. 2022)."""

    kind: Literal["autoencoder_kl"]
    build: ClassVar[str] = "diffprobe.networks.autoencoder:autoencoder_kl"

    widths: list[Positive] = Field(
        [128, 256, 512, 512],
        min_length=1,
        description="Width of each level; each but the first halves the resolution.",
    )
    blocks: Positive = Field(2, description="Residual blocks per level.")
    attention: bool = Field(True, description="Self-attention in the middle.")


class ConvAutoencoder(LevelledNetwork):
    """The CelebA-HQ recipe's convolutional autoencoder: no middle, no attention; 17,760,359 parameters as it is."""

    kind: Literal["conv_autoencoder"]
    build: ClassVar[str] = "diffprobe.networks.conv_autoencoder:ConvAutoencoder"

    widths: list[Positive] = Field(
        [128, 256, 384],
        min_length=2,
        description="Width of each level; each but the first halves the resolution.",
    )
    blocks: Positive = Field(2, description="Residual blocks per level.")


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


PRETRAINED = "pretrained"  # the one checkpoint of an autoencoder that was trained elsewhere

Resize = Literal["bilinear", "repeat"]


class Autoencoder(Kind, family=True):
    """An autoencoder between images and latents."""

    size: Positive = Field(description="Height and width of the images that it takes; the dataset's are resized.")
    resize: Resize = Field(
        "bilinear",
        description="How the dataset's images come to that size: `bilinear` (with antialiasing, the published way), or "
        "`repeat` (each pixel repeated a whole number of times, which resizing back does not blur).",
    )

    rule: ClassVar[str]
    """The rule that makes its weights."""

    @property
    def image_channels(self) -> int:
        raise NotImplementedError

    @property
    def latent_space(self) -> tuple[int, int]:
        """(channels, size) of its latents."""
        raise NotImplementedError

    @property
    def pixels_per_latent(self) -> int:
        """In height and width."""
        raise NotImplementedError

    @property
    def trained_on(self) -> str | None:
        """The dataset that the workflow trains it on; None where it comes trained."""
        return None

    @property
    def last_checkpoint(self) -> int | str:
        """The checkpoint that encodes."""
        return PRETRAINED

    @property
    def vgg(self) -> str | None:
        """The local weights for LPIPS that its training names."""
        return None

    @property
    def local_sources(self) -> dict[str, str]:
        """Folders that it is read from, by key."""
        return {}

    @property
    def has_published_scale(self) -> bool:
        return False

    def problems(self, key: str) -> Iterator[Problem]:
        if self.size % self.pixels_per_latent:
            yield f"{key}.size", self.size, f"a multiple of {self.pixels_per_latent}, the pixels per latent pixel"


class Trained(Autoencoder):
    """An autoencoder that the workflow trains."""

    kind: Literal["trained"]
    dataset: Name = Field(description="An entry of `datasets`: what it is trained on.")
    network: AutoencoderNetwork = Field(description="The network.")
    train: AutoencoderTraining = Field(description="Its training.")

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
            yield f"{key}.train.device_batch", train.device_batch, "null, or an adversary with norm: group"
        least = {"train.perceptual": 16 if train.perceptual else 0}  # VGG16 halves four times
        least["train.adversary"] = 2 ** (1 + len(train.adversary.widths)) if train.adversary else 0
        for part, size in least.items():
            if self.size < size:
                yield f"{key}.size", self.size, f"at least {size}, for {part}"

    def problems_with(self, key: str, facts: Facts) -> Iterator[Problem]:
        """Images that it cannot be trained on."""
        if facts.channels not in (1, self.network.channels):
            yield f"{key}.network.channels", self.network.channels, f"{facts.channels}, as the images have"
        if self.resize == "repeat" and facts.size and self.size % facts.size:
            allowed = f"bilinear, or a size that is a multiple of the images' {facts.size} pixels"
            yield f"{key}.resize", "repeat", allowed


class Pretrained(Autoencoder):
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
    channels: Positive = Field(3, description="Channels of its images; grey ones are repeated.")
    latent_channels: Positive = Field(4, description="Channels of its latents.")
    factor: Positive = Field(8, description="Pixels per latent pixel, in height and width.")

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
        for name, value, allowed in published.local_problems(self.model_dump()):
            yield f"{key}.{name}", value, allowed
