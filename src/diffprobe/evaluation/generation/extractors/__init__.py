"""Feature extractors of the distances: a module per kind, one interface (`base.FeatureExtractor`)."""

from pathlib import Path

import torch

from diffprobe.config.extractors import Extractor
from diffprobe.evaluation.generation.extractors.base import FeatureExtractor, Features
from diffprobe.runtime.located import located

__all__ = ["FeatureExtractor", "Features", "make"]


def make(settings: Extractor, weights: Path | None, device: torch.device) -> FeatureExtractor:
    """Load an extractor by the function that `settings.build` names, which takes the same arguments.

    `weights` replaces the file that the settings name; a trained classifier has no other. Raises UserError where the
    weights cannot be loaded.
    """
    return located(settings.build)(settings, weights, device)
