"""One classifier for all noise levels (Xiang et al., "Denoising diffusion autoencoders are unified self-supervised
learners", 2023): an MLP on the pooled features of one layer plus an embedding of the level.

It is fitted on features that are stored for a list of levels: each image of a batch is seen at a level of its own,
which is drawn by the levels' shares. Epoch e sees noisy copy e mod V. DDAE's own code draws from all levels of the
process, noises images anew in every epoch, and embeds the number of the level; here it is the level's log-SNR.

Heads of several seeds and learning rates are trained together, as in `heads`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from diffprobe.config.evaluators.noise_classifier import NoiseClassifier
from diffprobe.evaluation.representation.descent import held_tables, row_streams, steps
from diffprobe.evaluation.representation.optimizers import OPTIMIZERS
from diffprobe.evaluation.representation.predictors import Setting
from diffprobe.evaluation.representation.standardise import statistics
from diffprobe.evaluation.representation.table import Table
from diffprobe.networks.unet_blocks import sinusoid
from diffprobe.runtime.keyed import Key, uniform

FREQUENCIES = 64  # numbers that encode a level: sines and cosines of its log-SNR


@dataclass(frozen=True)
class Layer:
    """A linear layer of S seeds and H learning rates."""

    weight: Tensor  # (S, H, out, in)
    bias: Tensor  # (S, H, out, 1)

    def __call__(self, x: Tensor) -> Tensor:
        """(S, H, n, in), or 1 in place of H, to (S, H, n, out)."""
        return x @ self.weight.mT + self.bias.mT


@dataclass(frozen=True)
class NoiseClassifiers:
    """Heads of S seeds and H learning rates, with the standardisation of features at each of L levels."""

    layers: tuple[Layer, Layer, Layer, Layer]  # two that embed a level, a hidden one, the logits
    levels: Tensor  # (L, FREQUENCIES): the encoded levels
    mean: Tensor  # (S, L, D)
    std: Tensor  # (S, L, D)
    settings: list[Setting]
    averages_features = False

    @property
    def parameters(self) -> list[Tensor]:
        return [parameter for layer in self.layers for parameter in (layer.weight, layer.bias)]

    def logits(self, x: Tensor, level: Tensor) -> Tensor:
        """Features of all levels (S, B, L D), of which each image's `level` (S, B) is seen, to (S, H, B, K)."""
        first, second, hidden, last = self.layers
        seed = torch.arange(len(x), device=x.device)[:, None]  # (S, 1)
        image = torch.arange(x.shape[1], device=x.device)
        own = x.unflatten(2, (len(self.levels), -1))[seed, image, level].float()  # (S, B, D)
        own = (own - self.mean[seed, level]) / self.std[seed, level]
        embedded = second(F.silu(first(self.levels)))  # (S, H, L, D)
        h = own[:, None] + embedded.transpose(1, 2)[seed, level].transpose(1, 2)  # (S, H, B, D)
        return last(F.silu(hidden(h)))

    @torch.inference_mode()
    def probabilities(self, x: Tensor) -> Tensor:
        """x (S, n, L D) to probabilities (S, L, H, n, K), levels in the place of cells."""
        every = [torch.full(x.shape[:2], level, device=x.device) for level in range(len(self.levels))]
        return torch.stack([self.logits(x, level).softmax(-1) for level in every], dim=1)


def fit(
    settings: NoiseClassifier,
    tables: Sequence[Table],
    seeds: Sequence[int],
    classes: int,
    memory: float,
    device: torch.device,
) -> NoiseClassifiers:
    """Fit a head for every seed and learning rate. The tables of the seeds differ in their noise alone; their cells are
    the levels.

    The loss is the mean cross-entropy over a batch, whose images differ in their levels. `memory` bounds the bytes of
    features held; where they exceed it, images are shuffled within windows of chunks.
    """
    tables = held_tables(tables, memory)
    heads = new_heads(settings, tables, seeds, classes, device)
    streams = row_streams(tables, seeds, memory, device)
    rates = torch.tensor(settings.lr, device=device)[:, None, None]  # (H, 1, 1)
    update = OPTIMIZERS[settings.optimizer](heads.parameters, rates, settings)
    shares = torch.tensor(settings.shares, dtype=torch.float64)
    borders = (shares.cumsum(0) / shares.sum())[:-1].float()  # (L - 1,): where the next level begins
    state = [*heads.parameters, *update.state]
    for start, stop, factor in steps(settings, len(tables[0].labels), state):
        # (S, B, L D) and (S, B)
        x, y = (torch.stack(part) for part in zip(*(stream.read(start, stop) for stream in streams), strict=True))
        positions = torch.arange(start, stop)
        coins = torch.stack([uniform(Key(seed, "probe-level"), positions) for seed in seeds])  # (S, B)
        gradients = loss_gradients(heads, x, y, torch.bucketize(coins, borders, right=True).to(device))
        for parameter, gradient in zip(heads.parameters, gradients, strict=True):
            update(parameter, gradient, factor, parameter.shape[-1] > 1)
    return heads


def loss_gradients(heads: NoiseClassifiers, x: Tensor, y: Tensor, level: Tensor) -> tuple[Tensor, ...]:
    """Gradients of the mean cross-entropy of features (S, B, L D) at `level` (S, B) with labels y (S, B)."""
    with torch.enable_grad():
        parameters = [parameter.requires_grad_() for parameter in heads.parameters]
        logits = heads.logits(x, level)  # (S, H, B, K)
        labels = y[:, None].expand(logits.shape[:3])
        # The sum over heads: none of them has a part in another's gradient.
        loss = F.cross_entropy(logits.flatten(0, 2), labels.flatten(), reduction="sum") / x.shape[1]
        gradients = torch.autograd.grad(loss, parameters)
    for parameter in parameters:
        parameter.requires_grad_(False)
    return gradients


def new_heads(
    settings: NoiseClassifier, tables: Sequence[Table], seeds: Sequence[int], classes: int, device: torch.device
) -> NoiseClassifiers:
    """Heads with their initial weights, PyTorch's of linear layers, which heads of one seed share."""
    levels, dim = len(tables[0].widths), tables[0].widths[0]

    def drawn(purpose: str, rows: int, columns: int, bound: float) -> Tensor:
        of_seeds = [uniform(Key(seed, f"probe-{purpose}"), torch.arange(1), (rows, columns)) for seed in seeds]
        weights = (2 * torch.stack(of_seeds) - 1) * bound  # (S, 1, rows, columns)
        return weights.repeat(1, len(settings.lr), 1, 1).to(device)

    def layer(purpose: str, rows: int, columns: int) -> Layer:
        bound = columns**-0.5
        return Layer(drawn(f"{purpose}-weights", rows, columns, bound), drawn(f"{purpose}-bias", rows, 1, bound))

    mean, std = torch.zeros(len(seeds), levels, dim, device=device), torch.ones(len(seeds), levels, dim, device=device)
    if settings.standardise:
        moments = {table.key: statistics(table, device) for table in {table.key: table for table in tables}.values()}
        mean, std = (torch.stack([moments[t.key][i] for t in tables]).view_as(mean) for i in (0, 1))
    log_snr = torch.tensor([-2 * math.log(sigma) for sigma in settings.sigmas])
    return NoiseClassifiers(
        layers=(
            layer("level", dim, FREQUENCIES),
            layer("embedding", dim, dim),
            layer("hidden", settings.width, dim),
            layer("logits", classes, settings.width),
        ),
        levels=sinusoid(log_snr, FREQUENCIES).to(device),
        mean=mean,
        std=std,
        settings=[{"lr": lr} for lr in settings.lr],
    )
