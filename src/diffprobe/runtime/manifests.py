"""The manifest of a finished zarr store: its root's zarr.json, written last, with a checksum over its attributes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffprobe.runtime.errors import UserError, unreadable
from diffprobe.runtime.files import digest, read_json, write_json

ROOT = "zarr.json"


def write_manifest(store: Path, store_format: str, attributes: Mapping[str, Any]) -> None:
    """Declare a store finished. `attributes` describe it; `store_format` names its layout and version."""
    attributes = {"format": store_format, **attributes}
    # Of the attributes alone: they hold a hash of the data, so that this covers every byte of the store.
    attributes["checksum"] = digest(attributes)
    write_json(store / ROOT, {"zarr_format": 3, "node_type": "group", "attributes": attributes})


def read_manifest(store: Path, store_format: str, kind: str) -> dict[str, Any]:
    """The attributes of a finished store; `kind` is what errors call such a store.

    Raises UserError where the manifest is missing, damaged or of another format.
    """
    try:
        group = read_json(store / ROOT)
        attributes = group["attributes"]
        intact = attributes.pop("checksum") == digest(attributes) and attributes["format"] == store_format
        # What other readers of zarr look at first.
        intact = intact and (group["zarr_format"], group["node_type"]) == (3, "group")
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{store}: no finished {kind} (no {ROOT}); run the workflow again") from None
    except OSError as error:
        raise unreadable(store / ROOT, error, "delete it and run again") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):  # no JSON, or JSON of another type
        intact = False
    if not intact:
        raise UserError(f"{store / ROOT}: is damaged or no {kind} ({store_format}); delete it and run again")
    return attributes
