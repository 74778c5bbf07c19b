"""The U-Net of SODA."""

from typing import ClassVar, Literal

from pydantic import Field

from diffprobe.config.networks.unet import UNetOptions


class ModulatedUNet(UNetOptions):
    """SODA's decoder (Hudson et al. 2024): a U-Net whose residual blocks are modulated by the noise level and by the
    code of an image, which the task `soda` gives it. Taps and other keys as of `UNet`.
    """

    kind: Literal["modulated_unet"]
    build: ClassVar[str] = "diffprobe.networks.modulated_unet:ModulatedUNet"

    modulation: Literal["residual", "direct"] = Field(
        "residual",
        description="Scales and shifts after each block's second norm: by 1 + scale, of layers that are zero at first; "
        "or by the scale itself, of layers with weights by `init` (SODA's re-implementation).",
    )
    parts: Literal["all", "levels"] = Field(
        "all",
        description="What of the code a block sees: all, or one of equal parts, one for each level's blocks in encoder "
        "and decoder and the last for the middle (SODA's layer modulation).",
    )

    @property
    def code_parts(self) -> int:
        return len(self.multipliers) + 1 if self.parts == "levels" else 1
