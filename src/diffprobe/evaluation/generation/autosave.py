"""Statistics of a long pass, saved as it goes."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from diffprobe.evaluation.generation.statistics import Statistics
from diffprobe.runtime.autosave import Autosave


class SavedStatistics(Autosave):
    """A file for the statistics of one pass."""

    def restore(self, statistics: Sequence[Statistics]) -> int:
        """Fill empty statistics from the file; returns the number of images in them, 0 without one."""
        tensors = self.read()
        if tensors:
            merge(statistics, tensors)
        return statistics[0].n if tensors else 0

    def offer_statistics(self, statistics: Sequence[Statistics]) -> None:
        """Save if the last time is long enough ago; cheap to call after every batch."""
        self.offer(lambda: joined(statistics))


def joined(statistics: Sequence[Statistics]) -> dict[str, Tensor]:
    """The states of all, each under its number."""
    return {f"{i}/{key}": x for i, one in enumerate(statistics) for key, x in one.state().items()}


def merge(statistics: Sequence[Statistics], tensors: Mapping[str, Tensor]) -> None:
    """Add to each what `joined` has of it."""
    for i, one in enumerate(statistics):
        prefix = f"{i}/"
        one.merge({key.removeprefix(prefix): x for key, x in tensors.items() if key.startswith(prefix)})
