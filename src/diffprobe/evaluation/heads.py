"""Linear probe heads: many at once, as one batched problem whose members do not touch.

A head is a linear softmax classifier on frozen features. Heads differ in their features (a cell of the grid:
noise level and tap) and in their seed, which decides the order of the batches and which noisy copy of an
image is seen.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from diffprobe.runtime.keyed import Key, bits, permutation

EPS = 1e-5  # the least standard deviation: a constant feature stays out instead of exploding


@dataclass(frozen=True)
class Heads:
    """K fitted heads with the standardisation that they were fitted under."""

    weight: Tensor  # (K, D, classes)
    bias: Tensor  # (K, classes)
    mean: Tensor  # (K, D)
    std: Tensor  # (K, D)

    @torch.no_grad()
    def logits(self, features: Tensor) -> Tensor:
        """features (K, V, N, D) to the log of the mean probabilities over the V draws, (K, N, classes)."""
        draws = []
        for x in features.unbind(1):  # (K, N, D)
            x = scaled(x, self.mean, self.std)
            draws.append(F.log_softmax(torch.baddbmm(self.bias[:, None], x, self.weight), dim=-1))
        return torch.stack(draws).logsumexp(0) - math.log(len(draws))


def accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """The part of right answers in [0, 1], (K,); logits (K, N, classes), labels (N,)."""
    return (logits.argmax(-1) == labels.to(logits.device)).double().mean(-1)


def standardise(train: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (at least EPS) of train (..., N, D) over rows, float32 (..., D) each."""
    variance, mean = torch.var_mean(train.float(), dim=-2, correction=0)
    return mean, variance.sqrt().clamp(min=EPS)


def scaled(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """x (K, B, D) as float32 in units of its head's standardisation (K, D)."""
    return (x.float() - mean[:, None]) / std[:, None]


def epoch_order(seeds: Sequence[int], n: int, draws: int, epoch: int) -> tuple[Tensor, Tensor]:
    """Which image each head sees when, and which of its draws: int64 (K, N) each, by seed and epoch alone."""
    rows, choice = {}, {}
    for seed in set(seeds):
        order = permutation(Key(seed, "probe-order"), n, draw=epoch)  # (N,)
        rows[seed] = order
        choice[seed] = bits(Key(seed, "probe-draw"), order, 1, draw=epoch)[:, 0] % draws
    return torch.stack([rows[seed] for seed in seeds]), torch.stack([choice[seed] for seed in seeds])


def adam(
    weight: Tensor, bias: Tensor, lr: float, weight_decay: float, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """Adam with L2 on the weight alone, its rate falling from `lr` to 0 as a half cosine over `steps`."""
    groups = [{"params": [weight], "weight_decay": weight_decay}, {"params": [bias], "weight_decay": 0.0}]
    optimiser = torch.optim.Adam(groups, lr=lr)
    cosine = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda i: (1 + math.cos(math.pi * i / steps)) / 2)
    return optimiser, cosine


def fit_linear(
    features: Tensor,
    labels: Tensor,
    classes: int,
    seeds: Sequence[int],
    epochs: int,
    batch: int,
    lr: float,
    weight_decay: float,
) -> Heads:
    """Fit K heads on features (K, V, N, D), any floating type, with labels int64 (N,) in [0, classes).

    V are noisy copies of the same N images, one of which each head sees per image and epoch. Cross-entropy is
    the mean over a head's batch, summed over heads: gradients do not mix, and Adam works by the element, so
    each head is what it would be alone, within rounding. The problem is convex and starts from zero. The last
    batch of an epoch may be short.
    """
    K, V, N, D = features.shape
    device = features.device
    labels = labels.to(device)
    moments = [standardise(head.flatten(0, 1)) for head in features]
    mean, std = map(torch.stack, zip(*moments, strict=True))  # (K, D) each
    weight = torch.zeros(K, D, classes, device=device, requires_grad=True)
    bias = torch.zeros(K, 1, classes, device=device, requires_grad=True)
    optimiser, schedule = adam(weight, bias, lr, weight_decay, steps=epochs * math.ceil(N / batch))
    heads = torch.arange(K, device=device)[:, None]  # (K, 1)
    for epoch in range(epochs):
        order = (table.to(device).split(batch, 1) for table in epoch_order(seeds, N, V, epoch))
        for rows, draws in zip(*order, strict=True):  # (K, B) each
            x = scaled(features[heads, draws, rows], mean, std)  # (K, B, D)
            logits = torch.baddbmm(bias, x, weight)  # (K, B, classes)
            loss = F.cross_entropy(logits.flatten(0, 1), labels[rows].flatten(), reduction="sum")
            optimiser.zero_grad()
            (loss / rows.shape[1]).backward()
            optimiser.step()
            schedule.step()
    return Heads(weight.detach(), bias.detach()[:, 0], mean, std)
