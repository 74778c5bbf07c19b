"""The wide residual network, a classifier of noisy images."""

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from diffprobe.config.base import Above0, Blocks, Width
from diffprobe.config.names import WIDE_RESNET_TAPS
from diffprobe.config.networks import Network
from diffprobe.config.problems import Problem
from diffprobe.config.processes import Process

HALVINGS = 2  # of the resolution, between the three groups of blocks


class WideResNet(Network):
    """A wide residual network (Zagoruyko & Komodakis 2016) that sees the noise level, for the task
    `noise_classification`; by default WRN-28-10 (38,913,114 parameters for 10 classes). Taps: `group_1` to `group_3`,
    `features`, their mean over positions, and `logits`.
    """

    kind: Literal["wide_resnet"]
    build: ClassVar[str] = "diffprobe.networks.wide_resnet:WideResNet"
    classifies: ClassVar[bool] = True

    depth: Blocks = Field(28, description="Layers: 6 n + 4, for n blocks in each of three groups.")
    width: Width = Field(10, description="Channels of the groups, as a multiple of 16, 32 and 64.")
    embedding: Width = Field(512, description="Width of the noise embedding.")
    frequencies: Width = Field(128, description="Random Fourier features of the noise level.")
    frequency_std: Above0 = Field(
        16.0,
        description="Standard deviation of their frequencies. As published: 16 with `ddpm`, whose input is t / T; 64 "
        "with `edm`, whose input is ln(sigma) / 4 where theirs is ln(sigma).",
    )

    @property
    def taps(self) -> list[str]:
        return list(WIDE_RESNET_TAPS)

    @property
    def vector_taps(self) -> list[str]:
        return ["features", "logits"]

    @property
    def about_parameters(self) -> int:
        return round((self.depth - 4) / 6 * 18 * (16 * self.width) ** 2 * 21)  # 3x3 convolutions: 1 + 4 + 16

    def problems(self, key: str, size: int) -> Iterator[Problem]:
        yield from super().problems(key, size)
        if self.depth < 10 or self.depth % 6 != 4:
            yield f"{key}.depth", self.depth, "6 n + 4 layers: 10, 16, 22, 28, .."
        if size % 2**HALVINGS:
            yield f"{key}.kind", self.kind, f"another network: {size} pixels cannot be halved twice"

    def process_problems(self, key: str, process: Process) -> Iterator[Problem]:
        if getattr(process, "time_input", "fraction") != "fraction":
            place = f"{key.removesuffix('.network')}.process.time_input"
            yield place, "index", "fraction, since the Fourier features of wide_resnet are meant for inputs of order 1"
