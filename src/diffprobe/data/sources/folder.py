"""Any folder of images: a sub-folder per class or none, split folders above them or none."""

from collections.abc import Mapping
from pathlib import Path

from diffprobe.config.datasets import Folder
from diffprobe.data.filenames import display, printable
from diffprobe.data.listing import Files, Listing
from diffprobe.data.sources.tree import arrange
from diffprobe.data.sources.walk import walk


def find(source: Folder, archives: Mapping[str, Path]) -> Listing:
    root = Path(source.path).expanduser()
    files, folders = list_files(root)
    tree = arrange([name for _, name in files.entries], folders, display(root), source.labels)
    return Listing(*tree, f"folder {printable(root.resolve().name)}", files)


def list_files(root: Path) -> tuple[Files, list[str]]:
    """The images under a folder, sorted by the bytes of their names, and its sub-folders. Raises UserError."""
    names, folders = walk(root)
    return Files((root,), [(0, name) for name in names]), folders
