"""Documentation generated from the config's models: the JSON schema, the reference page, and types in words."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Literal, TypeGuard, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from diffprobe.config.base import NAME_PATTERN, expanded
from diffprobe.config.kinds import Kind, family_of, is_family, models_of
from diffprobe.config.models import Config
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import atomic, recorded

INTRO = """# The config

A YAML file defines the datasets, extractors and experiments. `config.yaml` in this folder is the default.
A key that is left out takes the default listed below; keys marked **required** have none. Unknown keys and
impossible combinations are refused before any job starts.

To change a few keys, put only those keys into a file of your own and list it after the first:
`--configfile config/config.yaml mine.yaml`. Later files are merged over earlier ones, key by key at every
depth; lists are replaced as a whole. `1e-4` and `0.0001` are the same number; `true` is not a number.

Do not edit this page. `python -m diffprobe docs` generates it, and `schema.json` for editors, from the typed
models in `src/diffprobe/config/`.
"""


def schema() -> str:
    """The JSON schema of the whole config."""
    return json.dumps(Config.model_json_schema(), indent=2) + "\n"


def readme() -> str:
    """The reference page for every key."""
    models = dict(reading_order(Config, ""))
    page = "\n".join([INTRO, *(section(model, where) for model, where in models.items())])
    # Types name models in backticks; make them links to their sections.
    names = "|".join(model.__name__ for model in models)
    return re.sub(rf"`({names})`", lambda match: f"[{match[1]}](#{match[1].lower()})", page)


def write(folder: str | Path) -> None:
    """Write `schema.json` and `README.md` into a folder. Raises UserError rather than replace others."""
    page, keys = Path(folder) / "README.md", Path(folder) / "schema.json"
    if page.exists() and not page.read_text("utf-8", "replace").startswith(INTRO.partition("\n")[0]):
        raise UserError(f"{page}: refusing to replace a README that was not generated; choose another folder")
    if keys.exists() and recorded(keys, "$defs", "Experiment") is None:
        raise UserError(f"{keys}: refusing to replace a schema that was not generated; choose another folder")
    for name, text in (("schema.json", schema()), ("README.md", readme())):
        with atomic(Path(folder) / name) as partial:
            partial.write_text(text)


def section(model: type[BaseModel], where: str) -> str:
    """The section of one model; `where` is the path of keys that leads to it."""
    doc = " ".join((model.__doc__ or "").split())
    head = [f"## {model.__name__}", "", f"At `{where}`. {doc}" if where else doc, ""]
    table = ["| key | type | default | meaning |", "|---|---|---|---|"]
    return "\n".join([*head, *table, *(row(name, field) for name, field in model.model_fields.items()), ""])


def row(name: str, field: FieldInfo) -> str:
    meaning = field.description or "Selects this kind."
    return f"| `{name}` | {words(annotation(field))} | {default(field)} | {meaning} |".replace("\n", " ")


def default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    if field.default_factory:
        return "its defaults"
    text = field.default if isinstance(field.default, str) else json.dumps(field.default, default=BaseModel.model_dump)
    return f"`{text}`"


def reading_order(model: type[BaseModel], where: str) -> Iterator[tuple[type[BaseModel], str]]:
    """A model and all models below it, each with its path of keys (NAME for keys that the user chooses).

    Below a member of a family the members of the same family are left out: an evaluator may hold another.
    """
    yield model, where
    family = family_of(model) if issubclass(model, Kind) and not is_family(model) else None
    for name, field in model.model_fields.items():
        for below, step in models_in(annotation(field)):
            if family is None or not issubclass(below, family):
                yield from reading_order(below, ".".join(filter(None, (where, name + step))))


def models_in(kind: object) -> Iterator[tuple[type[BaseModel], str]]:
    """The models in an annotation, each with the path between the field and the model's keys."""
    kind, _ = parted(kind)
    if is_family(kind):
        yield from ((model, "") for model in models_of(kind))
    elif is_model(kind):
        yield kind, ""
    elif get_origin(kind) is not Literal:
        step = ".NAME" if get_origin(kind) is dict else ""
        for part in get_args(kind):
            yield from ((model, step + rest) for model, rest in models_in(part))


# --- annotations in words -----------------------------------------------------------------------------------

BOUNDS = {"above": "gt", "from": "ge", "below": "lt", "up to": "le"}  # words for pydantic's constraints


def words(kind: object) -> str:
    """What an annotation accepts, in words: `positive integer`, `list of numbers`, `one of ...`."""
    kind, limits = parted(kind)
    origin, parts = get_origin(kind), get_args(kind)
    some = ", at least one" if limit(limits, "min_length") else ""
    most = limit(limits, "max_length")
    some += f", at most {most:,}" if most else ""
    if is_family(kind):
        return "keys of " + " or ".join(f"`{model.__name__}`" for model in models_of(kind))
    if is_model(kind):
        return f"keys of `{kind.__name__}`"
    if origin is Literal:
        return ("one of " if len(parts) > 1 else "") + ", ".join(f"`{value}`" for value in parts)
    if origin is dict:
        return f"names, each with {words(parts[1])}{some}"
    if origin is list:
        return f"list of {plural(words(parts[0]))}{some}"
    if origin is tuple:
        return f"list of {len(parts)} {plural(words(parts[0]))}"
    if is_union(kind):
        return alternatives(parts, limits)
    if kind is str:
        if NAME_PATTERN in (getattr(bound, "pattern", "") for bound in limits):
            return "name of an entry"
        return "path" if expanded in (getattr(bound, "func", None) for bound in limits) else "text"
    nouns: dict[object, str] = {int: "integer", float: "number", bool: "`true` or `false`"}
    return number(nouns[kind], limits)


def alternatives(members: tuple[object, ...], limits: list[object]) -> str:
    """The members of a union; constraints apply to each."""
    each = [words(Annotated[(part, *limits)] if limits else part) for part in members if part is not NoneType]
    text = " or ".join(each).replace(" or keys of", " or")
    return f"{text}, or `null`" if NoneType in members else text


def number(noun: str, limits: list[object]) -> str:
    """A number with its range."""
    bounds = {word: limit(limits, name) for word, name in BOUNDS.items()}
    phrases = [f"{word} {value:,.12g}" for word, value in bounds.items() if value is not None]
    if bounds["above"] == 0 and bounds["below"] is None:
        noun, phrases = f"positive {noun}", phrases[1:]
    return " ".join([noun, ", ".join(phrases)]).strip()


def plural(noun: str) -> str:
    """The plural of what `words` returns."""
    if noun == "name of an entry":
        return "names of entries"
    if noun.startswith(("one of ", "`")):  # literals have no plural
        return noun.removeprefix("one of ")
    for singular in ("integer", "number", "text", "path"):
        noun = noun.replace(singular, singular + "s")
    return noun


def limit(limits: list[object], name: str) -> float | None:
    """The value of a constraint by name (gt, ge, lt, le, min_length), or None."""
    return next((getattr(bound, name) for bound in limits if hasattr(bound, name)), None)


def annotation(field: FieldInfo) -> object:
    """A field's annotation including its constraints, as written in the model."""
    return Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation


def parted(kind: object) -> tuple[object, list[object]]:
    """Split an annotation into the bare type and its constraints."""
    if get_origin(kind) is not Annotated:
        return kind, []
    bare, *limits = get_args(kind)
    # Field(gt=0) within Annotated is a FieldInfo, whose metadata are the constraints themselves.
    nested = [part.metadata if isinstance(part, FieldInfo) else [part] for part in limits]
    return bare, [part for group in nested for part in group]


def is_model(kind: object) -> TypeGuard[type[BaseModel]]:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def is_union(kind: object) -> bool:
    return get_origin(kind) in (Union, UnionType)
