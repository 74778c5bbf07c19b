"""Statistics of a long pass, saved as it goes."""

from collections.abc import Sequence

from torch import Tensor

from diffprobe.evaluation.generation.statistics import Statistics
from diffprobe.runtime.autosave import Autosave


class SavedStatistics(Autosave):
    """A file for the statistics of one pass."""

    def restore(self, statistics: Sequence[Statistics]) -> int:
        """Fill empty statistics from the file; returns the number of images in them, 0 without one."""
        tensors = self.read()
        for i, empty in enumerate(statistics if tensors else ()):
            prefix = f"{i}/"
            empty.merge({key.removeprefix(prefix): x for key, x in tensors.items() if key.startswith(prefix)})
        return statistics[0].n if tensors else 0

    def offer_statistics(self, statistics: Sequence[Statistics]) -> None:
        """Save if the last time is long enough ago; cheap to call after every batch."""

        def tensors() -> dict[str, Tensor]:
            return {f"{i}/{key}": x for i, one in enumerate(statistics) for key, x in one.state().items()}

        self.offer(tensors)
