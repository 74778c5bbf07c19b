"""What a folder or a zip holds: images, folders, files that may name labels, and what is left out."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from diffprobe.data.filenames import EXTENSIONS, MANIFESTS, UNREAD, display, is_image, sort_names, spelling
from diffprobe.data.survey import SurveyNotes
from diffprobe.runtime.errors import UserError

LARGEST_MANIFEST, PER_IMAGE = 1 << 26, 1 << 12  # bytes: room for the labels of all ImageNet, and for captions

THUMBNAILS = re.compile(r"(^|/)[._]?thumb(s|nails?)?/", re.IGNORECASE)


@dataclass
class Contents:
    """Names are relative, with `/`; images and folders are sorted by their bytes once `settle` was called."""

    where: str  # for messages
    read: Callable[[str, int], bytes]  # a file's bytes; raises UserError where they are more than the limit
    zipped: bool = False
    images: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    manifests: list[str] = field(default_factory=list)
    survey: SurveyNotes = field(default_factory=SurveyNotes)

    def add_file(self, name: str) -> None:
        if is_image(name):
            self.images.append(name)
        elif name[name.rfind("/") + 1 :].lower() in MANIFESTS:
            self.manifests.append(name)
        else:
            self.survey.leave_out_file(name)

    def settle(self) -> None:
        """Sort. Raises UserError where there is no image."""
        if not self.images:
            kinds = [f"{count} {what}" for (what, _), (count, _) in self.survey.counts.items() if what in UNREAD]
            unread = f", but {', '.join(kinds[:3])}" if kinds else ""
            raise UserError(
                f"{self.where}: holds no image ({' '.join(EXTENSIONS)}){unread}; check the path, or convert the images"
            )
        self.images, self.folders = sort_names(self.images), sort_names(self.folders)
        self.manifests = sort_names(self.manifests)
        self.note_doubtful()

    def note_doubtful(self) -> None:
        """Note images whose names suggest that they are copies of others."""
        alike = len(self.images) - len({spelling(name) for name in self.images})
        if alike:
            self.survey.notes.append(f"{alike:,} images are named like others but for case, spaces or accents: copies?")
        small = [name for name in self.images if THUMBNAILS.search(name)]
        if small:
            self.survey.notes.append(
                f"{len(small):,} images lie in folders of thumbnails ({small[0]}): are they copies?"
            )

    def read_manifest(self, name: str) -> bytes:
        """Raises UserError where the file is larger than the labels of these images can be."""
        return self.read(name, LARGEST_MANIFEST + PER_IMAGE * len(self.images))

    def name(self, file: str) -> str:
        """A file of it in messages."""
        return f"{self.where}: {display(file)}"
