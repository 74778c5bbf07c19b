"""Any folder of images: a sub-folder per class or none, split folders above them or none."""

from collections.abc import Mapping
from pathlib import Path

from diffprobe.data.listing import Files, Listing
from diffprobe.data.sources.names import printable, shown
from diffprobe.data.sources.tree import arrange
from diffprobe.data.sources.walk import walk


def find(source: dict, archives: Mapping[str, Path]) -> Listing:
    """The images in the order of their names' bytes; see `tree.arrange` for what their folders tell."""
    root = Path(source["path"]).expanduser()
    names, folders = walk(root)
    tree = arrange(names, folders, shown(root), source["labels"])
    origin = f"folder {printable(root.resolve().name)}"
    return Listing(*tree, origin, Files((root,), [(0, name) for name in names]))
