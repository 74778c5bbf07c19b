"""Stores of latents: views, scaling, and latents imported from other systems."""

import pathlib
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from diffprobe.config.base import LATER, Integer, Name, Number, Path, Pixels, Positive, Repeats, Strict
from diffprobe.config.kinds import Kind
from diffprobe.config.problems import Problem, listed


class View(Kind, family=True):
    """A transformation of an image before it is encoded (see `data.views`)."""

    @property
    def number(self) -> int:
        """How many views it contributes."""
        return 1

    @property
    def is_identity(self) -> bool:
        return False


class Identity(View):
    """The unchanged image."""

    kind: Literal["identity"]

    @property
    def is_identity(self) -> bool:
        return True


class Mirror(View):
    """The image flipped left to right."""

    kind: Literal["mirror"]


class Crop(View):
    """A random crop of the padded image at the original size, drawn independently for each image and view."""

    kind: Literal["crop"]
    count: Repeats = Field(1, description="Number of such views.")
    pad: Pixels = Field(4, description="Pixels of padding on each side.")
    fill: Literal["zero", "edge"] = Field("zero", description="Padding: black, or the repeated border.")
    flip: bool = Field(True, description="Flip left to right first, with probability 0.5.")

    @property
    def number(self) -> int:
        return self.count


def labels_folder(path: str) -> str:
    """The label folder of a folder with one file per image: imagenet256_labels for imagenet256_features, or the same
    folder if its name does not contain `features`.
    """
    place = pathlib.PurePath(path)
    if not place.name:  # of `.` or `/`
        return path
    return str(place.with_name(place.name.replace("features", "labels")))


class Peers(Kind, family=True):
    """Latents encoded by another system, in the order of the dataset's own files. Its train and select splits together
    (all images, if it has no official test split) correspond to the other system's train. Counts and labels are
    compared. The files of a folder are sorted by whole paths; torchvision sorts class by class, which differs where one
    class's name begins with another's, as with `cat` and `cat-big`.
    """

    path: Path = Field(description="Folder of the latents.")
    test: Path | None = Field(
        None,
        description="Folder of the test latents, if separate (`npy` keeps them in the same folder as "
        "test_code_0.npy); null: none. Probes need test latents.",
    )
    scaled: Number = Field(
        1.0,
        gt=0,
        description="Factor already applied to these latents, divided out on import: 0.18215 in DDAE/DiT and fast-DiT.",
    )

    @property
    def folders(self) -> list[str]:
        """Every folder that is read."""
        return [path for path in (self.path, self.test) if path]

    @property
    def versions(self) -> int:
        """Number of views of train in the files; 0 if they are missing and cannot be counted."""
        return 1

    def problems(self, key: str) -> Iterator[Problem]:
        yield from ()


class NpyPeers(Peers):
    """A folder with one file per view: train_code_0.npy, ... (DDAE/DiT)."""

    kind: Literal["npy"]

    @property
    def versions(self) -> int:
        return len(list(pathlib.Path(self.path).glob("train_code_*.npy")))

    def problems(self, key: str) -> Iterator[Problem]:
        if self.test:
            yield f"{key}.test", self.test, "null: test_code_0.npy lies in the same folder"


class FilePeers(Peers):
    """A folder with one file per image (0.npy, ...) and its labels in a folder beside it (fast-DiT)."""

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
    """A store of latents: the posterior moments of a dataset under an autoencoder, in one or more views."""

    dataset: Name = Field(description="Entry of `datasets`.")
    autoencoder: Name = Field(description="Entry of `autoencoders`.")
    views: list[View] = Field(
        [{"kind": "identity"}],
        min_length=1,
        max_length=1000,
        validate_default=True,
        description="Views of train, the identity first; select and test have only the identity. A DiT is conditioned "
        "on the view, as is a U-Net unless `augment: false`: they sample unaugmented images, others all views.",
    )
    scale: Literal["measured", "published"] | Number = Field(
        "measured",
        description="Scaling of latents to unit standard deviation. `measured`: per channel, after subtracting the "
        "mean. `published`: scale and shift from a pretrained autoencoder's config. A number, such as 0.18215: no "
        "shift.",
    )
    normalise: Annotated[Literal["imagenet"] | None, LATER] = Field(
        None,
        description="What an autoencoder of colour images is given in place of pixels in [-1, 1], for which it was "
        "trained: `imagenet`: pixels less ImageNet's mean, by its deviation, as the board of Efficient Probing encoded "
        "DiT's latents; null: pixels in [-1, 1].",
    )
    imported: Peers | None = Field(
        None,
        description="Latents encoded by another system, used instead of encoding; null: none. The files determine the "
        "views, on which no network is conditioned; `seed`, `batch`, `precision` and `jobs` do not apply.",
    )
    seed: Integer = Field(0, description="Seed of random views.")
    batch: Positive = Field(
        64, description="Images per pass through the autoencoder, a divisor of 256; on a CPU at most 4 of 256 x 256."
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto",
        description="Compute precision of encoding. `auto`: bf16 where the device has units for it "
        "(GPUs since Ampere, some CPUs), else fp32.",
    )
    shard_chunks: Repeats = Field(16, description="Chunks of 256 images per file.")
    jobs: Repeats = Field(
        1, description="Number of parallel encoding jobs (devices or nodes). Does not change the store."
    )

    @property
    def versions(self) -> int:
        """Number of views of train."""
        if self.imported:
            return max(1, self.imported.versions)
        return sum(view.number for view in self.views)

    @property
    def several_views(self) -> bool:
        """Whether train may have more than one view. Those of imported latents are unknown until their files exist."""
        countable = self.imported is None or self.imported.versions > 0
        return not countable or self.versions > 1

    def same_space(self, other: "Latents") -> bool:
        """Whether both are by one autoencoder of equal inputs, so that a model of one can see the other."""
        return (self.autoencoder, self.normalise) == (other.autoencoder, other.normalise)

    def problems(self, key: str) -> Iterator[Problem]:
        """Invalid views, scales and batch sizes."""
        if self.imported:
            if not all(view.is_identity for view in self.views) or len(self.views) > 1:
                kinds = listed(view.kind for view in self.views)
                yield f"{key}.views", kinds, "only identity: the imported files determine the views"
            yield from self.imported.problems(f"{key}.imported")
            if self.normalise:
                yield f"{key}.normalise", self.normalise, "null, since these latents are encoded already"
        elif not self.views[0].is_identity:
            yield f"{key}.views", self.views[0].kind, "identity as the first view (features are computed from it)"
        if 256 % self.batch:
            yield f"{key}.batch", self.batch, "a divisor of 256, the chunk size"
        if isinstance(self.scale, float) and self.scale <= 0:
            yield f"{key}.scale", self.scale, "measured, or a number above 0"
