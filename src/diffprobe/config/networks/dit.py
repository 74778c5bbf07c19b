"""The diffusion transformer."""

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from diffprobe.config.base import Number, Positive
from diffprobe.config.names import dit_taps
from diffprobe.config.networks import Network
from diffprobe.config.problems import Problem


class DiT(Network):
    """The diffusion transformer (Peebles & Xie 2023). Taps: `block_0`.. (the residual stream after each block)."""

    kind: Literal["dit"]
    build: ClassVar[str] = "diffprobe.networks.dit:DiT"
    steps_from: ClassVar[int] = 0

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

    @property
    def taps(self) -> list[str]:
        return dit_taps(self.depth)

    def problems(self, key: str, size: int) -> Iterator[Problem]:
        if size % self.patch:
            yield f"{key}.patch", self.patch, f"a divisor of {size}, the height and width of its input"
        if self.width % self.heads:
            yield f"{key}.heads", self.heads, f"a divisor of the width {self.width}"
        if self.width % 4:
            yield f"{key}.width", self.width, "a multiple of 4 (sines and cosines of rows and columns)"
