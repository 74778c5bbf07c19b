"""dataset.json, which holds the labels of EDM's sets: {"labels": [[name, class id], ...] or null, "classes": [...]}."""

import codecs
import json

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from diffprobe.data.filenames import display, printable
from diffprobe.data.sources.tables import Label, LabelTable
from diffprobe.runtime.errors import UserError

FORM = '{"labels": [[name, class id], ...] or null}'
LARGEST_ID = 1_000_000  # or the number of images: an id far above is a damaged one


class Content(BaseModel):
    """The file. Other keys are those of other tools."""

    model_config = ConfigDict(strict=True)

    labels: list[tuple[str, int]] | None = None
    classes: list[str] | None = Field(None, min_length=1)


def read(data: bytes, where: str, images: int) -> LabelTable | str:
    """The labels in a dataset.json; why it is not used, if it is of another tool.

    Raises UserError for a damaged one.
    """
    try:
        content = Content.model_validate_json(data.removeprefix(codecs.BOM_UTF8))
    except ValidationError as error:
        raise UserError(problem(where, error)) from None
    if content.labels is None:
        return LabelTable(None) if "labels" in content.model_fields_set else 'it has no key "labels"'
    classes = tuple(printable(name) for name in content.classes or ())
    if len(set(classes)) < len(classes):
        raise UserError(f"{where}: classes is not a list of distinct names; correct it or leave it out")
    labels: dict[str, Label] = {}
    for name, label in content.labels:
        if not 0 <= label <= max(LARGEST_ID, images):
            raise UserError(
                f"{where}: {display(name)} has the label {label}; class ids are integers from 0, not above "
                f"{max(LARGEST_ID, images)}; correct it"
            )
        if classes and label >= len(classes):
            raise UserError(
                f"{where}: {display(name)} has the label {label}, but there are only {len(classes)} classes; name all"
            )
        if name in labels:
            raise UserError(f"{where}: labels {display(name)} twice; keep one")
        labels[name] = label
    return LabelTable(labels, classes)


def problem(where: str, error: ValidationError) -> str:
    """What is wrong with the file, in one line."""
    first = error.errors(include_url=False)[0]
    if first["type"] == "json_invalid":
        return f"{where}: not JSON ({first['msg']}); write it as {FORM}"
    at: tuple[int | str, ...] = first["loc"]
    if at[:1] == ("classes",):
        return f"{where}: classes is not a list of distinct names; correct it or leave it out"
    if at[:1] == ("labels",) and len(at) == 3 and at[2] == 1 and first["type"] != "missing":
        return f"{where}: row {at[1]} has the label {short(first['input'])}; class ids are integers from 0"
    if at[:1] == ("labels",) and len(at) > 1:
        return f"{where}: row {at[1]} in labels is not [name, class id] ({short(first['input'])}); correct it"
    return f"{where}: not of the form {FORM}; correct it"


def short(value: object) -> str:
    return json.dumps(value, default=str)[:60]
