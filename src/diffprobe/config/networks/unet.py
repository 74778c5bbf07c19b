"""The U-Net of DDPM, DDPM++ and EDM."""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from diffprobe.config.base import LATER, LEVELS, Blocks, Integer, Number, Width
from diffprobe.config.names import unet_taps
from diffprobe.config.networks import Network
from diffprobe.config.problems import Problem, listed


class UNetOptions(Network):
    """What U-Nets of every kind have in common."""

    channels: Width = Field(128, description="Base channel width.")
    multipliers: list[Width] = Field(
        [1, 2, 2, 2],
        min_length=1,
        max_length=LEVELS,
        description="Width of each level, as a multiple of `channels`; every level after the first halves the "
        "resolution.",
    )
    blocks: Blocks = Field(2, description="Residual blocks per encoder level; the decoder has one more.")
    attention: list[Integer] = Field([1], description="Levels with self-attention; 0 is full resolution.")
    dropout: Number = Field(0.1, ge=0, lt=1, description="Dropout rate in residual blocks.")
    groups: Width = Field(32, description="Group-norm groups; must divide every width.")
    head_groups: Width = Field(8, description="Groups of the last group norm.")
    resample: Literal["conv", "block"] = Field(
        "conv", description="Up- and downsampling by convolutions (DDPM) or residual blocks (DDPM++)."
    )
    down_padding: Literal["both", "right"] = Field(
        "both", description="Padding of downsampling convolutions; DDPM: `right` (right and bottom only)."
    )
    norm_eps: Number = Field(1e-5, gt=0, description="Group-norm epsilon; DDPM and EDM: 1e-6.")
    skip_scale: Number = Field(1.0, gt=0, description="Factor on residual sums; EDM: sqrt(0.5) = 0.70710678.")
    time_scale: Number = Field(
        1.0, gt=0, description="Factor on the noise-level input before its sinusoidal embedding."
    )
    init: Literal["torch", "ddpm", "edm", "truncated_normal"] = Field(
        "torch",
        description="Weight initialisation: PyTorch's, DDPM's, EDM's, or a normal distribution of variance 1 / fan-in "
        "cut at two standard deviations.",
    )
    shortcut_conv: Annotated[bool, LATER] = Field(
        False, description="A 1x1 convolution in the shortcut of resampling blocks (EDM); with `resample: block`."
    )
    decoder_attention: Annotated[Literal["all", "last"], LATER] = Field(
        "all", description="Decoder blocks with self-attention at the levels of `attention`: all, or the last (EDM)."
    )
    label_layer: Annotated[Literal["plain", "scaled"], LATER] = Field(
        "plain",
        description="Embedding of the class label: a linear layer, or one with a bias for labels scaled by "
        "sqrt(classes) (EDM).",
    )
    patch: Annotated[Literal[1, 2, 4, 8], LATER] = Field(
        1,
        description="Pixels of a side that are channels of one position (Luhman & Luhman 2022): with 2, the network "
        "works at half the resolution, for about a quarter of the cost.",
    )
    conditional: bool = Field(False, description="Condition on the class label, if there are labels.")
    augment: bool = Field(
        True,
        description="Condition on the augmentation label, so that samples are not augmented.",
    )
    label_dropout: Number = Field(0.1, ge=0, le=1, description="Fraction of labels dropped in training, for guidance.")

    @property
    def taps(self) -> list[str]:
        return unet_taps(len(self.multipliers), self.blocks)

    @property
    def about_parameters(self) -> int:
        # Two 3x3 convolutions per residual block; of the decoder's blocks, the first sees twice the width.
        convolutions = 18 * self.blocks + 27 * (self.blocks + 1)
        return sum(convolutions * (self.channels * m) ** 2 for m in self.multipliers)

    def problems(self, key: str, size: int) -> Iterator[Problem]:
        yield from super().problems(key, size)
        levels = len(self.multipliers)
        if size % self.patch:
            yield f"{key}.patch", self.patch, f"a divisor of the images' {size} pixels"
        elif (size // self.patch) % 2 ** (levels - 1):
            positions = f"{size} pixels" if self.patch == 1 else f"{size // self.patch} positions"
            yield f"{key}.multipliers", self.multipliers, f"fewer levels, so that {positions} halve evenly"
        for level in self.attention:
            if not 0 <= level < levels:
                yield f"{key}.attention", level, f"levels 0 to {levels - 1}"
        widths = {self.channels * m for m in (1, *self.multipliers)}  # 1: the first convolution's output
        if any(width % self.groups for width in widths):
            yield f"{key}.groups", self.groups, f"a divisor of every width ({listed(sorted(widths))})"
        # One channel at one position has no deviation.
        elif size == self.patch * 2 ** (levels - 1) and self.channels * self.multipliers[-1] == self.groups:
            yield f"{key}.groups", self.groups, f"less than the {self.groups} channels of the level with one position"
        # The last norm sees the decoder's full-resolution level.
        if self.channels * self.multipliers[0] % self.head_groups:
            yield f"{key}.head_groups", self.head_groups, f"a divisor of {self.channels * self.multipliers[0]}"
        elif size == self.patch and self.channels * self.multipliers[0] == self.head_groups:
            yield f"{key}.head_groups", self.head_groups, f"less than {self.head_groups}, the channels of one position"
        if self.shortcut_conv and self.resample != "block":
            yield f"{key}.shortcut_conv", True, "false (true is only for resample: block)"
        if self.channels % 2 or self.channels < 4:  # the noise embedding is half sines, half cosines
            yield f"{key}.channels", self.channels, "an even number, at least 4"


class UNet(UNetOptions):
    """The U-Net of DDPM with DDAE's defaults; DDPM (Ho et al. 2020) and EDM use other values of `head_groups`,
    `down_padding`, `norm_eps`, `skip_scale` and `init`; EDM's own network is in config/edm.yaml. Taps: `in_1`..
    (encoder), `mid`, `out_1`.. (decoder).
    """

    kind: Literal["unet"]
    build: ClassVar[str] = "diffprobe.networks.unet:UNet"
