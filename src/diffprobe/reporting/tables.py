"""The tables: every figure that was measured, what came out, and the best generator against the best features."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from diffprobe.config.names import extractor_of, figure_of, level_name
from diffprobe.runtime.errors import UserError

COLUMNS = ["experiment", "kimg", "evaluator", "split", "value", "spread", "seeds"]
COLUMNS += ["tap", "sigma", "setting", "pooling", "views", "label", "selection"]  # of features
COLUMNS += ["sampler", "extractor", "images", "dataset", "latents"]
KEY = ["experiment", "dataset", "kimg", "evaluator", "split", "sampler", "latents"]
COUNTS, REALS = ("kimg", "seeds", "images", "views"), ("value", "spread", "sigma")  # each may be missing
NUMBERS = dict.fromkeys(COUNTS, "Int64") | dict.fromkeys(REALS, "float64")
PROBE, FD = "best probe", "best FD"  # the checkpoints that `best` sets against each other
BEST = ["experiment", "distance", "probe", f"{PROBE} kimg", f"{PROBE} distance", f"{PROBE} select", "probe test"]
BEST += [f"{FD} kimg", f"{FD} distance", f"{FD} select"]
PIXELS = "raw pixels test"
PUBLISHED = "test, as published"  # what a choice was made on


def is_distance(evaluator: str) -> bool:
    """Whether a figure of this name is a distance, of which less is better."""
    return figure_of(evaluator) in ("fd", "fid")


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
    names = distances(frame)
    found = []
    for name, choice in choices.items():
        mine = frame[frame["experiment"] == name]
        probed = outcome(frame, mine, choice) if choice else {}
        found.append({"experiment": name, **probed, **best_distances(mine, names)})
    return whole(probes_together(pd.DataFrame(found)))


def probes_together(frame: pd.DataFrame) -> pd.DataFrame:
    """The columns of the tests side by side, where experiments have different ones; raw pixels' comes last."""
    tests = [name for name in frame.columns if name.endswith(" test")]
    if not tests:
        return frame
    tests.sort(key=lambda name: name == PIXELS)
    others = [name for name in frame.columns if name not in tests]
    at = others.index("chosen on") + 1
    return frame[[*others[:at], *tests, *others[at:]]]


def whole(frame: pd.DataFrame) -> pd.DataFrame:
    """Checkpoints as whole numbers, where some experiments have none."""
    return frame.astype({name: "Int64" for name in frame.columns if name.endswith("kimg")})


def distances(frame: pd.DataFrame) -> list[str]:
    """The names of the distances in a summary: FID before others, those over more images first."""
    found = frame[frame["evaluator"].map(is_distance).astype(bool)].drop_duplicates("evaluator")
    found = found.assign(fid=found["evaluator"].map(figure_of) == "fid")
    return found.sort_values(["fid", "images"], ascending=False, kind="stable")["evaluator"].tolist()


def outcome(frame: pd.DataFrame, mine: pd.DataFrame, choice: dict) -> dict:
    """Test accuracies of one experiment's choice by every evaluator, beside those of its dataset's pixels."""
    chosen = mine[(mine["kimg"] == choice["kimg"]) & (mine["split"] == "test")]
    probes = {name: accuracy(chosen[chosen["evaluator"] == name]) for name in chosen["evaluator"].unique()}
    first = choice["scorer"]  # before the others
    pixels = frame[(frame["evaluator"] == "pixels_logistic") & (frame["dataset"] == mine["dataset"].iloc[0])]
    return {
        "chosen kimg": choice["kimg"],
        "tap": choice["tap"],
        "sigma": "clean" if choice["sigma"] is None else level_name(choice["sigma"]),
        "chosen on": PUBLISHED if choice["selection"] == "published" else choice["selection"],
        **{f"{name} test": probes[name] for name in sorted(probes, key=lambda name: (name != first, name))},
        PIXELS: accuracy(pixels[pixels["split"] == "test"]),
    }


def best_distances(mine: pd.DataFrame, names: list[str]) -> dict:
    """The lowest value of each distance; checkpoint, precision and recall where the first has its lowest."""
    lowest = {name: mine[mine["evaluator"] == name].nsmallest(1, "value") for name in names}
    out: dict = {f"{name} (best)": number(row) for name, row in lowest.items()}
    measured = [name for name, row in lowest.items() if len(row)]
    if measured:
        first = lowest[measured[0]].iloc[0]
        same = mine[(mine["kimg"] == first["kimg"]) & (mine["sampler"] == first["sampler"])]
        same = same[same["evaluator"].map(extractor_of) == extractor_of(measured[0])]
        out |= {"best kimg": int(first["kimg"]), "best sampler": first["sampler"]}
        for kind in ("precision", "recall"):
            found = same[same["evaluator"].map(figure_of) == kind]
            out[kind] = number(found.sort_values("images", ascending=False))
    return out


def best(rows: Iterable[dict], choices: dict[str, dict | None]) -> pd.DataFrame:
    """The checkpoint with the best features beside the one with the best samples, as in Xiang et al. 2023 (DDAE); BEST.

    One row per experiment in the order of `choices`. Accuracies are those of the evaluator that scored the grid, on
    `select` (or on what the choice was made on as published, which `probe` then says), at the choice on `test` too; the
    distance is the first of `distances` that the experiment has, by its best sampler at each
    checkpoint.
    """
    frame = summary(rows)
    found = [{"experiment": name} | both_best(frame[frame["experiment"] == name], it) for name, it in choices.items()]
    return whole(pd.DataFrame(found).reindex(columns=BEST))


def both_best(mine: pd.DataFrame, choice: dict | None) -> dict:
    """One experiment's row of `best`; without a probe or a distance its part is missing."""
    out: dict = {}
    distance = next(iter(distances(mine)), None)
    lengths = mine[mine["evaluator"] == distance]
    probed = mine[mine["evaluator"] == (choice["scorer"] if choice else "")]
    if distance:
        out |= {"distance": distance, **standing(FD, lengths.nsmallest(1, "value")["kimg"].item(), lengths, probed)}
    if choice:
        tested = probed[(probed["split"] == "test") & (probed["kimg"] == choice["kimg"])]
        said = f", chosen on {PUBLISHED}" if choice["selection"] == "published" else ""
        out |= {**standing(PROBE, choice["kimg"], lengths, probed), "probe test": accuracy(tested)}
        out |= {"probe": choice["scorer"] + said}
    return out


def standing(name: str, kimg: int, lengths: pd.DataFrame, probed: pd.DataFrame) -> dict:
    """Where one checkpoint stands: its distance and its accuracy on `select`, in columns that begin with `name`."""
    selected = probed[(probed["split"] != "test") & (probed["kimg"] == kimg)]
    here = lengths[lengths["kimg"] == kimg].nsmallest(1, "value")
    return {f"{name} kimg": kimg, f"{name} distance": number(here), f"{name} select": accuracy(selected)}


def accuracy(row: pd.DataFrame) -> str:
    """`98.2 ± 0.3 %` of a frame of one row; empty for one of none."""
    if row.empty:
        return ""
    value, spread = 100 * row["value"].iloc[0], 100 * row["spread"].iloc[0]
    return f"{value:.1f} %" if pd.isna(spread) else f"{value:.1f} ± {spread:.1f} %"


def number(row: pd.DataFrame) -> float | None:
    """The value of a frame's first row to four significant digits; None for one of none."""
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
