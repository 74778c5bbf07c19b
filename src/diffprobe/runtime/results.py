"""Results read back: JSON, JSON lines and arrays, each compared with the hash in its receipt.

The files themselves hold nothing but their content, since others read them too. One without a receipt, or with one from
before there were hashes, is read unchecked.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from diffprobe.runtime.errors import UserError, access_error, one_line, unreadable
from diffprobe.runtime.files import sha256, write_json
from diffprobe.runtime.receipts import RECEIPT, entry_of, outputs_entry, read_receipt, sealed

AGAIN = "delete it and run the workflow again"
Row = dict[str, Any]
T = TypeVar("T")


def refuse_changed(path: Path) -> bool:
    """Whether a receipt holds the hash of a result. Raises UserError where it is not that of the file."""
    paper, entry = entry_of(path) or (None, {})
    if "sha256" not in entry:
        return False
    try:
        if sha256(path) == entry["sha256"]:
            return True
    except OSError as error:
        raise unreadable(path, error, AGAIN) from None
    raise UserError(f"{path}: is damaged or changed, its hash is not the one in {paper}; {AGAIN}")


def whole_receipt(path: Path) -> Row:
    """A receipt that must be there. Raises UserError where it is damaged."""
    if (receipt := read_receipt(path)) is None:
        raise UserError(f"{path}: is damaged; {AGAIN}")
    return receipt


def read_result(path: Path, take: Callable[[Any], T]) -> T:
    """What `take` makes of a JSON file. Raises UserError where that is damaged, or not what `take` expects."""
    return take_from(path, lambda text: take(json.loads(text)))


def read_rows(path: Path) -> list[Row]:
    """The rows of a result, a JSON file. Raises UserError as `read_result` does."""
    return read_result(path, lambda result: typed_rows(result["rows"]))


def read_lines(path: Path) -> list[Row]:
    """The rows of a file of JSON lines. Raises UserError as `read_result` does."""
    return take_from(path, lambda text: typed_rows([json.loads(line) for line in text.splitlines()]))


def typed_rows(rows: Any) -> list[Row]:
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise TypeError
    return rows


def take_from(path: Path, take: Callable[[str], T]) -> T:
    refuse_changed(path)
    try:
        return take(path.read_text())
    except OSError as error:
        raise unreadable(path, error, AGAIN) from None
    except ValueError as error:  # no JSON, or refused by a typed model
        raise UserError(f"{path}: is damaged ({one_line(error)}); {AGAIN}") from None
    except (KeyError, TypeError, AttributeError, IndexError, RecursionError):
        raise UserError(f"{path}: is damaged (JSON of another form than ours); {AGAIN}") from None


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz by name. Raises UserError where it is damaged."""
    refuse_changed(path)
    try:
        with np.load(path) as file:
            return {name: file[name] for name in file.files}
    except Exception as error:  # damaged archives raise anything
        raise access_error(path, error) or UserError(f"{path}: is damaged ({one_line(error)}); {AGAIN}") from None


def write_hash(path: Path) -> None:
    """Write a receipt with nothing but its hash beside a file that no job declares."""
    write_json(path.with_suffix(f".{RECEIPT}"), sealed({"outputs": outputs_entry({"file": path})}))
