"""Maps of similarity: every cell of one list beside every cell of another, a few in memory at a time."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diffprobe.evaluation.representation.cells import StoredCell
from diffprobe.evaluation.representation.similarity import cka, cknna
from diffprobe.runtime import autosave
from diffprobe.runtime.errors import UserError

HELD = 8  # bytes in memory for one of a cell's features: two lists of them, in two forms


class SimilarityMap(NamedTuple):
    """CKA and CKNNA of the same images' features in two lists of cells."""

    cka: Tensor  # float64 (A, B)
    cknna: Tensor  # float64 (A, B)

    def entry(self, rows: Sequence[Any], columns: Sequence[Any]) -> dict[str, Any]:
        """For a JSON file, with what its rows and columns are called. A value that is not finite is null."""
        values = {name: [[finite(x) for x in line] for line in part.tolist()] for name, part in self._asdict().items()}
        return {"rows": list(rows), "columns": list(columns), **values}


def finite(value: float) -> float | None:
    return value if value == value else None


def compare(
    rows: Sequence[StoredCell], columns: Sequence[StoredCell], neighbours: int, memory: float, device: torch.device
) -> SimilarityMap:
    """The map of cells A x B, from their first copies; `memory` bounds the bytes of features that are held.

    Raises UserError for features of different numbers of images, or of too few for so many neighbours.
    """
    refuse_counts([*rows, *columns], neighbours)

    def lines(group: range) -> dict[str, Tensor]:
        xs = [rows[i].first().to(device) for i in group]
        tiles = []
        for others in groups(columns, memory / HELD):
            same = rows is columns and group == others
            ys = xs if same else [columns[i].first().to(device) for i in others]
            tiles.append((cka(xs, ys), cknna(xs, ys, neighbours)))
        cka_tiles, cknna_tiles = zip(*tiles, strict=True)
        return {"cka": torch.cat(cka_tiles, dim=1), "cknna": torch.cat(cknna_tiles, dim=1)}

    parts = list(autosave.each(groups(rows, memory / HELD), lines))
    return SimilarityMap(*(torch.cat([part[name] for part in parts]) for name in SimilarityMap._fields))


def groups(cells: Sequence[StoredCell], most: float) -> Iterator[range]:
    """Ranges of cells whose features take at most so many bytes, or of one cell."""
    start = size = 0
    for i, cell in enumerate(cells):
        if size and size + cell.bytes > most:
            yield range(start, i)
            start, size = i, 0
        size += cell.bytes
    yield range(start, len(cells))


def refuse_counts(cells: Sequence[StoredCell], neighbours: int) -> None:
    counts = {cell.array.shape[1] for cell in cells}
    if len(counts) > 1:
        raise UserError(f"features of {min(counts)} and of {max(counts)} images: delete them and run again")
    if min(counts) <= max(neighbours, 3):
        raise UserError(f"the subset has only {min(counts)} images: lower `neighbours`, or name a larger split")
