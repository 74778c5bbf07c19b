"""The tables: every figure that was measured, and the small one that says what came out."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from diffprobe.config.names import level_name
from diffprobe.runtime.errors import UserError

COLUMNS = ["experiment", "kimg", "evaluator", "split", "value", "spread", "seeds"]
COLUMNS += ["tap", "sigma", "sampler", "extractor", "images", "dataset", "latents"]
KEY = ["experiment", "dataset", "kimg", "evaluator", "split", "sampler", "latents"]
COUNTS, REALS = ("kimg", "seeds", "images"), ("value", "spread", "sigma")  # each may be missing
NUMBERS = dict.fromkeys(COUNTS, "Int64") | dict.fromkeys(REALS, "float64")
DISTANCES = ("fd_", "fid_")  # how the names of distances begin; the rest names the extractor


def summary(rows: Iterable[dict]) -> pd.DataFrame:
    """One row per experiment, checkpoint, evaluator, split (and sampler), sorted by them; COLUMNS.

    A baseline belongs to a dataset and has an empty `experiment`. Two results for one row are an error.
    """
    frame = pd.DataFrame(list(rows)).reindex(columns=COLUMNS).astype(NUMBERS)
    frame = frame.fillna({name: "" for name in COLUMNS if name not in NUMBERS})
    twice = frame[frame.duplicated(KEY)]
    if len(twice):
        raise ValueError(f"two results for {twice[KEY].iloc[0].to_dict()}")
    return frame.sort_values(KEY, ignore_index=True)


def results(rows: Iterable[dict], choices: dict[str, dict | None]) -> pd.DataFrame:
    """What came out, one row per experiment in the order of `choices` (its name to its choice, None if not probed)."""
    frame = summary(rows)
    distances = [name for name in frame["evaluator"].unique() if name.startswith(DISTANCES)]
    found = []
    for name, choice in choices.items():
        mine = frame[frame["experiment"] == name]
        probed = outcome(frame, mine, choice) if choice else {}
        found.append({"experiment": name, **probed, **best_distances(mine, distances)})
    return pd.DataFrame(found)


def outcome(frame: pd.DataFrame, mine: pd.DataFrame, choice: dict) -> dict:
    """Test accuracies of one experiment's choice, beside those of its dataset's pixels."""
    chosen = mine[(mine["kimg"] == choice["kimg"]) & (mine["split"] == "test")]
    pixels = frame[(frame["evaluator"] == "pixels_logistic") & (frame["dataset"] == mine["dataset"].iloc[0])]
    return {
        "chosen kimg": choice["kimg"],
        "tap": choice["tap"],
        "sigma": "clean" if choice["sigma"] is None else level_name(choice["sigma"]),
        "linear test": accuracy(chosen[chosen["evaluator"] == "linear"]),
        "kNN test": accuracy(chosen[chosen["evaluator"] == "knn"]),
        "raw pixels test": accuracy(pixels[pixels["split"] == "test"]),
    }


def best_distances(mine: pd.DataFrame, distances: list[str]) -> dict:
    """The lowest value of each distance; checkpoint, precision and recall where the first has its lowest."""
    found = {name: mine[mine["evaluator"] == name].nsmallest(1, "value") for name in distances}
    out: dict = {f"{name} (best)": number(row) for name, row in found.items()}
    measured = [name for name, row in found.items() if len(row)]
    if measured:
        best = found[measured[0]].iloc[0]
        same = mine[(mine["kimg"] == best["kimg"]) & (mine["sampler"] == best["sampler"])]
        extractor = measured[0].split("_", 1)[1]
        out |= {"best kimg": int(best["kimg"]), "best sampler": best["sampler"]}
        for kind in ("precision", "recall"):
            out[kind] = number(same[same["evaluator"] == f"{kind}_{extractor}"])
    return out


def accuracy(row: pd.DataFrame) -> str:
    """`98.2 ± 0.3 %` of a frame of one row; empty for one of none."""
    if row.empty:
        return ""
    value, spread = 100 * row["value"].iloc[0], 100 * row["spread"].iloc[0]
    return f"{value:.1f} %" if pd.isna(spread) else f"{value:.1f} ± {spread:.1f} %"


def number(row: pd.DataFrame) -> float | None:
    """The value of a frame of one row to four significant digits; None for one of none."""
    return None if row.empty else float(f"{row['value'].iloc[0]:.4g}")


def show(path: str | Path, console: Console | None = None) -> None:
    """Print results.csv as a table, turned where the terminal is narrow. Raises UserError without results."""
    if not Path(path).exists():
        raise UserError(f"{path}: no results yet; run the workflow, then ask again")
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    console = console or Console()
    table = rendered(frame)
    if console.measure(table, options=console.options.update(width=1000)).maximum > console.width:
        table = rendered(frame.set_index("experiment").T.reset_index(names="experiment"))  # one column each
    console.print(table)


def rendered(frame: pd.DataFrame) -> Table:
    table = Table(*frame.columns, box=SIMPLE_HEAD)
    for row in frame.itertuples(index=False):
        table.add_row(*row)
    return table
