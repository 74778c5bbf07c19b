"""Features of images by a network that is not a diffusion model: an extractor of the metrics of generation."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from diffprobe.evaluation.generation.extractors import FeatureExtractor
from diffprobe.evaluation.representation.chunks import BLOCK
from diffprobe.evaluation.representation.features import Pass, refuse_non_finite
from diffprobe.evaluation.representation.inputs import ModelInputs
from diffprobe.runtime.keyed import Key


@dataclass(frozen=True)
class ExtractedFeatures:
    """An extractor as a source of features: those of every image as it is."""

    extractor: FeatureExtractor
    batch: int

    def blocks(self, data: ModelInputs, of: Pass) -> Iterator[tuple[slice, dict[str, Tensor]]]:
        """The features of all images from row `first` on, a block at a time: (rows of the split, name to (n, D)),
        under each name of `specs`. Raises UserError for features that are not finite.
        """
        for start in range(of.first, len(data.rows), BLOCK):
            rows = slice(start, min(start + BLOCK, len(data.rows)))
            parts = [slice(i, min(i + self.batch, rows.stop)) for i in range(rows.start, rows.stop, self.batch)]
            images = (data.read(part, Key(0, of.purpose), of.draw, of.augmented) for part in parts)
            pooled = torch.cat([self.extractor.apply(to_uint8(x)).pooled for x in images])  # (n, D)
            features = dict.fromkeys(of.specs, pooled)
            refuse_non_finite(features, data.rows[rows], of.level, "hold NaN or infinite values")
            yield rows, features


def to_uint8(x: Tensor) -> Tensor:
    """Images (B, C, H, W) in [-1, 1] as extractors take them, uint8 (B, H, W, C)."""
    return x.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
