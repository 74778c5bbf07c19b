"""Statistics of a long pass, saved as it goes: a killed job resumes with the same result, bit for bit."""

import time
from collections.abc import Sequence
from pathlib import Path

from diffprobe.evaluation.generation.statistics import Statistics
from diffprobe.runtime import tensors as files
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.tensors import AUTOSAVE


class Autosave:
    """A file for the statistics of one pass, whose name is `identity`.

    A file of another pass is ignored, as is a damaged one: the pass then begins anew, with the same result.
    """

    def __init__(self, path: Path, identity: str, seconds: float) -> None:
        self.path, self.identity, self.seconds = path, identity, seconds
        self.last_saved = time.monotonic()

    def restore(self, statistics: Sequence[Statistics]) -> int:
        """Fill empty statistics from the file; returns the number of images in them, 0 without one."""
        try:
            if files.read_header(self.path, AUTOSAVE).text != self.identity:
                return 0
            tensors = dict(files.each(self.path, AUTOSAVE))
        except UserError:
            return 0
        for i, empty in enumerate(statistics):
            prefix = f"{i}/"
            empty.merge({key.removeprefix(prefix): x for key, x in tensors.items() if key.startswith(prefix)})
        return statistics[0].n

    def offer(self, statistics: Sequence[Statistics]) -> None:
        """Save if the last time is long enough ago; cheap to call after every batch."""
        if time.monotonic() < self.last_saved + self.seconds:
            return
        tensors = {f"{i}/{key}": x for i, one in enumerate(statistics) for key, x in one.state().items()}
        files.write(self.path, tensors, AUTOSAVE, self.identity)
        self.last_saved = time.monotonic()

    def clear(self) -> None:
        """Remove the file of a pass that is finished."""
        self.path.unlink(missing_ok=True)
