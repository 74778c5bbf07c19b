"""What a training job reads: an image store, or the latents of its images."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from diffprobe.data import images
from diffprobe.data.batch import Feed
from diffprobe.latents.store import LatentStore, open_store
from diffprobe.training.latentstream import Budget, LatentStream, open_source
from diffprobe.training.stream import open_stream
from diffprobe.training.world import World

if TYPE_CHECKING:
    from diffprobe.plan.training_argument import TrainSettings


@dataclass(frozen=True)
class Data:
    """Facts of the images, and where they lie; none has been read yet."""

    image: tuple[int, int, int]  # (C, H, W)
    classes: int  # 0 without labels
    content: str  # hash of what the network sees
    latents: LatentStore | None = None  # where the network sees latents
    files: Mapping[str, Path] = field(default_factory=dict)  # the job's inputs by name

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of what the network sees."""
        return self.latents.shape if self.latents else self.image

    @property
    def imported(self) -> bool:
        """Whether the latents were encoded elsewhere."""
        return self.latents is not None and bool(self.latents.identity.get("imported"))

    @property
    def header(self) -> dict[str, Any]:
        """What a checkpoint's header says of the latents, so that samples can be decoded."""
        if self.latents is None:
            return {}
        scaling = {"scale": self.latents.scale.tolist(), "shift": self.latents.shift.tolist()}
        pixels = {key: value for key, value in self.latents.identity.items() if key == "normalise"}
        return {"latents": {**scaling, "image": self.image, "content": self.content, **pixels}}

    def stream(
        self, train: "TrainSettings", device: torch.device, world: World, budget: Budget, log: Callable[[str], object]
    ) -> Feed:
        """The endless stream of training images or latents; `log` is given a line on how latents are held."""
        if self.latents is None:
            resident = train.resident_gib * 2**30
            few = images.Few.of(train.images, train.seed)
            return open_stream(self.files["images"], train.splits, train.seed, device, resident, few)
        window = train.window_mib * 2**20
        source, held = open_source(self.latents, train.splits, train.seed, device, window, budget, train.batch, world)
        log(held)
        return LatentStream(self.latents, source, train.seed, train.latents_as)


def open_data(files: Mapping[str, Path], expected: dict[str, Any] | None = None) -> Data:
    """The data of a job's inputs; `expected` is the identity that its store of latents must have, None in pixels.

    Raises UserError where a store is damaged or was made otherwise.
    """
    store = images.describe(files["images"])
    image, classes = (store["channels"], store["size"], store["size"]), len(store["classes"])
    if expected is None:
        return Data(image, classes, store["content"], files=files)
    latents = open_store(files["latents"].parent, expected)
    return Data(image, classes, latents.content, latents, files)
