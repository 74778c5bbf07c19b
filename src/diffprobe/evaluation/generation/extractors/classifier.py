"""A dataset's own classifier, trained by the workflow, as an extractor."""

from pathlib import Path

import torch
from torch import Tensor

from diffprobe.config.built import parse_model
from diffprobe.config.extractors.classifier import ClassifierExtractor
from diffprobe.evaluation.generation.extractors.base import FeatureExtractor, Features, channels_first, exact
from diffprobe.networks.classifier import SmallClassifier
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import sha256
from diffprobe.training import checkpoints


def make(settings: ClassifierExtractor, weights: Path | None, device: torch.device) -> FeatureExtractor:
    """The pooled features of a trained classifier, and its logits. UserError if `weights` is no checkpoint of one."""
    if weights is None:
        raise UserError("a classifier's features need its checkpoint: name it at weights=")
    network, _ = checkpoints.load(weights, device, parse_model)
    if not isinstance(network, SmallClassifier):
        raise UserError(f"{weights}: a checkpoint of {type(network).__name__}, expected a classifier's")
    head, features_of, channels = network.head, network.features, network.conv1.in_channels

    @exact
    def apply(images: Tensor) -> Features:
        if images.shape[3] != channels:
            raise UserError(
                f"{weights}: takes images of {channels} channels, not {images.shape[3]}; "
                f"measure them with --channels {channels}"
            )
        features = features_of(channels_first(images, device) / 127.5 - 1).float()  # (B, D)
        return Features(features, logits=head(features).float())

    return FeatureExtractor(
        settings.printed_name, network.dim, sha256(weights), "none", apply, classes=head.out_features
    )
