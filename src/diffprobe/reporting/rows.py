"""What reports read: the rows of result files, and the choice that a probe made, as the JSON files hold them."""

from collections.abc import Sequence
from typing import TypedDict


class ResultRow(TypedDict, total=False):
    """One figure: a value of an evaluator for a checkpoint (or a dataset, or an autoencoder) on a split."""

    experiment: str  # absent for baselines and autoencoders
    dataset: str
    latents: str
    kimg: int
    evaluator: str
    split: str
    value: float
    spread: float | None  # standard deviation over `seeds`
    seeds: int
    tap: str
    sigma: float  # 0: an image as it is
    setting: str
    pooling: str
    views: int
    label: str
    input: str  # clean where the network was shown no noise; absent where it was
    zeroed: str  # embeddings that were zeros; absent where none was
    selection: str
    labels_per_class: int  # that the evaluator was fitted with; absent: all
    sampler: str
    extractor: str
    images: int


class Choice(TypedDict):
    """The cell that a grid, or an experiment as a whole, chose by the accuracy of the evaluator `scorer`."""

    dataset: str
    kimg: int
    tap: str
    level: str
    sigma: float  # 0: an image as it is
    accuracy: float
    selection: str  # the split that it was made on, or `published`: test, as papers did
    scorer: str


class LossRow(TypedDict):
    """One entry of a run's stats.jsonl, as far as the plot of losses reads it."""

    images: int
    loss: float


Rows = Sequence[ResultRow]
