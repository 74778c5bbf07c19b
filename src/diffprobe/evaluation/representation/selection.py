"""What an evaluator sees: the chosen cell, and what it joins to it, as names in the store of features."""

from typing import Any

from diffprobe.config.names import level_name

Cell = tuple[str, str]  # a level and a tap, by name


def seen(evaluator: dict[str, Any], chosen: Cell) -> list[Cell]:
    """The cells of an evaluator (its config), the chosen one first, each once; without the mark of tokens."""
    level, tap = chosen
    others = [(level if c["sigma"] is None else level_name(c["sigma"]), c["tap"] or tap) for c in evaluator["combine"]]
    return list(dict.fromkeys([chosen, *others]))


def stored_as(cells: list[Cell], evaluator: dict[str, Any]) -> list[Cell]:
    """The same by the names that arrays have."""
    return [(level, f"{tap}.tokens" if evaluator["tokens"] else tap) for level, tap in cells]
