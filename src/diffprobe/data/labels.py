"""Refuses a config that needs labels of a dataset without any."""

from collections.abc import Sequence

from diffprobe.runtime.errors import UserError


def refuse_unlabelled(dataset: str, classes: Sequence[str], keys: Sequence[str]) -> None:
    """Raise UserError if keys of the config need labels, but the dataset has fewer than two classes."""
    if keys and len(classes) < 2:
        has = "no labels" if not classes else f"only one class ({classes[0]!r})"
        raise UserError(
            f"datasets.{dataset}: {has}, but {keys[0]} needs at least two classes; "
            "set `probe: null`, use an Inception extractor, and set guidance to 1 and labels to balanced"
        )
