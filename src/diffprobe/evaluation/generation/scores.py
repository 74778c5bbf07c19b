"""The Inception score in one pass: what its formula needs of the class probabilities is two sums per split."""

import torch
from torch import Tensor

MOST, FEWEST = 10, 100  # splits at most (Salimans et al. 2016); images of a split at least, where there are so many


def splits_of(n: int) -> int:
    """How many splits n images are scored in: ten, fewer where they would hold less than 100 images."""
    return max(1, min(MOST, n // FEWEST))


class Scores:
    """exp(E KL(p(y|x) || p(y))) (Salimans et al. 2016, section 4) per split, float64.

    The mean of KL(p_i || q) with q the mean of the p_i is the mean of sum p log p, less sum q log q: so sums of p and
    of p log p are all that is kept.
    """

    def __init__(self, splits: int, classes: int) -> None:
        self.counts = torch.zeros(splits, dtype=torch.int64)
        self.sums = torch.zeros(splits, classes, dtype=torch.float64)  # of p
        self.negentropy = torch.zeros(splits, dtype=torch.float64)  # of sum p log p

    @torch.no_grad()
    def update(self, logits: Tensor, split: Tensor) -> None:
        """Take in a batch: logits (B, K), and the split (B,) that each image belongs to."""
        log_p = logits.double().log_softmax(1)
        p, splits = log_p.exp(), torch.arange(len(self.counts), device=logits.device)
        member = (splits[:, None] == split.to(logits.device)).double()  # (S, B); index_add would add in any order
        self._add(member.sum(1).long(), member @ p, member @ (p * log_p).sum(1))

    def merge(self, other: "Scores") -> None:
        """Take in all of `other`, which stays as it is."""
        self._add(other.counts, other.sums, other.negentropy)

    def _add(self, counts: Tensor, sums: Tensor, negentropy: Tensor) -> None:
        self.counts += counts.cpu()
        self.sums += sums.cpu()
        self.negentropy += negentropy.cpu()

    def state(self) -> dict[str, Tensor]:
        """All of it as tensors, for a file or another process."""
        return {"counts": self.counts, "sums": self.sums, "negentropy": self.negentropy}

    @classmethod
    def of(cls, state: dict[str, Tensor]) -> "Scores":
        """What `state` gave, once more."""
        found = cls(*state["sums"].shape)
        found._add(state["counts"], state["sums"], state["negentropy"])
        return found

    def score(self) -> tuple[float, float | None]:
        """Mean and standard deviation over the splits (None for a single one); from 1 to the number of classes."""
        q = self.sums / self.counts[:, None]  # (S, K)
        scores = (self.negentropy / self.counts - torch.special.xlogy(q, q).sum(1)).exp()
        return scores.mean().item(), scores.std(correction=0).item() if len(scores) > 1 else None
