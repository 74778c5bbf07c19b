"""Losses as TensorBoard events, for those who watch them there. The history in stats.jsonl is the source."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diffprobe.runtime.errors import UserError


class Events:
    """Writes rows of the history into a folder; into none where that is None.

    Raises UserError where the package is not installed.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder, self.writer, self.step = folder, None, 0
        if folder is not None:
            try:
                import tensorboard  # noqa: F401
            except ImportError:
                raise UserError(
                    "state.tensorboard: the package tensorboard is missing; pip install tensorboard, or set it false"
                ) from None

    def write(self, rows: Sequence[dict[str, Any]]) -> None:
        """Write those rows that are new; at first, later ones that a killed run has written are dropped."""
        new = [row for row in rows if row["step"] > self.step]
        if self.folder is None or not new:
            return
        if self.writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(self.folder), purge_step=new[0]["step"])
        for row in new:
            for name, value in row.items():
                if name not in ("step", "images"):
                    self.writer.add_scalar(f"train/{name}", value, row["step"])
        self.writer.flush()
        self.step = new[-1]["step"]
