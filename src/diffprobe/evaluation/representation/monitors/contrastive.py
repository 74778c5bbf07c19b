"""Alignment and uniformity (Wang and Isola, Understanding contrastive representation learning through alignment and
uniformity on the hypersphere, ICML 2020, equations 3 and 4).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from diffprobe.config.monitors.contrastive import Contrastive
from diffprobe.evaluation.generation.manifold import squared_distances
from diffprobe.evaluation.representation.monitors import CellFeatures
from diffprobe.runtime.keyed import Key, permutation

T = 2.0  # the temperature of uniformity
CHUNK = 1024  # rows whose distances to all others are held at a time
ORDER = Key(0, "contrastive batches")  # batches of neighbouring rows of a sorted set would be of one class


def measure(settings: Contrastive, features: CellFeatures) -> dict[str, float]:
    """Alignment of the copies, where there are several, and uniformity, averaged over them."""
    copies = F.normalize(features.copies.double(), dim=-1)  # (P, n, D)
    names = settings.figures
    figures = {names[0]: alignment(copies)} if len(copies) > 1 else {}
    batch = settings.batch or copies.shape[1]
    values = [batched_uniformity(x, batch) for x in copies]
    return figures | {names[1]: sum(values) / len(values)}


def alignment(copies: Tensor) -> float:
    """The mean squared distance between two copies of an image, over images and pairs of copies (P, n, D)."""
    pairs = torch.combinations(torch.arange(len(copies)))  # (P (P - 1) / 2, 2)
    return torch.stack([(copies[i] - copies[j]).square().sum(-1).mean() for i, j in pairs]).mean().item()


def uniformity(x: Tensor) -> float:
    """ln of the mean of exp(-t |x_i - x_j|^2) over pairs i < j of rows (n, D) of norm 1, float64."""
    n, total = len(x), sum(squared_distances(part, x).mul(-T).exp().sum().item() for part in x.split(CHUNK))
    return math.log((total - n) / (n * (n - 1)))  # without the n pairs of a row with itself


def batched_uniformity(x: Tensor, batch: int) -> float:
    """The mean uniformity of batches of rows in a fixed random order, weighted by their size."""
    if batch >= len(x):
        return uniformity(x)
    batches = [part for part in permutation(ORDER, len(x)).to(x.device).split(batch) if len(part) > 1]
    return sum(len(part) * uniformity(x[part]) for part in batches) / sum(map(len, batches))
