"""SODA (Hudson et al. 2024): an encoder makes a code of an image, by which a diffusion model denoises another view."""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor, nn

from diffprobe.networks.build import Settings, build
from diffprobe.networks.condition import NOTHING, Condition
from diffprobe.networks.resnet import ResNet


class EncoderSettings(Protocol):
    """The task's `encoder`: keywords of ResNet."""

    @property
    def depth(self) -> int: ...
    @property
    def stem(self) -> str: ...
    @property
    def width(self) -> int: ...
    @property
    def mean(self) -> Sequence[float] | None: ...
    @property
    def std(self) -> Sequence[float] | None: ...
    @property
    def init(self) -> str: ...


class TaskSettings(Protocol):
    """What of the task's settings (config/tasks/) its model depends on."""

    @property
    def z(self) -> int:
        """The length of the code."""

    @property
    def encoder(self) -> EncoderSettings: ...


class SODA(nn.Module):
    """`forward` as that of every network (diffusion/process.py). Of `cond` the decoder sees z; where that is None, the
    encoder makes it of `source` (B, C, H, W), clean images in [-1, 1]; without both it is the unconditional model.

    Taps: the encoder's, of `source`, then the decoder's.
    """

    def __init__(self, network: Settings, task: TaskSettings, image_channels: int, **shape: int) -> None:
        super().__init__()
        about = task.encoder
        self.encoder = ResNet(
            image_channels, task.z, about.depth, about.stem, about.width, about.mean, about.std, about.init
        )
        self.decoder = build(network, image_channels=image_channels, z=task.z, **shape)
        own: list[str] = getattr(self.decoder, "taps", [])
        self.taps = [*self.encoder.taps, *own]
        self.named_taps = [*self.encoder.taps, *getattr(self.decoder, "named_taps", own)]

    def forward(
        self,
        x: Tensor,
        c_noise: Tensor,
        cond: Condition = NOTHING,
        taps: Sequence[str] = (),
        features_only: bool = False,
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """The output (B, C, H, W) and the tapped activations by name; with `features_only` none after the last tap.

        Raises ValueError where a tap of the encoder is asked for without a source.
        """
        of_encoder = [tap for tap in taps if tap in self.encoder.taps]
        of_decoder = [tap for tap in taps if tap not in self.encoder.taps]
        if of_encoder and cond.source is None:
            raise ValueError(f"the taps {', '.join(of_encoder)} are of an encoder, which needs a source image")
        tapped: dict[str, Tensor] = {}
        if cond.source is not None and (of_encoder or cond.z is None):
            for name, h in self.encoder.activations(self.encoder.normalised(cond.source)):
                if name in of_encoder:
                    tapped[name] = h
                    if features_only and len(tapped) == len(taps):
                        return None, tapped  # no later layer of the encoder, and no decoder
            cond = cond if cond.z is not None else cond._replace(z=h)  # the last one, the code (B, z)
        output, others = self.decoder(x, c_noise, cond, of_decoder, features_only)
        return output, tapped | others

    @property
    def part_lengths(self) -> list[int]:
        """The lengths of the code's parts, by which the decoder's blocks see it."""
        return getattr(self.decoder, "part_lengths", [])

    def encode(self, images: Tensor) -> Tensor:
        """The codes (B, z) of clean images (B, C, H, W) in [-1, 1]."""
        return self.encoder(images)[0]
