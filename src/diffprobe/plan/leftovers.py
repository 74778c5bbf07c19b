"""What `snakemake --delete-all-output` leaves: files of ours that no rule declares."""

import os
import re
from pathlib import Path
from shlex import quote

OPTION = "--delete-all-output"
DRY_RUN = re.compile(r"-[A-Za-z]*n[A-Za-z]*|--dry-?run")  # alone, or among other short options: -np


def deletes_outputs(arguments: list[str]) -> bool:
    """Whether a command line of Snakemake removes all outputs."""
    return OPTION in arguments and not is_dry_run(arguments)


def is_dry_run(arguments: list[str]) -> bool:
    """Whether a command line of Snakemake only says what would be done."""
    return any(map(DRY_RUN.fullmatch, arguments))


def leftover(results: str) -> str | None:
    """A line that says what stays in the folder of results and how to remove it; None where nothing does.

    Chunks of stores and training states are no outputs of their own: a stopped job continues from them.
    """
    files = [Path(folder, name) for folder, _, names in os.walk(results) for name in names]
    if not files:
        return None
    size = sum(file.lstat().st_size for file in files)
    return (
        f"{results}: {len(files):,} files ({size / 1e6:,.1f} MB) stay: chunks of stores, training states, shared "
        f"references, logs. To remove these too: rm -r {quote(results)}"
    )
