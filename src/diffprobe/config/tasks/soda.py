"""The task of SODA."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from diffprobe.config.base import Above0, Number, Positive, Strict, Width
from diffprobe.config.names import RESNET_TAPS
from diffprobe.config.networks import Network
from diffprobe.config.problems import Problem
from diffprobe.config.tasks import Task
from diffprobe.config.views import RandomView

if TYPE_CHECKING:
    from diffprobe.config.models import Experiment

Share = Annotated[Number, Field(ge=0, le=1)]


class SODAEncoder(Strict):
    """SODA's encoder, a residual network (He et al. 2016) and a linear layer to the code."""

    depth: Literal[18, 34, 50, 101, 152] = Field(18, description="Layers.")
    stem: Literal["small", "large"] = Field(
        "small",
        description="First layers: a 3x3 convolution, for images of 32 pixels, or a 7x7 convolution of stride 2 and "
        "max-pooling, for larger ones.",
    )
    width: Width = Field(64, description="Channels of the first stage; each later one doubles them.")
    mean: list[Number] | None = Field(
        None, description="Mean of images in [0, 1], per channel, by which they are normalised; null: 0."
    )
    std: list[Above0] | None = Field(
        None, description="Their standard deviation, per channel, by which they are divided; null: 1."
    )
    init: Literal["kaiming", "xavier"] = Field(
        "kaiming", description="Weight initialisation: torchvision's (SODA's re-implementation), or Xavier's, uniform."
    )

    def problems(self, key: str, channels: int) -> Iterator[Problem]:
        """Settings that do not go with images of so many channels."""
        for name in ("mean", "std"):
            values = getattr(self, name)
            if values is not None and len(values) != channels:
                yield f"{key}.{name}", values, f"{channels} numbers, one for each channel"


class SourceView(RandomView):
    """The view that the encoder sees in training."""

    noise: Annotated[Number, Field(ge=0)] = Field(
        0.1, description="Standard deviation of the noise that is added to the normalised view."
    )


class SODA(Task):
    """SODA (Hudson et al. 2024): an encoder makes a code of one view of an image, and the network denoises another view
    by that code. Its samples are decoded from the codes of training images.
    """

    kind: Literal["soda"]
    build: ClassVar[str] = "diffprobe.training.tasks.soda:make"
    model: ClassVar[str] = "diffprobe.networks.soda:SODA"
    samples_from_images: ClassVar[bool] = True

    z: Positive = Field(128, le=32_768, description="Length of the code.")
    encoder: SODAEncoder = Field(SODAEncoder(), description="Encoder.")
    source: SourceView = Field(
        SourceView(), description="What the encoder sees in training; outside it sees images as they are."
    )
    target: RandomView | None = Field(
        RandomView(),
        description="The view that is denoised, drawn independently of the source; null: the image as it is, which "
        "helps reconstructions and harms classification.",
    )
    z_dropout: Share = Field(
        0.1, description="Share of images whose whole code is hidden from the network in training, for guidance."
    )
    part_dropout: Share = Field(
        0.0,
        description="Share of the code's parts hidden, each on its own (SODA's layer masking); for a network with "
        "`parts: levels`.",
    )
    encoder_rate: Above0 = Field(2.0, description="The encoder's learning rate, as a multiple of `train.lr`.")

    def taps(self, network: Network) -> list[str]:
        return [*RESNET_TAPS, *network.taps]

    def clean_taps(self, network: Network) -> list[str]:
        return list(RESNET_TAPS)

    def vector_taps(self, network: Network) -> list[str]:
        return ["features", "z"]

    def hidden(self, network: Network) -> tuple[str, float]:
        return "task.z_dropout", self.z_dropout

    def problems(self, key: str, experiment: "Experiment") -> Iterator[Problem]:
        network, parent = experiment.network, key.removesuffix(".task")
        parts = network.code_parts
        if not parts:
            allowed = f"modulated_unet, since the network {network.kind} does not see a code"
            yield f"{parent}.network.kind", network.kind, allowed
        elif self.z < parts:
            yield f"{key}.z", self.z, f"at least {parts}, one for each part of the code"
        if self.part_dropout and parts == 1:
            yield f"{key}.part_dropout", self.part_dropout, "0, or a network with parts: levels (z_dropout hides all)"
        if network.conditional_on_labels:
            yield f"{parent}.network.conditional", True, "false, since the code takes the label's place"
        if experiment.latents is not None:
            yield f"{parent}.latents", experiment.latents, "null, since views and the encoder are of images"
        train = experiment.train
        if train.several_passes(train.batch):
            share = -(-train.batch // train.devices)
            allowed = f"null or {share}, since the encoder's batch norms take a device's share of a batch whole"
            yield f"{parent}.train.device_batch", train.device_batch, allowed
        for name in ("flip", "augment"):
            if getattr(train, name):
                yield f"{parent}.train.{name}", True, f"false or null, since {key}.source and target say what is seen"

    def image_problems(self, key: str, channels: int, size: int | None) -> Iterator[Problem]:
        yield from self.encoder.problems(f"{key}.encoder", channels)
        for name, view in (("source", self.source), ("target", self.target)):
            if view is not None:
                yield from view.problems(f"{key}.{name}", channels, size)
