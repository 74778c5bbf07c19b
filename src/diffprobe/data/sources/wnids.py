"""What ImageNet and its subsets share: classes by WordNet ids (wnids), and text files with names and labels."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from diffprobe.data.filenames import display, printable
from diffprobe.runtime.errors import UserError


def class_names(wnids: Sequence[str], lines: Iterable[str]) -> tuple[str, ...]:
    """Names from lines "wnid name", else the wnid. A name that two classes share (such as crane) is followed by it."""
    words = dict(line.strip().split(maxsplit=1) for line in lines if len(line.split(maxsplit=1)) == 2)
    names = [words.get(wnid, printable(wnid)) for wnid in wnids]
    count = Counter(names)  # ImageNet has two classes called crane
    return tuple(name if count[name] == 1 else f"{name} ({wnid})" for name, wnid in zip(names, wnids, strict=True))


def labels_of(image_wnids: Sequence[str], wnids: Sequence[str], where: str) -> np.ndarray:
    """Class ids, int64 (N,), of images by their wnids. Raises UserError for a wnid that train does not have."""
    index = {wnid: i for i, wnid in enumerate(wnids)}
    missing = next((wnid for wnid in image_wnids if wnid not in index), None)
    if missing is not None:
        raise UserError(f"{where}: class {display(missing)} has no folder in train; download the dataset again")
    return np.array([index[wnid] for wnid in image_wnids], dtype=np.int64)


def look_up(images: Sequence[str], table: Mapping[str, str], where: str) -> list[str]:
    """The wnid of each image (its name without folders). Raises UserError unless the table has exactly these images."""
    missing = next((name for name in images if name not in table), None)
    if missing is not None:
        raise UserError(f"{where}: has no line for {display(missing)}; download the dataset again")
    if len(table) > len(images):
        extra = next(iter(set(table) - set(images)))
        raise UserError(f"{where}: names {display(extra)}, which does not exist; download the dataset again")
    return [table[name] for name in images]
