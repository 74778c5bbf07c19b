"""Extractors: networks whose features the figures of generation compare."""

from typing import Annotated, Literal

from pydantic import Field

from diffprobe.config.base import Integer, Name, Number, Path, Positive, Strict


class ClassifierExtractor(Strict):
    """A small convolutional classifier, trained here on a dataset's `train` labels; needs no download."""

    kind: Literal["classifier"]
    dataset: Name = Field(description="The dataset it is trained on: that of the experiments that use it.")
    channels: Positive = Field(32, description="Width of its first layer; features have four times as many.")
    batch: Positive = Field(128, description="Images per step.")
    lr: Number = Field(2e-3, gt=0, description="Learning rate of Adam.")
    kimg: Positive = Field(20, description="Length of its training, in thousands of images.")
    seed: Integer = Field(0, description="Seed of weights and order.")


class InceptionExtractor(Strict):
    """The Inception-v3 of the FID (pytorch-fid's network): the setting of real experiments."""

    kind: Literal["inception"]
    dims: Literal[64, 192, 768, 2048] = Field(
        2048, description="Which layer's features; only those of 2048 make an FID. From 768 on there is sFID's map."
    )
    weights: Path | None = Field(
        None,
        description="A local weights file (.pth or .safetensors); without it pytorch-fid's public download.",
    )


class DINOv2Extractor(Strict):
    """DINOv2 (Oquab et al. 2023): the class token, as the FD-DINOv2 of Stein et al. (2023) compares it."""

    kind: Literal["dinov2"]
    size: Literal["s", "b", "l"] = Field("l", description="ViT-S, B or L, patches of 14; published figures use `l`.")
    weights: Path | None = Field(
        None,
        description="A local checkpoint, as Meta publishes it or as on the Hugging Face hub (file or folder); "
        "without it Meta's public download.",
    )


class TorchScriptExtractor(Strict):
    """Any network saved as TorchScript that takes images (B, 3, H, W) to features (B, D) or (B, D, h, w).

    The file is a program: it runs with your rights and can read and write your files.
    """

    kind: Literal["torchscript"]
    weights: Path = Field(description="The file.")
    # Excluded from every dump, so from job arguments and from what decides a rerun.
    trusted: bool = Field(
        False,
        exclude=True,
        description="Must be `true`: you trust whoever made the file, whose code runs with your rights.",
    )
    size: Positive | None = Field(None, description="Height and width that images are brought to; null: as they are.")
    input: Literal["uint8", "unit", "signed", "imagenet"] = Field(
        "unit", description="What it takes: 0 to 255 as bytes, 0 to 1, -1 to 1, or normalised as for ImageNet."
    )
    arguments: dict[str, bool | int | float] = Field(
        {}, description="Further arguments by name, such as `return_features: true` of EDM's Inception."
    )


Extractor = Annotated[
    ClassifierExtractor | InceptionExtractor | DINOv2Extractor | TorchScriptExtractor, Field(discriminator="kind")
]
