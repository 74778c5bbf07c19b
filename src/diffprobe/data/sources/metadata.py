"""metadata.csv and metadata.jsonl of Hugging Face's `imagefolder`: a row per image, `file_name` and `label`."""

import csv
import io
import re
from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict, ValidationError

from diffprobe.data.filenames import display, printable
from diffprobe.data.sources.tables import Label, LabelTable
from diffprobe.runtime.errors import UserError, one_line

FILE = "file_name"
LABELS = ("label", "labels", "class", "class_name", "category", "target")  # the first of these is the label
WHOLE = re.compile(r"(0|-?[1-9]\d*)(\.0+)?")  # pandas writes the integers of a column with gaps as 3.0


class Row(BaseModel):
    """A line of metadata.jsonl; other keys are kept, so that the label is found by its name."""

    model_config = ConfigDict(strict=True, extra="allow")

    file_name: str


def read_csv(data: bytes, where: str, images: int) -> LabelTable | str:
    """The labels in a metadata.csv; why it is not used, if it names none. Raises UserError for a damaged one."""
    head = data.partition(b"\n")[0].decode("utf-8-sig", "replace")
    separator = max(",;\t", key=head.count)  # spreadsheets of some countries write `;`
    try:
        columns = [name.strip() for name in next(csv.reader([head], delimiter=separator), [])]
        label = label_column(columns)
        if FILE not in columns or label is None:
            return missing(columns)
        reader = csv.DictReader(io.StringIO(decoded(data, where)), columns, delimiter=separator, strict=True)
        next(reader)  # the header
        return table(((row[FILE], row[label]) for row in reader if row[FILE]), where)
    except csv.Error as error:
        raise UserError(f"{where}: not CSV ({one_line(error)}); write it as {FILE},label") from None


def read_jsonl(data: bytes, where: str, images: int) -> LabelTable | str:
    """The same for a metadata.jsonl."""
    rows: list[Row] = []
    for number, line in enumerate(decoded(data, where).split("\n"), 1):
        try:
            rows += [Row.model_validate_json(line)] if line.strip() else []
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            if first["type"] == "missing" and not rows:  # of another tool
                return missing(first["input"])
            raise UserError(
                f'{where}: line {number} is not {{"{FILE}": name, "label": class}} ({first["msg"]}); correct it'
            ) from None
    columns = list(dict.fromkeys(key for row in rows for key in row.model_extra or {}))
    label = label_column(columns)
    if label is None:
        return missing([FILE, *columns])
    return table(((row.file_name, (row.model_extra or {}).get(label)) for row in rows), where)


def decoded(data: bytes, where: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: not UTF-8 ({one_line(error)}); save it as UTF-8") from None


def label_column(columns: Iterable[str]) -> str | None:
    return next((name for name in LABELS if name in columns), None)


def missing(columns: Iterable[str]) -> str:
    has = ", ".join(display(printable(name)) for name in columns)[:200]
    return f"it has no columns {FILE} and label, but {has or 'none'}"


def table(rows: Iterable[tuple[str, object]], where: str) -> LabelTable | str:
    """The labels of rows (name, label); empty ones, and -1 as Hugging Face writes it, mean that there is none."""
    labels: dict[str, Label] = {}
    for name, label in rows:
        whole = isinstance(label, float) and label.is_integer()
        if isinstance(label, bool) or not (whole or isinstance(label, str | int | None)):
            return f"its label of {display(name)} is neither one name nor one whole number"
        text = "" if label is None else str(label).strip()
        number = WHOLE.fullmatch(text)
        if not text or (number and number[1] == "-1"):
            continue
        if labels.setdefault(name, text) != text:
            raise UserError(f"{where}: labels {display(name)} twice; keep one")
    if all(WHOLE.fullmatch(str(label)) and len(str(label)) < 20 for label in labels.values()):
        return LabelTable({name: int(str(label).partition(".")[0]) for name, label in labels.items()})
    return LabelTable({name: printable(str(label)) for name, label in labels.items()})
