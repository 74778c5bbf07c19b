"""The mark of a finished zarr store: its root's zarr.json, written last, with a checksum over what it says."""

from pathlib import Path
from typing import Any

from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import digest, read_json, write_json

ROOT = "zarr.json"


def write_mark(store: Path, form: str, attributes: dict[str, Any]) -> None:
    """Declare a store of this `form` finished; `attributes` is what it says of itself."""
    found = {"format": form, **attributes}
    found["checksum"] = digest(found)
    write_json(store / ROOT, {"zarr_format": 3, "node_type": "group", "attributes": found})


def read_mark(store: Path, form: str, kind: str) -> dict[str, Any]:
    """What a finished store says of itself; `kind` is what errors call such a store.

    Raises UserError where there is no mark, a damaged one, or one of another form.
    """
    try:
        found = read_json(store / ROOT)["attributes"]
        foreign = found.pop("checksum") != digest(found) or found["format"] != form
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{store}: no finished {kind} (no {ROOT}); run the workflow again") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        foreign = True
    if foreign:
        raise UserError(f"{store / ROOT}: is damaged or no {kind} ({form}); delete it and run again")
    return found
