"""Stores of latents."""

import pathlib
from typing import Annotated, Literal

from pydantic import Field

from diffprobe.config.base import Integer, Name, Number, Path, Positive, Strict


class Identity(Strict):
    """The image as it is."""

    kind: Literal["identity"]


class Mirror(Strict):
    """Left and right exchanged."""

    kind: Literal["mirror"]


class Crop(Strict):
    """A random crop of the padded image at its own size, drawn anew for each image and view."""

    kind: Literal["crop"]
    count: Positive = Field(1, description="So many views.")
    pad: Positive = Field(4, description="Pixels of padding on each side.")
    fill: Literal["zero", "edge"] = Field("zero", description="What the padding holds: black, or the border repeated.")
    flip: bool = Field(True, description="Half of the views are mirrored first.")


View = Annotated[Identity | Mirror | Crop, Field(discriminator="kind")]


def labels_folder(path: str) -> str:
    """Where the labels are of a folder with a file per image: imagenet256_labels beside imagenet256_features; the
    folder itself where its name has no `features`.
    """
    place = pathlib.PurePath(path)
    return str(place.with_name(place.name.replace("features", "labels")))


class Peers(Strict):
    """Latents that another system has encoded, and what holds them: `npy`, a folder with train_code_0.npy and so on,
    one file per view (DDAE/DiT); `files`, a folder with 0.npy and so on, one per image, and the labels in a folder
    beside it (fast-DiT); `safetensors`, a folder of shards (LightningDiT). The images must lie in the order of the
    dataset's own files: its train and select are the peer's train, in one; or all of it, where it has no test of its
    own. Counts and labels are compared.
    """

    kind: Literal["npy", "files", "safetensors"]
    path: Path = Field(description="The folder.")
    test: Path | None = Field(
        None,
        description="The folder of the latents of test, where they lie apart (those of `npy` lie in the same, as "
        "test_code_0.npy); null: none. Without those of test nothing can be probed.",
    )
    scaled: Number = Field(
        1.0,
        gt=0,
        description="What its latents were multiplied by, and are divided by again: 0.18215 in DDAE/DiT and fast-DiT.",
    )

    @property
    def folders(self) -> list[str]:
        """All that is read of it."""
        named = [path for path in (self.path, self.test) if path]
        labels = [labels_folder(path) for path in named] if self.kind == "files" else []
        return list(dict.fromkeys([*named, *labels]))

    @property
    def versions(self) -> int:
        """As many views of train as the files are likely to hold; 0 where they are not there to be counted."""
        if self.kind == "npy":
            return len(list(pathlib.Path(self.path).glob("train_code_*.npy")))
        return {"files": 1, "safetensors": 2}[self.kind]


class Latents(Strict):
    """A store of latents: a dataset as an autoencoder's posterior moments, in several views."""

    dataset: Name = Field(description="An entry of `datasets`.")
    autoencoder: Name = Field(description="An entry of `autoencoders`.")
    views: list[View] = Field(
        [{"kind": "identity"}],
        min_length=1,
        validate_default=True,
        description="Views of `train` (select and test have the identity alone); the identity comes first. A DiT is "
        "told what a view has done and draws images as they are; a U-Net is not, so its samples come in all views.",
    )
    scale: Literal["measured", "published"] | Number = Field(
        "measured",
        description="Factor that brings latents to unit deviation: measured per channel (with the mean as shift); that "
        "of a pretrained autoencoder's own config, and its shift; or a number (and no shift), such as 0.18215.",
    )
    imported: Peers | None = Field(
        None,
        description="Latents that another system has encoded, in place of encoding; null: none. Their views are those "
        "of the files, of which a network is told nothing; seed, batch, precision and jobs have no meaning.",
    )
    seed: Integer = Field(0, description="Seed of the views.")
    batch: Positive = Field(64, description="Images per pass of the autoencoder; a divisor of 256.")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="Of the autoencoder's arithmetic when it encodes. `auto`: bf16 on a GPU, else fp32."
    )
    shard_chunks: Positive = Field(16, description="Chunks of 256 images per file.")
    jobs: Positive = Field(
        1, description="Jobs that share the encoding, so as many devices or nodes may; changes no byte."
    )

    @property
    def versions(self) -> int:
        """How many views of train there are."""
        if self.imported:
            return max(1, self.imported.versions)
        return sum(getattr(view, "count", 1) for view in self.views)
