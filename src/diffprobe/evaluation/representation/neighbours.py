"""The k-nearest-neighbour probe: no training, a number to choose."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from diffprobe.evaluation.representation.table import Table
from diffprobe.runtime.errors import UserError


@dataclass(frozen=True)
class Neighbours:
    """A bank of labelled images, each the mean of its copies; a chunk at a time meets the queries, on the device.

    Similarity is the cosine, or minus the square of the Euclidean distance. Each of the k nearest has one vote, and of
    classes with equal votes the one with the nearest voter wins; or, with a `temperature`, the weight exp(similarity /
    temperature) (Wu et al. 2018, eq. 12 f.).
    """

    bank: Table
    classes: int
    ks: Sequence[int]
    cosine: bool
    temperature: float | None
    device: Any
    of_mean = True

    @property
    def settings(self) -> list[dict[str, float]]:
        return [{"k": k} for k in self.ks]

    @torch.inference_mode()
    def probabilities(self, x: Tensor) -> Tensor:
        """x (1, n, D) to each class's share of the votes (1, 1, H, n, K)."""
        nearness, voters = self.nearest(self.prepared(x[0]))  # (n, k) each, the nearest first
        if self.temperature is None:
            return torch.stack([equal_votes(voters[:, :k], self.classes) for k in self.ks])[None, None]
        weight = ((nearness - nearness[:, :1]) / self.temperature).exp()
        found = torch.stack([counted(voters[:, :k], weight[:, :k], self.classes) for k in self.ks])  # (H, n, K)
        return (found / found.sum(-1, keepdim=True))[None, None]

    def nearest(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Similarity and class of the nearest of the bank: (n, max k) each."""
        most = max(self.ks)
        best = torch.full((len(queries), 0), -torch.inf, device=self.device)
        classes = torch.zeros(len(queries), 0, dtype=torch.int64, device=self.device)
        for features, labels in self.chunks():
            both = torch.cat([best, self.similarity(queries, features)], dim=1)
            known = torch.cat([classes, labels.expand(len(queries), -1)], dim=1)
            best, at = both.topk(min(most, both.shape[1]), dim=1)
            classes = known.gather(1, at)
        return best, classes

    def chunks(self) -> Iterator[tuple[Tensor, Tensor]]:
        for number in range(len(self.bank.sizes)):
            yield self.prepared(self.bank.read(number, 0)), self.bank.chunk_labels(number).to(self.device)

    def prepared(self, x: Tensor) -> Tensor:
        x = x.to(self.device).float()
        return F.normalize(x, dim=1) if self.cosine else x

    def similarity(self, queries: Tensor, features: Tensor) -> Tensor:
        """(n, bank)."""
        if self.cosine:
            return queries @ features.T
        return -torch.cdist(queries, features).square()


def counted(voters: Tensor, weight: Tensor, classes: int) -> Tensor:
    """The weight (n, k) of the voters (n, k) of each class: (n, K)."""
    return torch.zeros(len(voters), classes, device=voters.device).scatter_add_(1, voters, weight)


def equal_votes(voters: Tensor, classes: int) -> Tensor:
    """Voters (n, k), the nearest first, to shares (n, K); the nearer voter, by less than a vote, breaks ties."""
    n, k = voters.shape
    nearer = (torch.arange(k, 0, -1, device=voters.device) / k).expand(n, k)  # from 1 down
    first = torch.zeros(n, classes, device=voters.device).scatter_reduce_(1, voters, nearer, "amax")
    found = counted(voters, torch.ones_like(nearer), classes) + first / 2
    return found / found.sum(-1, keepdim=True)


def fit_neighbours(table: Table, classes: int, options: dict[str, Any], device: Any) -> Neighbours:
    """`options` as in the config's `KNN`. Raises UserError for more neighbours than there are images."""
    if (most := max(options["k"])) > len(table.labels):
        raise UserError(f"{most} nearest neighbours need at least {most} labelled images, here are {len(table.labels)}")
    temperature = options["temperature"] if options["weighted"] else None
    return Neighbours(table.mean(), classes, options["k"], options["metric"] == "cosine", temperature, device)
