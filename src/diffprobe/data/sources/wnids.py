"""What ImageNet and its kin share: classes by WordNet ids (wnid), a text file with their names, a list for `val`."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from diffprobe.data.sources.names import printable, shown
from diffprobe.runtime.errors import UserError


def class_names(wnids: Sequence[str], lines: Iterable[str]) -> tuple[str, ...]:
    """Names from lines "wnid name", the wnid where there is none; two classes of one name get theirs added."""
    words = dict(line.strip().split(maxsplit=1) for line in lines if len(line.split(maxsplit=1)) == 2)
    names = [words.get(wnid, printable(wnid)) for wnid in wnids]
    count = Counter(names)
    return tuple(name if count[name] == 1 else f"{name} ({wnid})" for name, wnid in zip(names, wnids, strict=True))


def labels_of(found: Sequence[str], wnids: Sequence[str], where: str) -> np.ndarray:
    """Class ids, int64 (N,), of images whose wnids are `found`.

    Raises:
        UserError: one that train does not have.
    """
    index = {wnid: i for i, wnid in enumerate(wnids)}
    unknown = next((wnid for wnid in found if wnid not in index), None)
    if unknown is not None:
        raise UserError(f"{where}: class {shown(unknown)} has no folder in train; fetch the data set again")
    return np.array([index[wnid] for wnid in found], dtype=np.int64)


def listed(images: Sequence[str], table: Mapping[str, str], where: str) -> list[str]:
    """The wnid of each image by a table, both without folders.

    Raises:
        UserError: they do not have the same images.
    """
    missing = next((name for name in images if name not in table), None)
    if missing is not None:
        raise UserError(f"{where}: has no line for {shown(missing)}; fetch the data set again")
    if len(table) > len(images):
        extra = next(iter(set(table) - set(images)))
        raise UserError(f"{where}: names {shown(extra)}, which is not there; fetch the data set again")
    return [table[name] for name in images]
