"""Labels from a file beside the images: EDM's dataset.json, or the metadata.csv or .jsonl of Hugging Face.

A file's names are relative to its folder, so each split folder may have one. Of several kinds the first counts.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from diffprobe.data.filenames import MANIFESTS, display, sort_names, spelling
from diffprobe.data.sources import dataset_json, metadata
from diffprobe.data.sources.contents import Contents
from diffprobe.data.sources.tables import Label, LabelTable
from diffprobe.runtime.errors import UserError

READERS = dict(zip(MANIFESTS, (dataset_json.read, metadata.read_csv, metadata.read_jsonl), strict=True))


class Manifest(NamedTuple):
    """The label of each image, None for one without; all None (`labels`) where the file says that there are none."""

    name: str
    kind: str  # of MANIFESTS
    labels: list[Label | None] | None
    classes: tuple[str, ...]  # by id, where the file names them


def read(contents: Contents) -> Manifest | None:
    """The labels of the images of `contents`, if a file gives them.

    Raises UserError for a file that is damaged, contradicts itself or another, or is about other images.
    """
    chosen: Manifest | None = None
    for kind, reader in READERS.items():
        files = [file for file in contents.manifests if file[file.rfind("/") + 1 :].lower() == kind]
        if files and chosen is not None and chosen.labels is not None:
            contents.survey.notes.append(f"{files[0]} was passed over: labels come from {chosen.name}")
            continue
        tables: dict[str, LabelTable] = {}
        for file in files:
            table = reader(contents.read_manifest(file), contents.name(file), len(contents.images))
            if isinstance(table, str) and contents.zipped and file == MANIFESTS[0]:
                tables[file] = LabelTable(None)  # as EDM reads a zip whose dataset.json has no labels
            elif isinstance(table, str):
                contents.survey.notes.append(f"{file} was passed over: {table}")
            else:
                tables[file] = table
        if tables:
            chosen = joined(kind, tables, contents)
    if chosen is not None and chosen.labels is None:
        contents.survey.notes.append(f"{chosen.name} says that there are no labels")
    return chosen


def joined(kind: str, tables: Mapping[str, LabelTable], contents: Contents) -> Manifest:
    """One manifest of several files of a kind."""
    name = ", ".join(map(display, list(tables)[:3])) + (f" and {len(tables) - 3} more" if len(tables) > 3 else "")
    named = {table.classes for table in tables.values() if table.classes}
    if len(named) > 1:
        raise UserError(f"{contents.where}: {name} name different classes; make them equal")
    if all(table.labels is None for table in tables.values()):
        return Manifest(name, kind, None, ())
    rows: dict[int, Label] = {}
    for file, table in zip(tables, alike([table.labels or {} for table in tables.values()]), strict=True):
        for index, label in matched(file, table, contents):
            if (other := rows.setdefault(index, label)) != label:
                image = display(contents.images[index])
                both = f"{display(str(other))} and {display(str(label))}"
                raise UserError(f"{contents.where}: {name}: {image} is labelled {both}; keep one")
    labels = [rows.get(index) for index in range(len(contents.images))]
    if all(label is None for label in labels):
        first = next(iter(next(table.labels for table in tables.values() if table.labels is not None)), "nothing")
        raise UserError(
            f"{contents.where}: {name} labels none of the images, but {display(first)}, which is not an image here; "
            "correct or remove it"
        )
    return Manifest(name, kind, labels, named.pop() if named else ())


def alike(tables: Sequence[Mapping[str, Label]]) -> list[dict[str, Label]]:
    """The labels of tables whose files each decided by itself whether they are numbers: all are, or none."""
    words = any(isinstance(label, str) for table in tables for label in table.values())
    return [{name: str(label) if words else label for name, label in table.items()} for table in tables]


def matched(file: str, table: Mapping[str, Label], contents: Contents) -> Iterator[tuple[int, Label]]:
    """(index of an image, its label) for the rows of a file; what matches no image goes into the survey."""
    folder = file[: file.rfind("/") + 1]
    index = {name: i for i, name in enumerate(contents.images)}
    spelled: dict[str, int] | None = None
    absent: list[str] = []
    respelled: list[str] = []
    exact = {index[folder + name] for name in table if folder + name in index}
    for name, label in table.items():
        row = index.get(folder + name)
        if row is None:
            # Names written on another system differ in case, spaces or the form of their accents.
            spelled = unambiguous(contents.images) if spelled is None else spelled
            row = spelled.get(spelling(folder + name))
            row = None if row in exact else row
            (absent if row is None else respelled).append(name)
        if row is not None:
            yield row, label
    if absent:
        some = f"{len(absent):,} images that are" if len(absent) > 1 else "an image that is"
        contents.survey.notes.append(f"{file} names {some} not here ({absent[0]}): was everything copied?")
    if respelled:
        contents.survey.notes.append(
            f"{file} writes {len(respelled):,} names otherwise, in case, spaces or accents ({respelled[0]})"
        )


def unambiguous(names: Sequence[str]) -> dict[str, int]:
    """The index of each name by its spelling, of those that no other is spelled like."""
    spelled: dict[str, int] = {}
    for i, name in enumerate(names):
        key = spelling(name)
        spelled[key] = -1 if key in spelled else i
    return {key: i for key, i in spelled.items() if i >= 0}


def concatenated(parts: Sequence[Manifest], where: str) -> Manifest:
    """One manifest for the images of several zips. Those that name no classes follow those that do.

    Raises UserError where two lists of names differ or do not name all classes.
    """
    named = {part.classes for part in parts if part.classes}
    if len(named) > 1:
        raise UserError(f"{where}: their {parts[0].kind} files name different classes; make them equal")
    classes = named.pop() if named else ()
    labels = [label for part in parts for label in part.labels or ()]
    if not classes and any(isinstance(label, str) for label in labels):  # as in `alike`
        labels = [str(label) if isinstance(label, int) else label for label in labels]
    last = max((label for label in labels if isinstance(label, int)), default=-1)
    if classes and last >= len(classes):
        raise UserError(f"{where}: label {last}, but {parts[0].kind} names only {len(classes)} classes; name all")
    return Manifest(parts[0].name, parts[0].kind, labels, classes)


def class_ids(labels: Sequence[Label], classes: Sequence[str]) -> tuple[dict[Label, int], tuple[str, ...]]:
    """The id of each label, 0, 1, ... without gaps, and the names of the classes by id.

    Numbers are sorted as such and named by `classes`, if these are given; names are sorted by their bytes.
    """
    present = set(labels)
    numbers = sorted(label for label in present if isinstance(label, int))
    words = sort_names(label for label in present if isinstance(label, str))
    order: list[Label] = [*numbers, *words]
    names = tuple(classes[label] if classes and isinstance(label, int) else str(label) for label in order)
    return {label: i for i, label in enumerate(order)}, names
