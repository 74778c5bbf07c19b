"""Where a dataset's images come from: a file a kind."""

from typing import ClassVar, NamedTuple

from diffprobe.config.kinds import Kind, import_members


class Facts(NamedTuple):
    """Images of (channels, size, size) in `classes` classes (0: no labels), the smallest of `smallest` images.

    Of the `images`, the last `official` are a test split of the dataset's own. None stands for what only reading shows.
    """

    images: int | None = None
    size: int | None = None
    channels: int = 3
    classes: int | None = None
    smallest: int | None = None
    official: int | None = None


class Archive(NamedTuple):
    """A file that others publish."""

    name: str
    url: str
    sha256: str
    bytes: int


class Source(Kind, family=True):
    """A place that images come from. `build` names a function from the source and its downloaded files by name to a
    `Listing` (see `data.listing`).
    """

    archives: ClassVar[tuple[Archive, ...]] = ()
    """What is downloaded of it; `mirror` is then one of its keys."""
    as_arrays: ClassVar[bool] = False
    """Whether its images come as arrays, not as files to be decoded."""

    @property
    def facts(self) -> Facts:
        """What is certain of its images before any is read."""
        return Facts()

    @property
    def local_paths(self) -> list[str]:
        """The files and folders on this machine that it is read from; they may change."""
        return []


import_members(__name__, __path__)


def downloaded_kinds() -> list[str]:
    """The kinds whose files are downloaded."""
    return [kind for kind, model in Source.members.items() if getattr(model, "archives", ())]
