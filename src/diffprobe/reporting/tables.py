"""The tables: every figure that was measured, the main results, and the best generator against the best features."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from diffprobe.config.names import extractor_of, figure_of, level_name
from diffprobe.reporting.rows import Choice, ResultRow
from diffprobe.runtime.errors import UserError, one_line

COLUMNS = ["experiment", "kimg", "evaluator", "split", "value", "spread", "seeds"]
COLUMNS += ["tap", "sigma", "setting", "pooling", "views", "mirrored", "label", "input", "zeroed"]  # of features
COLUMNS += ["selection", "labels_per_class"]
COLUMNS += ["sampler", "extractor", "images", "dataset", "latents"]
FIGURE = ["experiment", "dataset", "kimg", "evaluator", "split", "sampler", "latents"]
KEY = [*FIGURE, "sigma"]  # of an evaluator that is scored at several levels, each is a row
# Each may be missing.
COUNTS, REALS = ("kimg", "seeds", "images", "views", "labels_per_class"), ("value", "spread", "sigma")
NUMBERS = dict.fromkeys(COUNTS, "Int64") | dict.fromkeys(REALS, "float64")
PROBE, FD = "best probe", "best FD"  # the two checkpoints that `best` compares
BEST = ["experiment", "distance", "probe", f"{PROBE} kimg", f"{PROBE} distance", f"{PROBE} select", "probe test"]
BEST += [f"{FD} kimg", f"{FD} distance", f"{FD} select"]
PIXELS = "raw pixels test"
PUBLISHED = "test, as published"  # the split of a choice under `selection: published`

Cells = dict[str, object]  # one row of a table, by column


def is_distance(evaluator: str) -> bool:
    """Whether a figure of this name is a distance, where lower is better."""
    return figure_of(evaluator) in ("fd", "fid")


def summary(rows: Iterable[ResultRow]) -> pd.DataFrame:
    """One row per experiment, checkpoint, evaluator, split, sampler and level, sorted by these; columns COLUMNS.

    A baseline belongs to a dataset and has an empty `experiment`. Raises ValueError on two results for one row.
    """
    # Nullable integers, so that a missing count does not turn a column into floats.
    frame = pd.DataFrame(list(rows)).reindex(columns=COLUMNS).astype(NUMBERS)
    frame = frame.fillna({name: "" for name in COLUMNS if name not in NUMBERS})
    # Two values for one key would mean that two jobs measured the same thing: a bug, not a choice to make here.
    twice = frame[frame.duplicated(KEY)]
    if len(twice):
        raise ValueError(f"two results for {twice[KEY].iloc[0].to_dict()}")
    return frame.sort_values(KEY, ignore_index=True)


def by_level(frame: pd.DataFrame) -> pd.Series:
    """Whether each row of a summary is of an evaluator that is scored at several levels, and so one of several."""
    return frame.duplicated([name for name in FIGURE if name in frame], keep=False)


def of_classifiers(frame: pd.DataFrame) -> pd.Series:
    """Whether each row of a summary is of `test` by a classifier; figures of decodings of its images have a sampler."""
    return (frame["split"] == "test") & (frame["sampler"] == "")


def results(rows: Iterable[ResultRow], choices: Mapping[str, Choice | None]) -> pd.DataFrame:
    """The main results, one row per experiment in the order of `choices` (None: not probed)."""
    frame = summary(rows)
    names = distances(frame)
    lines = []
    for name, choice in choices.items():
        mine = frame[frame["experiment"] == name]  # all figures of this experiment
        accuracies = test_accuracies(frame, mine, choice) if choice else {}
        lines.append({"experiment": name, **accuracies, **best_distances(mine, names)})
    return whole_checkpoints(probes_together(pd.DataFrame(lines)))


def probes_together(frame: pd.DataFrame) -> pd.DataFrame:
    """The columns of test accuracies side by side, those of raw pixels last.

    Experiments with different evaluators would otherwise append theirs after the distances.
    """
    tests = [name for name in frame.columns if name.endswith(" test")]
    if not tests:
        return frame
    tests.sort(key=lambda name: name == PIXELS)  # stable: only raw pixels move, to the end
    others = [name for name in frame.columns if name not in tests]
    at = others.index("chosen on") + 1
    return frame[[*others[:at], *tests, *others[at:]]]


def whole_checkpoints(frame: pd.DataFrame) -> pd.DataFrame:
    """Checkpoints as integers; pandas makes floats of a column in which some are missing."""
    return frame.astype({name: "Int64" for name in frame.columns if name.endswith("kimg")})


def distances(frame: pd.DataFrame) -> list[str]:
    """The names of the distances in a summary: FID before others, those over more images first."""
    rows = frame[frame["evaluator"].map(is_distance).astype(bool)].drop_duplicates("evaluator")
    rows = rows.assign(fid=rows["evaluator"].map(figure_of) == "fid")
    return rows.sort_values(["fid", "images"], ascending=False, kind="stable")["evaluator"].tolist()


def test_accuracies(frame: pd.DataFrame, mine: pd.DataFrame, choice: Choice) -> Cells:
    """Test accuracies of one experiment's choice by every evaluator, beside those of other networks' features and of
    its dataset's raw pixels.
    """
    of_checkpoint = mine["kimg"].isna() | (mine["kimg"] == choice["kimg"])  # other networks have no checkpoints
    chosen = mine[of_checkpoint & of_classifiers(mine) & ~by_level(mine)]
    probes = {name: accuracy(chosen[chosen["evaluator"] == name]) for name in chosen["evaluator"].unique()}
    first = choice["scorer"]
    pixels = frame[(frame["evaluator"] == "pixels_logistic") & (frame["dataset"] == choice["dataset"])]
    return {
        "chosen kimg": choice["kimg"],
        "tap": choice["tap"],
        "sigma": level_name(choice["sigma"]),
        "chosen on": PUBLISHED if choice["selection"] == "published" else choice["selection"],
        # The evaluator that chose comes first.
        **{f"{name} test": probes[name] for name in sorted(probes, key=lambda name: (name != first, name))},
        PIXELS: accuracy(pixels[pixels["split"] == "test"]),
    }


def best_distances(mine: pd.DataFrame, names: list[str]) -> Cells:
    """The lowest value of each distance; checkpoint, sampler, precision and recall at the lowest of the first one."""
    # Frames of one row, or of none for a distance that this experiment lacks.
    lowest = {name: mine[mine["evaluator"] == name].nsmallest(1, "value") for name in names}
    cells: Cells = {f"{name} (best)": number(row) for name, row in lowest.items()}
    measured = [name for name, row in lowest.items() if len(row)]
    if measured:
        first = lowest[measured[0]].iloc[0]
        # Precision and recall describe the same samples only in the same extractor's features.
        same = mine[(mine["kimg"] == first["kimg"]) & (mine["sampler"] == first["sampler"])]
        same = same[same["evaluator"].map(extractor_of) == extractor_of(measured[0])]
        cells |= {"best kimg": int(first["kimg"]), "best sampler": first["sampler"]}
        for figure in ("precision", "recall"):
            rows = same[same["evaluator"].map(figure_of) == figure]
            cells[figure] = number(rows.sort_values("images", ascending=False))  # over the most images
    return cells


def best(rows: Iterable[ResultRow], choices: Mapping[str, Choice | None]) -> pd.DataFrame:
    """The checkpoint with the best features beside the one with the best samples, as in Xiang et al. 2023 (DDAE).

    One row per experiment in the order of `choices`, columns BEST. Accuracies are those of the evaluator that scored
    the grid, on `select` (or on `test`, where the selection is as published; the column `probe` then says so), and for
    the chosen checkpoint on `test` too. The distance is the first of `distances` that the experiment has, by the best
    sampler at each checkpoint.
    """
    frame = summary(rows)
    lines = [
        {"experiment": name} | best_of_both(frame[frame["experiment"] == name], choice)
        for name, choice in choices.items()
    ]
    return whole_checkpoints(pd.DataFrame(lines).reindex(columns=BEST))


def best_of_both(mine: pd.DataFrame, choice: Choice | None) -> Cells:
    """One experiment's row of `best`; without a probe or a distance its part is missing."""
    cells: Cells = {}
    distance = next(iter(distances(mine)), None)
    measured = mine[mine["evaluator"] == distance]
    probed = mine[mine["evaluator"] == (choice["scorer"] if choice else "")]
    if distance:
        lowest = measured.nsmallest(1, "value")["kimg"].item()
        cells |= {"distance": distance, **at_checkpoint(FD, lowest, measured, probed)}
    if choice:
        tested = probed[(probed["split"] == "test") & (probed["kimg"] == choice["kimg"])]
        selection = f", chosen on {PUBLISHED}" if choice["selection"] == "published" else ""
        cells |= at_checkpoint(PROBE, choice["kimg"], measured, probed)
        cells |= {"probe": choice["scorer"] + selection, "probe test": accuracy(tested)}
    return cells


def at_checkpoint(name: str, kimg: int, measured: pd.DataFrame, probed: pd.DataFrame) -> Cells:
    """One checkpoint's distance and its accuracy on `select`, in columns that begin with `name`."""
    # Under `selection: published` the split is called `published`; either way it is not the final test.
    selected = probed[(probed["split"] != "test") & (probed["kimg"] == kimg)]
    distance = measured[measured["kimg"] == kimg].nsmallest(1, "value")  # by the best sampler
    return {f"{name} kimg": kimg, f"{name} distance": number(distance), f"{name} select": accuracy(selected)}


def accuracy(row: pd.DataFrame) -> str:
    """`98.2 ± 0.3 %` for a frame of one row; empty text for an empty frame."""
    if row.empty:
        return ""
    value, spread = 100 * row["value"].iloc[0], 100 * row["spread"].iloc[0]
    return f"{value:.1f} %" if pd.isna(spread) else f"{value:.1f} ± {spread:.1f} %"


def number(row: pd.DataFrame) -> float | None:
    """The value of a frame's first row to four significant digits; None for an empty frame."""
    return None if row.empty else float(f"{row['value'].iloc[0]:.4g}")


def show(path: str | Path, console: Console | None = None) -> None:
    """Print results.csv as a table, transposed where that is narrower and the terminal too narrow. Raises UserError
    without results.
    """
    if not Path(path).exists():
        raise UserError(f"{path}: no results yet; run the workflow first")
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
        if "experiment" not in frame:
            raise ValueError("it has no column experiment")
    except ValueError as error:  # of pandas too: an empty file, lines of different lengths, bytes that are no text
        raise UserError(f"{path}: is damaged ({one_line(error)}); delete it and run the workflow again") from None
    console = console or Console()
    unbounded = console.options.update(width=10_000)  # at which nothing wraps
    table, turned = rendered(frame), rendered(frame.set_index("experiment").T.reset_index(names="experiment"))
    width, narrower = (console.measure(one, options=unbounded).maximum for one in (table, turned))
    console.print(turned if width > console.width and narrower < width else table)


def rendered(frame: pd.DataFrame) -> Table:
    table = Table(*frame.columns, box=SIMPLE_HEAD)
    for row in frame.itertuples(index=False):
        table.add_row(*row)
    return table
