"""The Inception score in one pass: its formula needs only two sums of the class probabilities per split."""

from collections.abc import Mapping

import torch
from torch import Tensor

MAX_SPLITS = 10  # as published (Salimans et al. 2016)
MIN_IMAGES = 100  # of a split: fewer would give the score mostly bias


def splits_of(n: int) -> int:
    """How many splits n images are scored in."""
    return max(1, min(MAX_SPLITS, n // MIN_IMAGES))


class InceptionScore:
    """exp(E KL(p(y|x) || p(y))) (Salimans et al. 2016, section 4) per split, float64.

    With q the mean of the p_i, the mean of KL(p_i || q) is the mean of sum p_i log p_i, minus sum q log q: sums of p
    and of p log p are enough.
    """

    def __init__(self, splits: int, classes: int) -> None:
        self.counts = torch.zeros(splits, dtype=torch.int64)
        self.sums = torch.zeros(splits, classes, dtype=torch.float64)  # of p
        self.negentropy = torch.zeros(splits, dtype=torch.float64)  # of sum p log p

    @torch.no_grad()
    def update(self, logits: Tensor, split: Tensor) -> None:
        """Add a batch: logits (B, K), and the split (B,) of each image."""
        log_p = logits.double().log_softmax(1)
        p, splits = log_p.exp(), torch.arange(len(self.counts), device=logits.device)
        # A product with a membership matrix: index_add would add in any order on a GPU and round differently each time.
        member = (splits[:, None] == split.to(logits.device)).double()  # (S, B)
        negentropy = member @ (p * log_p).sum(1)
        self.merge({"counts": member.sum(1).long(), "sums": member @ p, "negentropy": negentropy})

    def state(self) -> dict[str, Tensor]:
        """As tensors on the CPU, for a file or another process."""
        return {"counts": self.counts, "sums": self.sums, "negentropy": self.negentropy}

    def merge(self, state: Mapping[str, Tensor]) -> None:
        """Add the sums of others, by their state."""
        self.counts += state["counts"].cpu()
        self.sums += state["sums"].cpu()
        self.negentropy += state["negentropy"].cpu()

    def score(self) -> tuple[float, float | None]:
        """Mean and standard deviation over the splits (None for a single one); from 1 to the number of classes."""
        q = self.sums / self.counts[:, None]  # (S, K): p(y), the mean of the p(y|x)
        # xlogy is 0 where a class has no probability at all.
        scores = (self.negentropy / self.counts - torch.special.xlogy(q, q).sum(1)).exp()
        return scores.mean().item(), scores.std(correction=0).item() if len(scores) > 1 else None
