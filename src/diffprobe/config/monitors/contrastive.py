"""Alignment and uniformity."""

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from diffprobe.config.base import Integer
from diffprobe.config.monitors import Monitor
from diffprobe.config.problems import Problem


class Contrastive(Monitor):
    """Alignment and uniformity (Wang & Isola 2020) of features divided by their norm, lower is better. Alignment
    compares two noisy copies of each image. As published for DDAE on four GPUs: `batch: 512`.
    """

    kind: Literal["contrastive"]
    build: ClassVar[str] = "diffprobe.evaluation.representation.monitors.contrastive:measure"
    pairs: ClassVar[bool] = True

    batch: Integer | None = Field(
        None,
        ge=2,
        description="Uniformity within batches of so many images, as published; its value depends on their size, "
        "which joins its name. null: over all pairs of images.",
    )

    @property
    def figures(self) -> tuple[str, ...]:
        within = f"_batch{self.batch}" if self.batch else ""
        return f"alignment{within}", f"uniformity{within}"

    def problems(self, key: str, images: int) -> Iterator[Problem]:
        if self.batch and self.batch > images:
            yield f"{key}.batch", self.batch, f"at most the {images:,} images of the subset"
