"""Labels where they are needed."""

from collections.abc import Sequence

from diffprobe.runtime.errors import UserError


def refuse_unlabelled(dataset: str, classes: Sequence[str], asking: Sequence[str]) -> None:
    """Raise UserError where keys of the config ask for labels that a dataset does not have."""
    if asking and len(classes) < 2:
        has = "no labels" if not classes else f"one class only ({classes[0]!r})"
        raise UserError(
            f"datasets.{dataset}: {has}, but {asking[0]} needs at least two classes; "
            "set `probe: null`, take an Inception as extractor, and guidance 1"
        )
