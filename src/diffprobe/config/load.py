"""From YAML or plain data to a checked `Config`; every mistake is a line that names key, value and remedy."""

import json
from difflib import get_close_matches
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin

import yaml
from pydantic import ValidationError

from diffprobe.config.checks import problems
from diffprobe.config.docs import annotation, is_model, is_union, parted, words
from diffprobe.config.models import Config
from diffprobe.config.problems import listed
from diffprobe.runtime.errors import UserError, one_line

Key = tuple[str | int, ...]  # the way to a place in the config


def load(*paths: str | Path, **more: Any) -> Config:
    """Read and check config files, the later merged over the earlier as Snakemake does; `more` are keys as its
    `--config` gives them, over all files. Raises UserError.
    """
    raw: Any = {}
    for path in paths:
        raw = merged(raw, read(path))
    return parse(merged(raw, more) if more else raw, " + ".join(map(str, paths)))


def read(path: str | Path) -> Any:
    try:
        return yaml.safe_load(Path(path).read_text())
    except FileNotFoundError:
        raise UserError(f"{path}: no such config file") from None
    except OSError as error:
        raise UserError(f"{path}: this config file cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: not UTF-8, or a date that is none
        raise UserError(f"{path}: not YAML: {one_line(error)}") from None


def merged(below: Any, above: Any) -> Any:
    """`above` over `below`, key by key at every depth; what is no mapping replaces what was there."""
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    return below | {key: merged(below.get(key), value) for key, value in above.items()}


def parse(raw: Any, source: str = "config") -> Config:
    """Check a config given as plain data. Raises UserError, a line for each mistake."""
    if not isinstance(raw, dict):
        raise UserError(f"{source}: {shown(raw)} is refused; allowed: {words(Config)}")
    if line := unknown(raw):
        raise UserError(f"{source}: {line}")
    raw = chosen(raw)
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        found = mistakes(error.errors())
    else:
        told = ((key, f"{shown(value)} is refused; allowed: {allowed}") for key, value, allowed in problems(config))
        found = [(tuple(key.split(".")), line) for key, line in told]
    if found:
        raise UserError("\n".join(f"{source}: {line}" for line in lines(raw, found)))
    return used(config) if config.only else config


# --- the keys that change experiments -----------------------------------------------------------------------


def named(raw: dict[str, Any]) -> list[str] | None:
    """What `only` names; None where it is not given, or is no names at all, as the models will tell."""
    only = raw.get("only")
    names = [only] if isinstance(only, str) else only
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else None


def unknown(raw: dict[str, Any]) -> str | None:
    """The line about what `only` names that there is not."""
    names, known = named(raw), raw.get("experiments")
    if names is None or not isinstance(known, dict):
        return None
    wrong = [name for name in names if name not in known]
    if names and not wrong:
        return None
    allowed = ", ".join(map(escaped, known))
    return f"only: {shown(wrong[0] if wrong else [])} is refused; allowed: {allowed}"


def chosen(raw: dict[str, Any]) -> dict[str, Any]:
    """The config with the experiments that `only` names alone, `each` merged over them."""
    names, each, experiments = named(raw), raw.get("each"), raw.get("experiments")
    if not isinstance(experiments, dict):
        return raw
    if names is not None:
        experiments = {name: value for name, value in experiments.items() if name in names}
    if isinstance(each, dict):
        experiments = {name: merged(value, each) for name, value in experiments.items()}
    return raw | {"experiments": experiments}


def used(config: Config) -> Config:
    """Without the datasets that no experiment needs: each is read, or downloaded, whether or not it is needed."""
    experiments = config.experiments.values()
    stores = [config.latents[experiment.latents] for experiment in experiments if experiment.latents]
    names = {experiment.dataset for experiment in experiments}
    autoencoders = [config.autoencoders[store.autoencoder] for store in stores]
    names |= {autoencoder.dataset for autoencoder in autoencoders if autoencoder.kind == "trained"}
    return config.model_copy(
        update={"datasets": {name: dataset for name, dataset in config.datasets.items() if name in names}}
    )


# --- mistakes in words --------------------------------------------------------------------------------------


def lines(raw: dict[str, Any], found: list[tuple[Key, str]]) -> list[str]:
    """Mistakes as lines, each once; what `each` brought is named there, with the experiments that it does not fit."""
    said: dict[str, set[Any]] = {}
    for key, line in found:
        place = placed(key, raw.get("each"))
        names = said.setdefault(f"{'.'.join(map(escaped, place))}: {line}", set())
        names |= {key[1]} if place != key else set()
    every = raw["experiments"] if isinstance(raw.get("experiments"), dict) else {}
    return [line + among(names, list(every)) for line, names in said.items()]


def among(names: set[Any], every: list[Any]) -> str:
    """In which of the experiments, where these are some of them."""
    some = ", ".join(escaped(name) for name in every if name in names)
    return f" (in {some})" if 0 < len(names) < len(every) else ""


def placed(key: Key, each: Any) -> Key:
    """The key under `each`, where a key of an experiment has its value from there."""
    if key[:1] != ("experiments",) or len(key) < 3:
        return key
    for step in key[2:]:
        if isinstance(each, list):  # taken as a whole
            break
        if not (isinstance(each, dict) and step in each):
            return key
        each = each[step]
    return ("each", *key[2:])


def mistakes(details: list[Any]) -> list[tuple[Key, str]]:
    """pydantic's errors in our words, one for each key.

    pydantic tells how each member of a union refuses a value; the one that came deepest was meant.
    """
    found: dict[Key, str] = {}
    for detail in details:
        key, kind = followed(detail["loc"])
        key, line = reworded(key, kind, detail)
        found.setdefault(key, line)
    deepest = [key for key in found if not any(key == other[: len(key)] and key != other for other in found)]
    return [(key, found[key]) for key in deepest]


def reworded(key: Key, kind: Any, detail: Any) -> tuple[Key, str]:
    """One of pydantic's errors at a key that takes `kind`: the key at fault, and what is wrong there."""
    value = detail["input"]
    match detail["type"]:
        case "missing":
            return key, f"this key is missing; allowed: {words(kind)}"
        case "extra_forbidden":
            known = list(bare(followed(detail["loc"][:-1])[1]).model_fields)
            near = get_close_matches(str(key[-1]), known, 1)
            hint = f" (perhaps {near[0]} is meant)" if near else ""
            return key, f"{shown(value)} is refused, the key is unknown{hint}; allowed keys: {listed(known)}"
        case "unset_variable":
            return key, f"{shown(value)} is refused, since {detail['msg']}; set it, or write the path"
        case "invalid_key":
            return key, "this key is refused; allowed: text"
        case "union_tag_not_found":
            return (*key, "kind"), f"this key is missing; allowed: {kinds(kind)}"
        case "union_tag_invalid":
            return (*key, "kind"), f"{shown(value['kind'])} is refused; allowed: {kinds(kind)}"
    if detail["loc"][-1] == "[key]":
        return key, "this name is refused; allowed: letters, digits, `-` and `_`, a letter or digit first"
    return key, f"{shown(value)} is refused; allowed: {words(kind)}"


def escaped(part: str | int) -> str:
    """A part of a key, without line breaks."""
    return repr(str(part))[1:-1]


def shown(value: Any) -> str:
    """A value as one line that is not too long."""
    text = json.dumps(value) if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def followed(location: Key) -> tuple[Key, Any]:
    """An error's location as keys of the config, and the annotation there (None under an unknown key).

    pydantic adds to a location the kind or type of each union's member, and `[key]` where a name is at fault.
    """
    key: list[str | int] = []
    kind: Any = Config
    for part in location:
        if part != "[key]" and (isinstance(part, int) or not is_union(bare(kind))):
            key.append(part)
        kind = below(bare(kind), part)
    return tuple(key), kind


def below(kind: Any, part: str | int) -> Any:
    """The annotation one step down an error's location."""
    if is_model(kind):
        return annotation(kind.model_fields[part]) if part in kind.model_fields else None
    if not is_union(kind):
        return next(reversed(get_args(kind)), None)  # a list or a dictionary: its values; None: not known either
    members = get_args(kind)
    if isinstance(part, int):  # an item of the member that is a list
        return get_args(next(member for member in members if get_origin(member) is list))[0]
    # The name of a member that has no `kind`, and is no model, tells nothing more.
    return next((member for member in members if is_model(member) and part in tags(member)), kind)


def bare(kind: Any) -> Any:
    """An annotation without its limits and without `| None`, which no location shows."""
    kind = parted(kind)[0]
    members = [member for member in get_args(kind) if member is not NoneType] if is_union(kind) else []
    return bare(members[0]) if len(members) == 1 else kind


def kinds(union: Any) -> str:
    """The kinds that the models of a union have."""
    return " or ".join(f"`{tag}`" for member in get_args(bare(union)) for tag in tags(member))


def tags(model: Any) -> tuple[str, ...]:
    """What pydantic calls a member of a union by: its kinds or, without any, its name."""
    kind = model.model_fields.get("kind")
    return get_args(kind.annotation) if kind else (model.__name__,)
