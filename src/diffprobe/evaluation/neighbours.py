"""The k-nearest-neighbour probe: no training, one number to choose."""

import torch
import torch.nn.functional as F
from torch import Tensor

from diffprobe.runtime.errors import UserError


def knn(train: Tensor, train_labels: Tensor, queries: Tensor, classes: int, k: int, chunk: int = 1024) -> Tensor:
    """Predicted classes int64 (M,) of queries (M, D) from train (N, D) with train_labels int64 (N,).

    Similarity is the cosine, each of the k nearest has one vote, and of classes with equal votes the one with
    the nearest voter wins. No more than (chunk, N) similarities are held at once. UserError if k > N.
    """
    if k > len(train):
        raise UserError(f"{k} nearest neighbours need at least {k} labelled images, here are {len(train)}")
    train = F.normalize(train.float(), dim=1)
    parts = [vote(part, train, train_labels.to(train.device), classes, k) for part in queries.split(chunk)]
    return torch.cat(parts)


def vote(queries: Tensor, train: Tensor, train_labels: Tensor, classes: int, k: int) -> Tensor:
    """One chunk of `knn`: queries (B, D) to classes (B,); the rows of train are normalised."""
    similarity = F.normalize(queries.to(train.device).float(), dim=1) @ train.T  # (B, N)
    voters = train_labels[similarity.topk(k, dim=1).indices]  # (B, k), nearest first
    votes = F.one_hot(voters, classes).sum(1)  # (B, classes)
    # argmax takes the first of equals, which is the nearest voter.
    winner = votes.gather(1, voters).argmax(1, keepdim=True)  # (B, 1)
    return voters.gather(1, winner)[:, 0]
