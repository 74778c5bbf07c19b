"""Statistics of a pass that takes hours, saved as they grow: a killed job goes on, to the same last digit."""

import time
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from diffprobe.evaluation.generation.statistics import Statistics
from diffprobe.runtime.files import atomic


class Autosave:
    """`identity` tells what the statistics are of: those of something else are not taken up."""

    def __init__(self, path: Path, identity: str, seconds: float) -> None:
        self.path, self.identity, self.seconds = path, identity, seconds
        self.last = time.monotonic()

    def restore(self, found: Mapping[str, Statistics]) -> int:
        """Fill empty statistics (by extractor) with what was saved; how many images that is, 0 without any."""
        try:
            with safe_open(self.path, "pt") as file:
                if (file.metadata() or {}).get("identity") != self.identity:
                    return 0
                saved = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
        except (FileNotFoundError, SafetensorError):
            return 0
        for name, statistics in found.items():
            prefix = f"{name}/"
            own = {key.removeprefix(prefix): value for key, value in saved.items() if key.startswith(prefix)}
            statistics.restore(own)
        return next(iter(found.values())).n

    def offer(self, found: Mapping[str, Statistics]) -> None:
        """Save if the last time is long enough ago; cheap to call after every batch."""
        if time.monotonic() < self.last + self.seconds:
            return
        state = {f"{name}/{key}": x for name, statistics in found.items() for key, x in statistics.state().items()}
        with atomic(self.path) as partial:
            save_file({key: x.contiguous() for key, x in state.items()}, partial, {"identity": self.identity})
        self.last = time.monotonic()

    def clear(self) -> None:
        """Nothing is left to go on with."""
        self.path.unlink(missing_ok=True)
