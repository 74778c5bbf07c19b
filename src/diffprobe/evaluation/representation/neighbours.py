"""The k-nearest-neighbour probe: nothing is trained, only k is chosen."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from diffprobe.config.evaluators.knn import KNN
from diffprobe.evaluation.representation.predictors import PerSeed, Setting, fit_each
from diffprobe.evaluation.representation.table import Table
from diffprobe.runtime.errors import UserError


@dataclass(frozen=True)
class NearestNeighbours:
    """A bank of labelled images which meets the queries one chunk at a time.

    An image is the mean of its copies, or its first one where they are augmented.

    Similarity is the cosine or minus the squared Euclidean distance. Each of the k nearest has one
    vote, and classes with equal votes are ranked by their nearest voter. With a `temperature` a vote weighs
    exp(similarity / temperature) instead (Wu et al. 2018, section 3.4).
    """

    bank: Table
    classes: int
    settings: list[Setting]
    temperature: float | None  # of settings without one; None: equal votes
    cosine: bool
    centre: Tensor  # float64 (D,): the mean of the bank's `points`
    device: torch.device
    averages_features = True

    @torch.inference_mode()
    def probabilities(self, x: Tensor) -> Tensor:
        """x (1, n, D) to the share of the votes for each class (1, 1, H, n, K)."""
        similarity, voters = self.nearest(self.prepared(x[0]))  # (n, k) each, the nearest first
        # Shares do not change when all weights are scaled: relative to the nearest, none of them overflows.
        behind = similarity - similarity[:, :1]
        shares = [self.shares(behind, voters, **setting) for setting in self.settings]
        return torch.stack(shares)[None, None]

    def shares(self, behind: Tensor, voters: Tensor, k: float, temperature: float | None = None) -> Tensor:
        """Shares of the votes (n, K) in one setting; `behind` (n, max k) is the similarity relative to the nearest."""
        voters, temperature = voters[:, : int(k)], temperature or self.temperature
        if temperature is None:
            return equal_votes(voters, self.classes)
        votes = sum_votes(voters, (behind[:, : int(k)] / temperature).exp(), self.classes)
        return votes / votes.sum(-1, keepdim=True)

    def nearest(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Similarity and class of the nearest images of the bank: (n, max k) each, the nearest first."""
        most = int(
            max(setting["k"] for setting in self.settings)
        )  # one search serves every k: the nearest k are the first of them
        best = torch.full((len(queries), 0), -torch.inf, device=self.device)  # (n, up to k)
        classes = torch.zeros(len(queries), 0, dtype=torch.int64, device=self.device)  # of the best
        for features, labels in self.chunks():
            # The best so far compete with the next chunk, so the whole similarity matrix is never held.
            candidates = torch.cat([best, self.similarity(queries, features)], dim=1)
            candidate_classes = torch.cat([classes, labels.expand(len(queries), -1)], dim=1)
            best, index = candidates.topk(min(most, candidates.shape[1]), dim=1)
            classes = candidate_classes.gather(1, index)
        return best, classes

    def chunks(self) -> Iterator[tuple[Tensor, Tensor]]:
        for number in range(len(self.bank.sizes)):
            yield self.prepared(self.bank.read(number, 0)), self.bank.chunk_labels(number).to(self.device)

    def prepared(self, x: Tensor) -> Tensor:
        """Features (n, D), float32 and centred: what all images have in common would cost the digits that differ."""
        return (points(x.to(self.device), self.cosine) - self.centre).float()

    def similarity(self, queries: Tensor, features: Tensor) -> Tensor:
        """Prepared queries (n, D) and features (m, D) to (n, m), up to a number of each query's own.

        With c the centre, (q + c) . (f + c) is q . f + c . f, and -|q - f|^2 is 2 q . f - |f|^2, but for such numbers.
        """
        if self.cosine:
            return torch.addmm(features @ self.centre.float(), queries, features.T)
        return torch.addmm(-features.square().sum(1), queries, features.T, alpha=2)


def fit(
    settings: KNN, tables: Sequence[Table], seeds: Sequence[int], classes: int, memory: float, device: torch.device
) -> PerSeed:
    """Take each table as a bank, all cells as one vector. Raises UserError for more neighbours than images."""
    most, images = max(settings.k), len(tables[0].labels)
    if most > images:
        raise UserError(f"{most} nearest neighbours need at least {most} labelled images, here are {images}")
    temperature = settings.temperature if settings.weighted and not isinstance(settings.temperature, list) else None
    cosine = settings.metric == "cosine"

    def fit_one(table: Table) -> NearestNeighbours:
        # Averaging noisy copies brings the bank nearer to the clean features. Augmented ones are different images.
        bank = (table.some(0, 1) if settings.bank == "augmented" else table.mean()).joined()
        sums = [points(bank.read(number, 0).to(device), cosine).sum(0) for number in range(len(bank.sizes))]
        centre = torch.stack(sums).sum(0) / len(bank.labels)
        return NearestNeighbours(bank, classes, settings.tried, temperature, cosine, centre, device)

    return fit_each(fit_one, tables, memory)


def points(x: Tensor, cosine: bool) -> Tensor:
    """Features (n, D), float64, between which distances are measured: of the cosine on the unit sphere."""
    return F.normalize(x.double(), dim=1) if cosine else x.double()


def sum_votes(voters: Tensor, weight: Tensor, classes: int) -> Tensor:
    """Sum the weights (n, k) of the voters' classes (n, k) by class: (n, K)."""
    return torch.zeros(len(voters), classes, device=voters.device).scatter_add_(1, voters, weight)


def equal_votes(voters: Tensor, classes: int) -> Tensor:
    """Classes of the voters (n, k), the nearest first, to shares of the votes (n, K)."""
    n, k = voters.shape
    # A class gets up to half a vote for the rank of its nearest voter: this breaks ties and cannot outweigh a vote.
    rank = (torch.arange(k, 0, -1, device=voters.device) / k).expand(n, k)  # from 1 down
    nearest_rank = torch.zeros(n, classes, device=voters.device).scatter_reduce_(1, voters, rank, "amax")
    votes = sum_votes(voters, torch.ones_like(rank), classes) + nearest_rank / 2
    return votes / votes.sum(-1, keepdim=True)
