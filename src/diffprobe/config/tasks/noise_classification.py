"""The classification of noisy images."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from diffprobe.config.problems import Problem
from diffprobe.config.tasks import Task
from diffprobe.config.views import Crop

if TYPE_CHECKING:
    from diffprobe.config.models import Experiment


class NoiseClassification(Task):
    """Trains a classifier of images at the noise levels on which the process would train a diffusion model, as a
    baseline for classifiers on features (Xiang et al. 2023, DDAE). Draws no samples; `probe` scores it by `logits`.
    """

    kind: Literal["noise_classification"]
    build: ClassVar[str] = "diffprobe.training.tasks.noise_classification:make"
    classifies: ClassVar[bool] = True

    crop: Crop | None = Field(
        Crop(), description="Augmentation of training images, in pixels: a random crop and flip; null: none."
    )

    def problems(self, key: str, experiment: "Experiment") -> Iterator[Problem]:
        parent, train, probe = key.removesuffix(".task"), experiment.train, experiment.probe
        if self.crop and experiment.latents is not None:
            yield f"{key}.crop", "a crop", "null, since latents are not cropped"
        for name in ("flip", "augment"):
            if getattr(train, name):
                yield f"{parent}.train.{name}", True, f"false or null, since {key}.crop says what is seen"
        if train.compile in ("always", "graphs"):
            yield f"{parent}.train.compile", train.compile, "auto, since classifiers of noisy images are not compiled"
        if experiment.sample.samplers:
            samplers = list(experiment.sample.samplers)
            yield f"{parent}.sample.samplers", samplers, "none, since a classifier draws no samples"
        if experiment.generation is not None:
            yield f"{parent}.generation", "metrics", "null, since a classifier draws no samples"
        if probe and probe.selection == "select" and "select" in train.splits:
            yield f"{parent}.train.splits", train.splits, "[train], since select chooses among classifiers"
