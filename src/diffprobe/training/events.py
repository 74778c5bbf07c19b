"""Losses as TensorBoard events, for those who watch them there. The history in stats.jsonl is the source."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from diffprobe.runtime.errors import UserError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class Sink(Protocol):
    """Takes the history of a run, again and again with further rows."""

    def write(self, rows: Sequence[Mapping[str, float]]) -> None: ...


class Events:
    """Writes rows of the history into a folder; writes nothing where that is None.

    Raises UserError where the package is not installed.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder, self.step = folder, 0
        self.writer: SummaryWriter | None = None
        if folder is not None:
            try:
                import tensorboard  # type: ignore[import-untyped]  # noqa: F401
            except ImportError:
                raise UserError(
                    "state.tensorboard: the package tensorboard is missing; pip install tensorboard, or set it false"
                ) from None

    def write(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Write the rows that are new. The first write purges later events, which a killed run has left."""
        new = [row for row in rows if row["step"] > self.step]
        if self.folder is None or not new:
            return
        if self.writer is None:
            from torch.utils.tensorboard import SummaryWriter  # here, since its import takes a second

            self.writer = SummaryWriter(str(self.folder), purge_step=int(new[0]["step"]))
        for row in new:
            for name, value in row.items():
                if name not in ("step", "images"):
                    self.writer.add_scalar(f"train/{name}", value, row["step"])
        self.writer.flush()
        self.step = int(new[-1]["step"])
