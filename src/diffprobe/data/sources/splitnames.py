"""Which split a folder is, by its name: train, Training, training_set and seg_train are all `train`."""

import re
from functools import lru_cache
from typing import NamedTuple

from diffprobe.data.filenames import spelling

WORDS = {
    **dict.fromkeys(("train", "training", "trainval", "trn", "tr"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "vld", "dev", "devel", "select"), "select"),
    **dict.fromkeys(("test", "testing", "tst", "te", "ts", "eval", "evaluation", "holdout", "heldout"), "test"),
}
# Words that no class is likely to have. Beside a folder that is no split only these are splits.
PLAIN = ("train", "training", "val", "valid", "validation", "test", "testing")
NOISE = ("set", "data", "dataset", "split", "images", "image", "imgs", "img", "folder")  # as in test_set


class SplitName(NamedTuple):
    """`split` is "" for a folder that is none; `rest` are the other words, which the splits of a dataset share."""

    split: str
    rest: tuple[str, ...]
    plain: bool


UNLIKE = SplitName("", (), False)


@lru_cache(maxsize=1024)
def split_name(folder: str) -> SplitName:
    """What a folder's name says. Its case, spaces, digits (train2017) and words such as `set` do not count."""
    separated = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", folder)  # TrainSet
    text = re.sub(r"\b(hold|held)[\W_]?out\b", "holdout", spelling(separated))
    words = [word for word in map(bare, re.findall(r"[^\W\d_]+", text)) if word not in NOISE]
    splits = [word for word in words if word in WORDS]
    if len(splits) != 1:
        return UNLIKE
    rest = tuple(word for word in words if word not in WORDS)
    return SplitName(WORDS[splits[0]], rest, splits[0] in PLAIN)


def bare(word: str) -> str:
    """A word without a suffix that says nothing: trainset."""
    for suffix in NOISE:
        if word.removesuffix(suffix) in WORDS:
            return word.removesuffix(suffix)
    return word
