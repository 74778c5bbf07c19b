"""Statistics of a long pass, saved as it goes: a killed job resumes with the same result, bit for bit."""

import time
from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from diffprobe.evaluation.generation.statistics import Statistics
from diffprobe.runtime.files import atomic


class Autosave:
    """A file for the statistics of one pass. `identity` names the pass: a file of another one is ignored."""

    def __init__(self, path: Path, identity: str, seconds: float) -> None:
        self.path, self.identity, self.seconds = path, identity, seconds
        self.last_saved = time.monotonic()

    def restore(self, statistics: Sequence[Statistics]) -> int:
        """Fill empty statistics from the file; returns the number of images in them, 0 without one."""
        try:
            with safe_open(self.path, "pt") as file:
                if (file.metadata() or {}).get("identity") != self.identity:
                    return 0
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
        except (FileNotFoundError, SafetensorError):
            return 0
        for i, empty in enumerate(statistics):
            prefix = f"{i}/"
            empty.merge({key.removeprefix(prefix): x for key, x in tensors.items() if key.startswith(prefix)})
        return statistics[0].n

    def offer(self, statistics: Sequence[Statistics]) -> None:
        """Save if the last time is long enough ago; cheap to call after every batch."""
        if time.monotonic() < self.last_saved + self.seconds:
            return
        tensors = {f"{i}/{key}": x.contiguous() for i, one in enumerate(statistics) for key, x in one.state().items()}
        with atomic(self.path) as partial:
            save_file(tensors, partial, {"identity": self.identity})
        self.last_saved = time.monotonic()

    def clear(self) -> None:
        """Remove the file of a pass that is finished."""
        self.path.unlink(missing_ok=True)
