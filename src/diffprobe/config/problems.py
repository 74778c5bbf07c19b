"""How the checks of a config put what they found."""

Problem = tuple[str, object, str]  # the key, its value, what is allowed


def listed(values: object) -> str:
    return ", ".join(map(str, values))


def one_of(names: object) -> str:
    return listed(names) or "nothing (none is defined)"
