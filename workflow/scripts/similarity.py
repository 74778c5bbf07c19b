"""Maps of similarity: between the cells of a checkpoint, between checkpoints at the chosen cell, and between the cells
of the chosen checkpoint and those of other experiments. Rows of the chosen cell's.

Config: `plan.arguments.SimilarityArgument`. Inputs: choice; store.0, store.1, ... of the checkpoints; of the others
choices.NAME and stores.NAME.0, ... Output: similarity.
"""

from collections.abc import Iterator
from typing import Any

from diffprobe.runtime.job import Job, run

from diffprobe.evaluation.representation.cells import StoredCell, stored_cells
from diffprobe.evaluation.representation.similaritymaps import SimilarityMap, compare
from diffprobe.plan.arguments import Choice, SimilarityArgument
from diffprobe.runtime.files import write_json
from diffprobe.runtime.results import read_result

Row = dict[str, Any]


def main(job: Job) -> None:
    argument = SimilarityArgument.model_validate(job.config)
    split = argument.row["split"]
    grids = {
        kimg: stored_cells(folder, argument, split)
        for kimg, folder in zip(argument.checkpoints, job.group("store"), strict=True)
    }
    choice = read_result(job.input("choice"), Choice.model_validate)
    job.progress.start(len(argument.mapped) + 1 + len(argument.others), "maps")

    def compared(rows: list[StoredCell], columns: list[StoredCell], title: str) -> SimilarityMap:
        drawn = compare(rows, columns, argument.neighbours, argument.memory, job.device)
        job.progress.update(job.progress.done + 1, title)
        return drawn

    images = grids[choice.kimg][0].array.shape[1]
    common = {**argument.row, **argument.about, "tap": choice.tap, "sigma": choice.sigma, "images": images}

    def rows(name: str, kimg: int, drawn: SimilarityMap, i: int, j: int) -> Iterator[Row]:
        values = {f"cka_{name}": drawn.cka[i, j], f"cknna{argument.neighbours}_{name}": drawn.cknna[i, j]}
        for figure, value in values.items():
            if value.isfinite():
                yield {**common, "kimg": kimg, "evaluator": figure, "value": value.item()}

    layers = {}
    for kimg in argument.mapped:
        drawn = compared(grids[kimg], grids[kimg], f"cells at {kimg}")
        layers[kimg] = drawn.entry(labels(grids[kimg]), labels(grids[kimg]))
    chosen = [grid[place(grid, choice)] for grid in grids.values()]
    drawn = compared(chosen, chosen, "checkpoints")
    training = drawn.entry(argument.checkpoints, argument.checkpoints)
    at = argument.checkpoints.index(choice.kimg)
    lines = [row for i, kimg in enumerate(grids) for row in rows("chosen", kimg, drawn, i, at)]
    experiments = {}
    for name, other in argument.others.items():
        theirs = read_result(job.input(f"choices.{name}"), Choice.model_validate)
        folder = dict(zip(other.checkpoints, job.group(f"stores.{name}"), strict=True))[theirs.kimg]
        own, grid = grids[choice.kimg], stored_cells(folder, other, split)
        drawn = compared(own, grid, name)
        experiments[name] = drawn.entry(labels(own), labels(grid))
        lines += rows(name, choice.kimg, drawn, place(own, choice), place(grid, theirs))
    maps = {"layers": layers, "training": training, "experiments": experiments}
    write_json(job.output("similarity"), {"rows": lines, "neighbours": argument.neighbours, **maps})
    job.write_receipt(images=images)


def labels(grid: list[StoredCell]) -> list[tuple[str, str]]:
    """The level and the tap of each cell."""
    return [(cell.level.name, cell.tap) for cell in grid]


def place(grid: list[StoredCell], choice: Choice) -> int:
    """Where the chosen cell is."""
    return labels(grid).index(choice.cell)


if __name__ == "__main__":
    run(main)
