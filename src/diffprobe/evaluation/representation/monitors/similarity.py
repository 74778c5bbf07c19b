"""Similarity of the features to those of another encoder."""

from diffprobe.config.monitors.similarity import SimilarityTo
from diffprobe.evaluation.representation.monitors import CellFeatures
from diffprobe.evaluation.representation.similarity import cka, cknna


def measure(settings: SimilarityTo, features: CellFeatures) -> dict[str, float]:
    """Of the first copy."""
    assert features.foreign is not None
    one, other = [features.first], [features.foreign]
    values = cka(one, other), cknna(one, other, settings.neighbours)
    return {name: value.item() for name, value in zip(settings.figures, values, strict=True) if value.isfinite()}
