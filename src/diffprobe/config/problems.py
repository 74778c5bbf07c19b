"""How the checks of a config put their refusals."""

from collections.abc import Iterable

Problem = tuple[str, object, str]  # the key, its value, what is allowed


def listed(values: Iterable[object]) -> str:
    return ", ".join(map(str, values))


def one_of(names: Iterable[object]) -> str:
    return listed(names) or "nothing (none is defined)"
