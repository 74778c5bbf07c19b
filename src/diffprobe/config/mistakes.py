"""pydantic's validation errors reworded: the key, its value, and what is allowed there."""

import json
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from types import NoneType
from typing import get_args, get_origin

from pydantic_core import ErrorDetails

from diffprobe.config.docs import annotation, is_model, is_union, parted, words
from diffprobe.config.kinds import Kind, is_family
from diffprobe.config.models import Config
from diffprobe.config.problems import listed

Key = tuple[str | int, ...]  # a path of keys and indices in the config


def lines(raw: Mapping[str, object], refusals: Sequence[tuple[Key, str]]) -> list[str]:
    """Refusals as lines, without repeats. A value set by `each` is reported there, with the experiments it breaks."""
    experiments_of: dict[str, set[str | int]] = {}  # by line
    for key, line in refusals:
        place = placed(key, raw.get("each"))
        names = experiments_of.setdefault(f"{'.'.join(map(escaped, place))}: {line}", set())
        names |= {key[1]} if place != key else set()
    experiments = raw.get("experiments")
    every: list[str | int] = list(experiments) if isinstance(experiments, dict) else []
    return [line + among(names, every) for line, names in experiments_of.items()]


def among(names: set[str | int], every: list[str | int]) -> str:
    """A suffix naming the affected experiments, unless all are affected."""
    some = ", ".join(escaped(name) for name in every if name in names)
    return f" (in {some})" if 0 < len(names) < len(every) else ""


def placed(key: Key, each: object) -> Key:
    """The key under `each` if it set this experiment's value, else the key itself."""
    if key[:1] != ("experiments",) or len(key) < 3:
        return key
    for step in key[2:]:
        if isinstance(each, list):  # lists are replaced as a whole, so every item comes from `each`
            break
        if not (isinstance(each, dict) and step in each):
            return key
        each = each[step]
    return ("each", *key[2:])


def mistakes(details: Sequence[ErrorDetails], raw: object) -> list[tuple[Key, str]]:
    """pydantic's errors reworded, one per key.

    pydantic reports one error per member of a union; the deepest comes from the member that the user meant.
    """
    by_key: dict[Key, str] = {}
    for detail in details:
        key, kind = followed(detail["loc"], raw)
        key, line = reworded(key, kind, detail, raw)
        by_key.setdefault(key, line)  # of several errors at one key the first is enough
    above = {key[:n] for key in by_key for n in range(len(key))}
    return [(key, line) for key, line in by_key.items() if key not in above]


def reworded(key: Key, kind: object, detail: ErrorDetails, raw: object) -> tuple[Key, str]:
    """Reword one error at a key annotated `kind`: the key at fault, and what is wrong there."""
    value = detail["input"]
    match detail["type"]:
        case "missing":
            return key, f"this key is missing; allowed: {expected(kind)}"
        case "extra_forbidden":
            model = bare(followed(detail["loc"][:-1], raw)[1])
            names = list(model.model_fields) if is_model(model) else []
            # An unknown key is most often a typing error.
            near = get_close_matches(str(key[-1]), names, 1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            return key, f"{shown(value)} is refused: unknown key{hint}; allowed keys: {listed(names)}"
        case "unset_variable":
            return key, f"{shown(value)} is refused: {detail['msg']}; set it, or write out the path"
        case "braces":
            return key, f"{shown(value)} is refused: {detail['msg']}; allowed: a path without braces"
        case "characters":
            return key, f"{shown(value)} is refused: {detail['msg']}; allowed: a path"
        case "remote":
            return key, f"{shown(value)} is refused; allowed: {detail['msg']}"
        case "invalid_key":
            return key, "this key is refused; allowed: text"
        case "union_tag_not_found":
            return (*key, "kind"), f"this key is missing; allowed: {kinds(kind)}"
        case "union_tag_invalid":
            return (*key, "kind"), f"{shown(value['kind'])} is refused; allowed: {kinds(kind)}"
    if detail["loc"][-1] == "[key]":
        return key, "this name is refused; allowed: letters, digits, `-` and `_`, starting with a letter or digit"
    return key, f"{shown(value)} is refused; allowed: {expected(kind)}"


def expected(kind: object) -> str:
    """What an annotation accepts, for a reader of one line: the keys themselves in place of a model's name."""
    model, null = bare(kind), ", or `null`" if NoneType in get_args(parted(kind)[0]) else ""
    if is_family(model):
        return f"keys, among them kind: {kinds(model)}{null}"
    if is_model(model):
        return f"keys ({listed(model.model_fields) or 'those of an experiment'}){null}"
    return words(kind)


def escaped(part: str | int) -> str:
    """A key part with line breaks escaped."""
    return repr(str(part))[1:-1]


def shown(value: object) -> str:
    """A value as one line of at most 80 characters."""
    try:
        text = json.dumps(value) if value is None or isinstance(value, bool) else repr(value)
    except ValueError:  # Python writes out no integer of thousands of digits
        text = "an integer of thousands of digits"
    return text if len(text) <= 80 else f"{text[:77]}..."


def followed(location: Key, raw: object) -> tuple[Key, object]:
    """Translate an error's location to config keys and the annotation there (None below an unknown key).

    pydantic inserts the type of a union's member into locations, and `[key]` if a dictionary key is at fault. Only the
    value shows which member of a family applies, so `raw` is followed along.
    """
    key: list[str | int] = []
    kind: object = Config
    for part in location:
        if part != "[key]" and (isinstance(part, int) or not is_union(bare(kind))):
            key.append(part)
            kind = below(bare(kind), part)
            raw = step_into(raw, part)
            family = bare(kind)
            if is_family(family):
                kind = member(family, raw) or kind
        else:
            kind = below(bare(kind), part)
    return tuple(key), kind


def step_into(raw: object, part: str | int) -> object:
    try:
        return raw[part]  # type: ignore[index]  # a scalar raises TypeError
    except (KeyError, IndexError, TypeError):
        return None


def member(family: type[Kind], value: object) -> type[Kind] | None:
    """The member that a value's `kind` names, if any."""
    tag = value.get("kind") if isinstance(value, dict) else None
    return family.members.get(tag) if isinstance(tag, str) else None


def below(kind: object, part: str | int) -> object:
    """The annotation one step down an error's location."""
    if is_model(kind):
        return annotation(kind.model_fields[part]) if part in kind.model_fields else None
    if not is_union(kind):
        return next(reversed(get_args(kind)), None)  # the values of a list or dictionary; None below an unknown key
    members = get_args(kind)
    if isinstance(part, int):  # an item, so of the union's list member
        plain = (parted(member)[0] for member in members)  # without a least length
        return get_args(next(member for member in plain if get_origin(member) is list))[0]
    # The name of a scalar member adds no information.
    return next((member for member in members if is_model(member) and part == member.__name__), kind)


def bare(kind: object) -> object:
    """An annotation without constraints and without `| None`, neither of which appears in locations."""
    kind = parted(kind)[0]
    members = [member for member in get_args(kind) if member is not NoneType] if is_union(kind) else []
    return bare(members[0]) if len(members) == 1 else kind


def kinds(annotation: object) -> str:
    """The kinds of a family, as alternatives."""
    family = bare(annotation)
    assert is_family(family)
    return " or ".join(f"`{kind}`" for kind in family.members)
