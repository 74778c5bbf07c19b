"""Where images come from: one module per kind of source, each with a function from its settings to a `Listing`."""

from collections.abc import Mapping
from pathlib import Path

from diffprobe.config.sources import Source
from diffprobe.data.listing import Listing
from diffprobe.runtime.located import located


def find(source: Source, archives: Mapping[str, Path]) -> Listing:
    """List the images of a source; `archives` are its downloaded files by name (see `data.downloads`), if any.

    Raises UserError where something is missing, damaged or contradictory.
    """
    return located(source.build)(source, archives)
