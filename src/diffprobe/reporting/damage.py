"""What is wrong with a store or a file, and what became of it."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from diffprobe.runtime.errors import AccessError, UserError, access_error, one_line


class Damage(NamedTuple):
    """What is wrong with a store, one line each, and whether that was removed for the next run to make again."""

    lines: list[str]
    removed: bool = False
    accessible: bool = True  # False where it cannot be read and yet may be whole


INTACT = Damage([])


def report(store: Path, check: Callable[[], list[str]], remove: Callable[[], bool] | None) -> Damage:
    """The damage that `check` reports of one store, removed by `remove` if there is one; intact stores are printed."""
    try:
        lines = check()
    except AccessError as error:
        return Damage([str(error)], accessible=False)
    except UserError as error:  # it cannot even be opened
        lines = [str(error)]
    except Exception as error:  # damaged bytes may raise anything, and other stores are still to be checked
        if refused := access_error(store, error):
            return Damage([str(refused)], accessible=False)
        lines = [f"cannot be read ({one_line(error)})"]
    if not lines:
        print(f"{store}: every byte is as it was written")
        return INTACT
    return removed(store, lines, remove)


def removed(path: Path, lines: list[str], remove: Callable[[], bool] | None) -> Damage:
    """The damage of a store or file, after its removal where `remove` is there and the file proves to be ours."""
    lines = [line if line.startswith(str(path)) else f"{path}: {line}" for line in lines]
    if remove is None:
        return Damage(lines)
    try:
        if remove():
            return Damage(lines, True)
    except UserError as error:
        return Damage([*lines, str(error)])
    left = f"{path}: is left as it is, since nothing proves that diffprobe wrote it; check it and remove it yourself"
    return Damage([*lines, left])
