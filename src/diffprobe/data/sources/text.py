"""Text files that come with images."""

from pathlib import Path

from diffprobe.data.filenames import display
from diffprobe.runtime.errors import unreadable


def read_lines(path: Path) -> list[str]:
    """The lines of a text file. Raises UserError where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    except OSError as error:
        raise unreadable(display(path), error, "download it again") from None
