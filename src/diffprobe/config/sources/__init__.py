"""Sources of images, one file per kind."""

from typing import ClassVar, NamedTuple

from diffprobe.config.kinds import Kind, import_members


class Facts(NamedTuple):
    """What is certain about a dataset before it is read; None for anything that only reading shows.

    Images are (channels, size, size), in `classes` classes (0: no labels), the smallest with `smallest` images. The
    last `official` of the `images` are the official test split.
    """

    images: int | None = None
    size: int | None = None
    channels: int = 3
    classes: int | None = None
    smallest: int | None = None
    official: int | None = None


class Archive(NamedTuple):
    """A published file to download."""

    name: str
    url: str
    sha256: str
    bytes: int
    repacked: tuple[str, ...] = ()  # SHA-256 of files of the same content, such as a distribution's

    def matches(self, sha256: str) -> bool:
        return sha256 in (self.sha256, *self.repacked)


class Source(Kind, family=True):
    """A source of images. `build` names a function that takes the source and its downloaded files by name, and returns
    a `Listing` (see `data.listing`).
    """

    archives: ClassVar[tuple[Archive, ...]] = ()
    """Files to download. A source with archives has a `mirror` key."""
    as_arrays: ClassVar[bool] = False
    """Whether its images are arrays rather than files to decode."""
    board_name: ClassVar[str] = ""
    """Its name on boards of results, if it has one there."""

    @property
    def facts(self) -> Facts:
        """What is certain about its images before any is read."""
        return Facts()

    @property
    def remote_files(self) -> list[str]:
        """Files elsewhere that it is read from, as in the config; `build` finds them among its downloaded files, under
        the names that a job's argument has for them (`config.remote`).
        """
        return []

    @property
    def local_paths(self) -> list[str]:
        """Local files and folders it is read from, which may change."""
        path = getattr(self, "path", None)
        return [path] if path else []


import_members(__name__, __path__)


def downloaded_kinds() -> list[str]:
    """Kinds of sources that are downloaded."""
    return [kind for kind, model in Source.members.items() if getattr(model, "archives", ())]
