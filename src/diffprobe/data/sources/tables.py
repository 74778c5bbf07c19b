"""What a file of labels says."""

from typing import NamedTuple

Label = int | str


class LabelTable(NamedTuple):
    """Labels by image name, relative to the file's folder; None where the file says that there are no labels."""

    labels: dict[str, Label] | None
    classes: tuple[str, ...] = ()  # names by id, where the file has them
