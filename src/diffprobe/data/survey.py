"""What a source holds besides the images that are used: what was left out and why, and which labels were read."""

from dataclasses import dataclass, field

from diffprobe.data.filenames import LITTER, MANIFESTS, TABLES, UNREAD, display, extension, litter, printable

KINDS = 40  # of things left out that are counted apart; a folder may hold a thousand different extensions
OTHERS = ("file with other extensions", "not an image by its extension")


@dataclass(frozen=True)
class LeftOut:
    """Files or folders of one kind that are not used."""

    what: str  # in the singular
    why: str
    count: int
    example: str  # printable

    @property
    def text(self) -> str:
        """One line."""
        word, _, rest = self.what.partition(" ")
        many = self.count > 1 and word in ("image", "folder", "file", "link")
        example = "" if self.what == self.example else f" ({display(self.example)})"
        return f"{self.count:,} {word}{'s' if many else ''}{' ' * bool(rest)}{rest}: {self.why}{example}"


@dataclass(frozen=True)
class Survey:
    """What is worth knowing about a source besides its images and labels."""

    left_out: tuple[LeftOut, ...] = ()
    labels_from: str = ""  # "class folders", "dataset.json"; "" where there are no labels
    splits_from: str = ""  # "folders training (train), dev (test)"; "" where no folder names them
    notes: tuple[str, ...] = ()


NOTHING_ELSE = Survey()


@dataclass
class SurveyNotes:
    """A survey that is being made."""

    counts: dict[tuple[str, str], tuple[int, str]] = field(default_factory=dict)  # (what, why) to count and example
    notes: list[str] = field(default_factory=list)
    labels_from: str = ""
    splits_from: str = ""

    def leave_out(self, what: str, why: str, example: str) -> None:
        key = (what, why)
        if key not in self.counts and len(self.counts) >= KINDS:
            key = OTHERS
        count, first = self.counts.get(key, (0, example))
        self.counts[key] = (count + 1, first)

    def leave_out_file(self, name: str) -> None:
        """Leave out a file for its extension."""
        kind = extension(name)
        if kind in UNREAD:
            self.leave_out(printable(kind), "not a format that is read; convert it to PNG or JPEG", name)
        elif kind in TABLES:
            self.leave_out(kind, f"not an image by its extension; labels are read from {', '.join(MANIFESTS)}", name)
        else:
            self.leave_out(printable(kind) or "file without extension", "not an image by its extension", name)

    def leave_out_litter(self, name: str) -> None:
        """Leave out a hidden file or folder, or what some system left."""
        base = name[name.rfind("/") + 1 :]
        reason = litter(base) or "hidden"
        # Each hidden file has a name of its own, each kind of litter has one for all.
        named = reason != "hidden" and base.lower() in LITTER
        self.leave_out(
            printable(base) if named else "hidden file or folder" if reason == "hidden" else "file", reason, name
        )

    def add(self, other: "SurveyNotes") -> None:
        """Add what another part of the same source holds."""
        for key, (count, example) in other.counts.items():
            total, first = self.counts.get(key, (0, example))
            self.counts[key] = (total + count, first)
        self.notes += other.notes

    def finished(self) -> Survey:
        """What may be images comes first, then what is frequent."""
        items = sorted(self.counts.items(), key=lambda item: (item[0][1].startswith("not an image"), -item[1][0]))
        left_out = tuple(LeftOut(what, why, count, printable(example)) for (what, why), (count, example) in items)
        return Survey(left_out, self.labels_from, self.splits_from, tuple(dict.fromkeys(map(printable, self.notes))))
