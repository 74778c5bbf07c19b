"""Feature extractors of the distances, one module per kind behind one interface (`base.Extractor`)."""

from pathlib import Path

import torch
from safetensors import SafetensorError

from diffprobe.evaluation.generation.extractors.base import Extractor, Features
from diffprobe.evaluation.generation.extractors.classifier import classifier
from diffprobe.evaluation.generation.extractors.dinov2 import dinov2
from diffprobe.evaluation.generation.extractors.inception import inception
from diffprobe.evaluation.generation.extractors.torchscript import torchscript
from diffprobe.evaluation.generation.extractors.weights import first_line
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import sha256
from diffprobe.training import checkpoints

__all__ = ["Extractor", "Features", "classifier", "dinov2", "inception", "make", "torchscript"]


def make(config: dict, weights: Path | str | None, device: torch.device) -> Extractor:
    """The extractor of a config subtree; `weights` is the trained classifier's checkpoint, or a local file.

    Raises UserError where weights are not to be had.
    """
    file = None if weights is None else str(weights)
    match config["kind"]:
        case "inception":
            return inception(config["dims"], file, device)
        case "dinov2":
            return dinov2(config["size"], file, device)
        case "torchscript":
            return torchscript(config if file is None else config | {"weights": file}, device)
        case "classifier":
            try:
                network, _ = checkpoints.load(Path(weights), device)
            except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
                raise UserError(f"{weights}: no classifier's checkpoint ({first_line(error)})") from None
            return classifier(network, sha256(weights), device)
    raise ValueError(f"no extractor of kind {config['kind']}")
