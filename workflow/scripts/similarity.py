"""Maps of similarity: between the cells of a checkpoint, between checkpoints at the chosen cell, and between the cells
of the chosen checkpoint and those of other experiments. Rows of the chosen cell.

Config: `plan.probe_arguments.SimilarityArgument`. Inputs: choice; store.0, store.1, ... of the checkpoints; of the
others choices.NAME and stores.NAME.0, ... Output: similarity. Option: autosave, in seconds.
"""

from collections.abc import Sequence
from typing import Any

from diffprobe.runtime.job import Job, run

from diffprobe.evaluation.representation.cells import StoredCell, stored_cells
from diffprobe.evaluation.representation.similaritymaps import SimilarityMap, compare
from diffprobe.plan.probe_arguments import Checkpoints, Choice, SimilarityArgument
from diffprobe.runtime.files import write_json
from diffprobe.runtime.results import read_result

Row = dict[str, Any]
Grid = list[StoredCell]


def main(job: Job) -> None:
    argument = SimilarityArgument.model_validate(job.config)
    job.progress.start(len(argument.mapped) + 1 + len(argument.others), "maps")

    def drawn(rows: Grid, columns: Grid) -> SimilarityMap:
        similarity = compare(rows, columns, argument.neighbours, argument.memory, job.device)
        job.progress.update(job.progress.done + 1)
        return similarity

    with job.autosaved("similarity"):
        choice, grids = read_choice(job, "choice"), grids_of(job, "store", argument, argument)
        layers = {}
        for kimg in argument.mapped:
            layers[kimg] = drawn(grids[kimg], grids[kimg]).entry(names(grids[kimg]), names(grids[kimg]))
        chosen = [grid[place(grid, choice)] for grid in grids.values()]
        over_training, last = drawn(chosen, chosen), argument.checkpoints.index(choice.kimg)
        training = over_training.entry(argument.checkpoints, argument.checkpoints)
        rows = [
            row | {"kimg": kimg}
            for i, kimg in enumerate(argument.checkpoints)
            for row in rows_of("chosen", over_training, (i, last), argument.neighbours)
        ]
        own, experiments = grids[choice.kimg], {}
        for name, other in argument.others.items():
            theirs = read_choice(job, f"choices.{name}")
            grid = grids_of(job, f"stores.{name}", other, argument)[theirs.kimg]
            similarity, at = drawn(own, grid), (place(own, choice), place(grid, theirs))
            experiments[name] = similarity.entry(names(own), names(grid))
            rows += [row | {"kimg": choice.kimg} for row in rows_of(name, similarity, at, argument.neighbours)]
        images = own[0].array.shape[1]
        common = {**argument.row, **argument.about, "tap": choice.tap, "sigma": choice.sigma, "images": images}
        maps = {"layers": layers, "training": training, "experiments": experiments}
        rows = [common | row for row in rows]
        write_json(job.output("similarity"), {"rows": rows, "neighbours": argument.neighbours, **maps})
    job.write_receipt(images=images)


def read_choice(job: Job, name: str) -> Choice:
    return read_result(job.input(name), Choice.model_validate)


def grids_of(job: Job, stores: str, of: Checkpoints, argument: SimilarityArgument) -> dict[int, Grid]:
    """The cells of an experiment, by checkpoint; `stores` is the prefix of its inputs."""
    folders = zip(of.checkpoints, job.group(stores), strict=True)
    return {kimg: stored_cells(folder, of, argument.row["split"]) for kimg, folder in folders}


def names(grid: Grid) -> list[tuple[str, str]]:
    """The level and the tap of each cell."""
    return [(cell.level.name, cell.tap) for cell in grid]


def place(grid: Grid, choice: Choice) -> int:
    """Where the chosen cell is."""
    return names(grid).index(choice.cell)


def rows_of(name: str, similarity: SimilarityMap, at: Sequence[int], neighbours: int) -> list[Row]:
    """CKA and CKNNA at one place of a map, where they are finite; `name` says with what."""
    i, j = at
    values = {f"cka_{name}": similarity.cka[i, j], f"cknna{neighbours}_{name}": similarity.cknna[i, j]}
    return [{"evaluator": figure, "value": value.item()} for figure, value in values.items() if value.isfinite()]


if __name__ == "__main__":
    run(main)
