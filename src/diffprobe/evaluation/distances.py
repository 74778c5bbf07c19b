"""From images to the figures of generation: one pass through an extractor, then distance, precision and recall."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from diffprobe.evaluation.extractors import Extractor
from diffprobe.evaluation.frechet import frechet_distance
from diffprobe.evaluation.manifold import precision_recall
from diffprobe.evaluation.statistics import Moments

REFERENCE = ("train", "select")  # the reference: the images that generators may see
SUBSET = 10_000  # precision and recall compare at most this many images of each kind
BATCH = 256


def measure(
    extractor: Extractor, images: Tensor, subset: int, device: torch.device, report: Callable[[int], None]
) -> tuple[Moments, np.ndarray]:
    """Moments over all images uint8 (N, H, W, C), and the features of the first `subset`, float32 (n, D)."""
    moments, kept = Moments(extractor.dim), []
    for start in range(0, len(images), BATCH):
        features = extractor.apply(images[start : start + BATCH].to(device)).pooled  # (B, D)
        moments.update(features)
        kept.append(features[: max(subset - start, 0)].cpu())
        report(moments.n)
    return moments, torch.cat(kept).numpy()


def compare(
    extractor: str, reference: np.lib.npyio.NpzFile, moments: Moments, features: np.ndarray, k: int
) -> dict[str, float]:
    """The figures by name. A name always says which extractor; FID is Inception's 2048 features and nothing else."""
    distance = frechet_distance(reference["mu"], reference["sigma"], moments.mu, moments.sigma)
    real, fake = torch.from_numpy(reference["features"]), torch.from_numpy(features)
    precision, recall = precision_recall(real, fake, k)
    kind = "fid" if extractor == "inception_2048" else "fd"
    return {
        f"{kind}_{extractor}": distance,
        f"precision_{extractor}": precision,
        f"recall_{extractor}": recall,
    }
