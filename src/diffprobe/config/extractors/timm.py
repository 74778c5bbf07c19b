"""Networks of the timm library."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from diffprobe.config.base import Above0, File, Number, Pixels
from diffprobe.config.extractors import Extractor
from diffprobe.config.names import plain_name

Colour = Annotated[list[Number], Field(min_length=3, max_length=3)]
Deviation = Annotated[list[Above0], Field(min_length=3, max_length=3)]


class TimmExtractor(Extractor):
    """A network of the timm library (`pip install 'diffprobe[timm]'`): its pooled features before the classifier.

    Images are resized as a whole, without timm's crop, and grey ones are repeated to three channels. Size,
    interpolation, mean and deviation are those that timm states for the model, unless they are set.
    """

    kind: Literal["timm"]
    build: ClassVar[str] = "diffprobe.evaluation.generation.extractors.timm:make"
    package: ClassVar[str] = "timm"

    model: str = Field(
        pattern=r"^[a-z0-9_]+(\.[A-Za-z0-9_]+)?$",
        description="Name of the network, with or without the tag of its weights, such as `tf_efficientnet_lite0`.",
    )
    weights: File = Field(
        description="A .safetensors or .pth file with timm's names of the tensors, classifier included; or `hub`: "
        "those that timm publishes for the model, from the Hugging Face hub or its cache.",
    )
    sha256: str | None = Field(
        None, pattern=r"^[0-9a-f]{64}$", description="SHA-256 that the weights file must have; null: any."
    )
    size: Pixels | None = Field(None, description="Height and width that images are resized to; null: the model's.")
    interpolation: Literal["bilinear", "bicubic"] | None = Field(
        None, description="How images are resized, with antialiasing; null: as the model's were."
    )
    mean: Colour | None = Field(
        None, description="Mean of red, green and blue in [0, 1] that is subtracted; null: the model's."
    )
    std: Deviation | None = Field(None, description="Standard deviation that is divided by; null: the model's.")

    @property
    def printed_name(self) -> str:
        return f"timm_{plain_name(self.model)}"

    @property
    def files(self) -> list[str]:
        return [] if self.weights == "hub" else [self.weights]
