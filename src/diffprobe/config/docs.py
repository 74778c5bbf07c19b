"""The config explained from its models: the JSON schema, the page, and in words what each key takes."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from diffprobe.config.kinds import is_family, models_of
from diffprobe.config.models import Config
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import atomic

INTRO = """# The config

A YAML file says which datasets, extractors and experiments there are; `config.yaml` in this folder is used
when no other is named. A key that is left out takes the default given below, which comes from the typed
models in `src/diffprobe/config/`; a key marked **required** has none. Unknown keys and impossible
combinations are refused before any job starts.

To change a few keys, put them alone into a file of your own and name it after this one:
`--configfile config/config.yaml mine.yaml`. Later files are merged over earlier ones, key by key at every
depth; a list is replaced as a whole. `1e-4` and `0.0001` are the same number; `true` is none.

Do not edit this page: it and `schema.json`, by which editors complete and check a config, are made by
`python -m diffprobe docs`.
"""


def schema() -> str:
    """The JSON schema of the whole config."""
    return json.dumps(Config.model_json_schema(), indent=2) + "\n"


def readme() -> str:
    """The page that explains every key."""
    models = dict(reading_order(Config, ""))
    page = "\n".join([INTRO, *(section(model, where) for model, where in models.items())])
    names = "|".join(model.__name__ for model in models)
    return re.sub(rf"`({names})`", lambda match: f"[{match[1]}](#{match[1].lower()})", page)


def write(folder: str | Path) -> None:
    """Write `schema.json` and `README.md` into the folder. UserError where another page has that name."""
    page = Path(folder) / "README.md"
    if page.exists() and not page.read_text().startswith(INTRO.partition("\n")[0]):
        raise UserError(f"{page}: is another page, which is not replaced; name a config in a folder of its own")
    for name, text in (("schema.json", schema()), ("README.md", readme())):
        with atomic(Path(folder) / name) as partial:
            partial.write_text(text)


def section(model: type[BaseModel], where: str) -> str:
    """One model's part of the page; `where` is the path of keys that lead to it."""
    doc = " ".join((model.__doc__ or "").split())
    head = [f"## {model.__name__}", "", f"At `{where}`. {doc}" if where else doc, ""]
    table = ["| key | type | default | meaning |", "|---|---|---|---|"]
    return "\n".join([*head, *table, *(row(name, field) for name, field in model.model_fields.items()), ""])


def row(name: str, field: FieldInfo) -> str:
    meaning = field.description or "Which kind this is."
    return f"| `{name}` | {words(annotation(field))} | {default(field)} | {meaning} |".replace("\n", " ")


def default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    if field.default_factory:
        return "its defaults"
    text = field.default if isinstance(field.default, str) else json.dumps(field.default, default=BaseModel.model_dump)
    return f"`{text}`"


def reading_order(model: type[BaseModel], where: str) -> Iterator[tuple[type[BaseModel], str]]:
    """A model and all that are below it, each with its path of keys (NAME where the user chooses the key)."""
    yield model, where
    for name, field in model.model_fields.items():
        for below, step in models_in(annotation(field)):
            yield from reading_order(below, ".".join(filter(None, (where, name + step))))


def models_in(kind: Any) -> Iterator[tuple[type[BaseModel], str]]:
    """The models in an annotation, each with what stands between the field and the model's own keys."""
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

BOUNDS = {"above": "gt", "from": "ge", "below": "lt", "up to": "le"}  # our word for each of pydantic's limits


def words(kind: Any) -> str:
    """What an annotation takes, for people: `positive integer`, `list of numbers`, `one of ...`."""
    kind, limits = parted(kind)
    origin, parts = get_origin(kind), get_args(kind)
    some = ", at least one" if limit(limits, "min_length") else ""
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
    if is_union(kind):
        return alternatives(parts, limits)
    if kind is str:
        pattern = any(hasattr(limit, "pattern") for limit in limits)
        return "name of an entry" if pattern else "text that is not empty" if some else "text"
    return number({int: "integer", float: "number", bool: "`true` or `false`"}[kind], limits)


def alternatives(members: tuple[Any, ...], limits: list[Any]) -> str:
    """One of several; the limits hold for each."""
    each = [words(Annotated[(part, *limits)] if limits else part) for part in members if part is not NoneType]
    text = " or ".join(each).replace(" or keys of", " or")
    return f"{text}, or `null`" if NoneType in members else text


def number(noun: str, limits: list[Any]) -> str:
    """A number within limits."""
    bounds = {word: limit(limits, name) for word, name in BOUNDS.items()}
    phrases = [f"{word} {value:g}" for word, value in bounds.items() if value is not None]
    return f"positive {noun}" if phrases == ["above 0"] else " ".join([noun, ", ".join(phrases)]).strip()


def plural(noun: str) -> str:
    """Several of what `words` has named."""
    if noun == "name of an entry":
        return "names of entries"
    if noun.startswith(("one of ", "`")):
        return noun.removeprefix("one of ")
    for singular in ("integer", "number", "text"):
        noun = noun.replace(singular, singular + "s")
    return noun


def limit(limits: list[Any], name: str) -> Any:
    """The value of a limit by its name (gt, ge, lt, le, min_length), or None."""
    return next((getattr(bound, name) for bound in limits if hasattr(bound, name)), None)


def annotation(field: FieldInfo) -> Any:
    """A field's annotation with its limits, as it was written."""
    return Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation


def parted(kind: Any) -> tuple[Any, list[Any]]:
    """An annotation without its limits, and the limits."""
    if get_origin(kind) is not Annotated:
        return kind, []
    bare, *limits = get_args(kind)
    nested = [part.metadata if isinstance(part, FieldInfo) else [part] for part in limits]
    return bare, [part for group in nested for part in group]


def is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def is_union(kind: Any) -> bool:
    return get_origin(kind) in (Union, UnionType)
