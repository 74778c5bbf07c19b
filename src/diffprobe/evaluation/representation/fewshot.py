"""Few labels: tables with a few images of each class."""

from collections.abc import Sequence

import torch
from torch import Tensor

from diffprobe.evaluation.representation.table import Table
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.keyed import Key, permutation


def drawn(tables: Sequence[Table], per_class: int, repeats: int, classes: int, memory: float) -> list[Table]:
    """For each repeat a table with `per_class` images of each class, drawn by the number of the repeat alone.

    Repeats take the tables of the seeds in turn, and so their noise. `memory` bounds the bytes of features that the
    tables hold for all repeats. Raises UserError where a class has fewer images.
    """
    distinct = {table.key: table for table in tables}
    held = {key: table.within(memory / len(distinct)) for key, table in distinct.items()}
    labels = tables[0].labels  # the same in all
    return [
        held[tables[repeat % len(tables)].key].only(few_of_each_class(labels, per_class, repeat, classes))
        for repeat in range(repeats)
    ]


def few_of_each_class(labels: Tensor, per_class: int, repeat: int, classes: int) -> Tensor:
    """Places int64 (K * per_class,), in increasing order, of the first images of each class in a random order.

    labels: int64 (N,). A larger number adds images to those of a smaller one.
    """
    counts = labels.bincount(minlength=classes)  # (K,)
    if int(counts.min()) < per_class:
        raise UserError(
            f"{per_class} labels per class: class {int(counts.argmin())} has only {int(counts.min())} images in train; "
            "set `labels_per_class` to at most that"
        )
    order = permutation(Key(repeat, "few labels"), len(labels))
    by_class = order[torch.argsort(labels[order], stable=True)]  # class by class, each in random order
    rank = torch.arange(len(labels)) - (counts.cumsum(0) - counts)[labels[by_class]]  # within the class
    return by_class[rank < per_class].sort().values
