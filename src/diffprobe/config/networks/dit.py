"""The diffusion transformer."""

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from diffprobe.config.base import Blocks, Number, Pixels, Width
from diffprobe.config.names import dit_taps
from diffprobe.config.networks import Network
from diffprobe.config.problems import Problem


class DiT(Network):
    """The diffusion transformer (Peebles & Xie 2023). Taps: `block_0`.., the residual stream after each block."""

    kind: Literal["dit"]
    build: ClassVar[str] = "diffprobe.networks.dit:DiT"
    steps_from: ClassVar[int] = 0

    width: Width = Field(384, description="Token width.")
    depth: Blocks = Field(12, description="Number of blocks.")
    heads: Width = Field(6, description="Attention heads; must divide the width.")
    patch: Pixels = Field(2, description="Patch size: height and width of the input that one token covers.")
    mlp_ratio: Number = Field(4.0, gt=0, le=64, description="Hidden width of the MLPs, relative to the token width.")
    time_scale: Number = Field(
        1.0,
        gt=0,
        description="Factor on the noise-level input before its sinusoidal embedding (meant for values to 1000).",
    )
    # Below: how the network is used rather than built (Network.usage).
    conditional: bool = Field(True, description="Condition on the class label, if there are labels.")
    augment: bool = Field(
        True,
        description="Condition on the augmentation label of a view, so that samples are not augmented.",
    )
    label_dropout: Number = Field(0.1, ge=0, le=1, description="Fraction of labels dropped in training, for guidance.")

    @property
    def taps(self) -> list[str]:
        return dit_taps(self.depth)

    @property
    def about_parameters(self) -> int:
        return round(self.depth * self.width**2 * (4 + 2 * self.mlp_ratio + 6))  # attention, MLP, adaLN

    def problems(self, key: str, size: int) -> Iterator[Problem]:
        yield from super().problems(key, size)
        if size % self.patch:
            yield f"{key}.patch", self.patch, f"a divisor of {size}, the input size"
        if self.width % self.heads:
            yield f"{key}.heads", self.heads, f"a divisor of the width {self.width}"
        if self.width % 4:
            yield f"{key}.width", self.width, "a multiple of 4, for the sines and cosines of rows and columns"
