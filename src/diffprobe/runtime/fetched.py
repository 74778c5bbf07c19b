"""Remote files as jobs read them: in a folder that their content names, which is compared before anything is read."""

import re
from collections.abc import Iterable
from pathlib import Path

from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import sha256

FETCHED = re.compile(r"(?:.*/)?fetched/(?P<sha256>[0-9a-f]{64})/[^/]+")


def refuse_changed(paths: Iterable[str]) -> None:
    """Raises UserError for a fetched file that is not what was fetched."""
    for path in paths:
        named = FETCHED.fullmatch(path)
        if named and Path(path).is_file() and sha256(path) != named["sha256"]:
            raise UserError(f"{path}: has changed since it was fetched; delete it and run again")
