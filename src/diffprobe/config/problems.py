"""Refusals: how the checks of a config report a problem."""

from collections.abc import Iterable

Problem = tuple[str, object, str]  # key, value, what is allowed instead


def listed(values: Iterable[object]) -> str:
    return ", ".join(map(str, values))


def one_of(names: Iterable[object]) -> str:
    return listed(names) or "nothing (none is defined)"
