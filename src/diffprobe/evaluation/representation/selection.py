"""Which features an evaluator sees: the chosen cell and those joined to it, by their names in the feature store."""

from diffprobe.config.names import level_name
from diffprobe.plan.arguments import CellSelection

Cell = tuple[str, str]  # a level and a tap, by name


def selected_cells(selection: CellSelection, chosen: Cell) -> list[Cell]:
    """The chosen cell and those joined to it, each once."""
    level, tap = chosen
    joined = [
        (level if cell.sigma is None else level_name(cell.sigma), tap if cell.tap is None else cell.tap)
        for cell in selection.combine
    ]
    return list(dict.fromkeys([chosen, *joined]))


def array_names(cells: list[Cell], selection: CellSelection) -> list[Cell]:
    """The same cells by the names of their arrays, which mark features of every position."""
    return [(level, f"{tap}.tokens" if selection.tokens else tap) for level, tap in cells]
