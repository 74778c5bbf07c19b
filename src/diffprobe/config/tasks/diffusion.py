"""The plain diffusion task."""

from typing import ClassVar, Literal

from diffprobe.config.tasks import Task


class Diffusion(Task):
    """Trains one network on the process's objective."""

    kind: Literal["diffusion"]
    build: ClassVar[str] = "diffprobe.training.tasks.diffusion:make"
