"""Base class of downloaded sources."""

from pydantic import Field

from diffprobe.config.base import Place
from diffprobe.config.sources import Source


class Download(Source):
    """A public dataset that is downloaded and verified by SHA-256."""

    mirror: Place | None = Field(
        None,
        description="Folder or base URL that holds the published files under their original names, verified in the "
        "same way; null: the original address.",
    )
