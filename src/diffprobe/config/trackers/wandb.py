"""Weights & Biases."""

from pathlib import Path
from typing import Any, ClassVar, Literal

from diffprobe.config.trackers import Tracker


class Wandb(Tracker):
    """Weights & Biases, as the environment says (`WANDB_API_KEY`, `WANDB_MODE=offline`)."""

    kind: Literal["wandb"]
    package: ClassVar[str] = "wandb"

    def arguments(self, name: str, folder: Path) -> dict[str, Any]:
        return {**super().arguments(name, folder), "id": name, "dir": str(folder)}
