"""What downloaded sources share."""

from pydantic import Field

from diffprobe.config.base import Path
from diffprobe.config.sources import Source


class Download(Source):
    """A public dataset, downloaded from its own address and checked by sha256."""

    mirror: Path | None = Field(
        None,
        description="A folder that holds the files as they are published, or the beginning of a URL "
        "under which they lie; the same checks. Null: their own address.",
    )
