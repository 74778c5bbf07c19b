"""The dataset's own classifier, trained by the workflow, as an extractor."""

import torch
from torch import Tensor, nn

from diffprobe.evaluation.generation.extractors.base import Extractor, Features, channels_first, exact


def classifier(network: nn.Module, weights_hash: str, device: torch.device | str) -> Extractor:
    """An Extractor of a `networks.classifier.SmallClassifier`: its pooled features, and its logits."""
    network = network.to(device).eval()

    @exact
    def apply(images: Tensor) -> Features:
        features = network.features(channels_first(images, device) / 127.5 - 1).float()  # (B, D)
        return Features(features, logits=network.head(features).float())

    classes = network.head.out_features
    return Extractor("classifier", network.dim, weights_hash, "none", apply, classes=classes)
