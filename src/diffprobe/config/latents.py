"""Stores of latents."""

import pathlib
from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from diffprobe.config.base import Integer, Name, Number, Path, Positive, Strict
from diffprobe.config.kinds import Kind
from diffprobe.config.problems import Problem, listed


class View(Kind, family=True):
    """What is done to an image before it is encoded (see `data.views`)."""

    @property
    def number(self) -> int:
        """As how many views it counts."""
        return 1

    @property
    def is_identity(self) -> bool:
        return False


class Identity(View):
    """The image as it is."""

    kind: Literal["identity"]

    @property
    def is_identity(self) -> bool:
        return True


class Mirror(View):
    """Left and right exchanged."""

    kind: Literal["mirror"]


class Crop(View):
    """A random crop of the padded image at its own size, drawn anew for each image and view."""

    kind: Literal["crop"]
    count: Positive = Field(1, description="So many views.")
    pad: Positive = Field(4, description="Pixels of padding on each side.")
    fill: Literal["zero", "edge"] = Field("zero", description="What the padding holds: black, or the border repeated.")
    flip: bool = Field(True, description="Half of the views are mirrored first.")

    @property
    def number(self) -> int:
        return self.count


def labels_folder(path: str) -> str:
    """Where the labels are of a folder with a file per image: imagenet256_labels beside imagenet256_features; the
    folder itself where its name has no `features`.
    """
    place = pathlib.PurePath(path)
    return str(place.with_name(place.name.replace("features", "labels")))


class Peers(Kind, family=True):
    """Latents that another system has encoded. The images must lie in the order of the dataset's own files: its train
    and select are the peer's train, in one; or all of it, where it has no test of its own. Counts and labels are
    compared.
    """

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
        return [path for path in (self.path, self.test) if path]

    @property
    def versions(self) -> int:
        """As many views of train as the files are likely to hold; 0 where they are not there to be counted."""
        return 1

    def problems(self, key: str) -> Iterator[Problem]:
        yield from ()


class NpyPeers(Peers):
    """A folder with train_code_0.npy and so on, one file per view (DDAE/DiT)."""

    kind: Literal["npy"]

    @property
    def versions(self) -> int:
        return len(list(pathlib.Path(self.path).glob("train_code_*.npy")))

    def problems(self, key: str) -> Iterator[Problem]:
        if self.test:
            yield f"{key}.test", self.test, "null: test_code_0.npy lies in the same folder"


class FilePeers(Peers):
    """A folder with 0.npy and so on, one per image, and the labels in a folder beside it (fast-DiT)."""

    kind: Literal["files"]

    @property
    def folders(self) -> list[str]:
        latents = super().folders
        return list(dict.fromkeys([*latents, *map(labels_folder, latents)]))


class ShardPeers(Peers):
    """A folder of safetensors shards (LightningDiT)."""

    kind: Literal["safetensors"]

    @property
    def versions(self) -> int:
        return 2


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
        return sum(view.number for view in self.views)

    def problems(self, key: str) -> Iterator[Problem]:
        """Views, scales and batches that cannot be."""
        if self.imported:
            if not all(view.is_identity for view in self.views) or len(self.views) > 1:
                kinds = listed(view.kind for view in self.views)
                yield f"{key}.views", kinds, "nothing (the views of imported latents are those of their files)"
            yield from self.imported.problems(f"{key}.imported")
        elif not self.views[0].is_identity:
            yield f"{key}.views", self.views[0].kind, "identity as the first (features are taken from it)"
        if 256 % self.batch:
            yield f"{key}.batch", self.batch, "a divisor of 256, the images of a chunk"
        if isinstance(self.scale, float) and self.scale <= 0:
            yield f"{key}.scale", self.scale, "measured, or a number above 0"
