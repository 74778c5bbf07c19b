"""The rows of docs/RECORDS.md and its figure, from benchmarks/records.jsonl.

    python -m benchmarks.records                                                          # tables and figure anew
    python -m benchmarks.records results/speedrun record_0 record_1 --name "..." --command "diffprobe run ..."
    python -m benchmarks.records results/speedrun record_0 record_1 --name "..." --distances

The second adds a row first: experiments of a finished project that differ in seeds alone. It takes the place of a row
of that name on that dataset. The third gives a row that stands the distances of the same trainings' samples: they need
no probes, and may come from another results folder.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from benchmarks.machine import commit, processor
from benchmarks.row import ROOT
from diffprobe.data import images
from diffprobe.reporting.network_cost import remembered_cost
from diffprobe.reporting.plots import BLUE, GREY, INK, name_logarithmic, style
from diffprobe.reporting.tables import is_distance
from diffprobe.runtime.files import digest

ROWS = ROOT / "benchmarks" / "records.jsonl"
PAGE, FIGURE = ROOT / "docs" / "RECORDS.md", ROOT / "docs" / "records.png"
BEGIN, END = "<!-- benchmarks.records: from here -->\n", "<!-- benchmarks.records: to here -->\n"
HEAD = ("row", "accuracy on test", "by", "one layer", "as published", "kNN", "Fréchet distance")
HEAD += ("images", "TFLOP", "minutes", "processor", "commit", "command")
PIXELS = "pixels_logistic"  # logistic regression on raw pixels, the baseline of every dataset
SAMPLES = "samples"  # figures of samples, beside those on the splits
SMALL: Any = {"textcoords": "offset points", "fontsize": 8, "color": INK}
Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.records", description="Rows of docs/RECORDS.md.")
    parser.add_argument("results", type=Path, nargs="?", help="results of a finished project")
    parser.add_argument("experiments", nargs="*", help="experiments of one row, which differ in seeds alone")
    parser.add_argument("--name", help="what the row is of")
    parser.add_argument("--command", help="the command that made it")
    parser.add_argument("--distances", action="store_true", help="the row stands: add its samples' distances")
    parser.add_argument("--commit", default=commit(), help="the commit that it was made by (default: the present one)")
    arguments = parser.parse_args()
    rows = [json.loads(line) for line in ROWS.read_text().splitlines()]
    if arguments.distances:
        add_distances(rows, arguments.name, arguments.results, arguments.experiments)
    elif arguments.results:
        new = {"name": arguments.name, **measured(arguments.results, arguments.experiments)}
        new |= {"command": arguments.command, "commit": arguments.commit, "processor": processor()}
        rows = [row for row in rows if (row["dataset"], row["name"]) != (new["dataset"], new["name"])] + [new]
    ROWS.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    before, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text(before + BEGIN + tables(rows) + END + rest.split(END)[1])
    if len(rows) > 1:  # one point is no curve
        drawn(rows).savefig(FIGURE)


def measured(results: Path, experiments: Sequence[str]) -> Row:
    """The figures of experiments by evaluator, a value for each, and what their training took."""
    every = pd.read_csv(results / "summary.csv")
    frame = every[every["experiment"].isin(experiments)]
    dataset = frame["dataset"].iloc[0]
    raw = every[(every["dataset"] == dataset) & (every["evaluator"] == PIXELS)]
    return {
        "dataset": dataset,
        "pixels": float(raw["value"].iloc[0]),
        "experiments": list(experiments),
        **{split: by_evaluator(frame[frame["split"] == split]) for split in ("select", "test")},
        SAMPLES: of_samples(frame),
        **trained(results, experiments, dataset),
    }


def add_distances(rows: Sequence[Row], name: str, results: Path, experiments: Sequence[str]) -> None:
    """Give the row of that name the figures of samples that these results have."""
    frame = pd.read_csv(results / "summary.csv")
    frame = frame[frame["experiment"].isin(experiments)]
    dataset = frame["dataset"].iloc[0]
    new = {"name": name, "dataset": dataset, "experiments": list(experiments), **trained(results, experiments, dataset)}
    keys = ("name", "dataset", "experiments", "images", "network", "tflop")
    standing = [row for row in rows if all(row[key] == new[key] for key in keys)]
    if not standing:
        raise SystemExit(f"{results}: not the trainings of a row {name!r}; enter that first, without --distances")
    standing[0][SAMPLES] = of_samples(frame)


def of_samples(frame: pd.DataFrame) -> dict[str, list[float]]:
    """Distances, precision and the like. Their split is that of the reference."""
    return by_evaluator(frame[frame["sampler"].notna()])


def by_evaluator(frame: pd.DataFrame) -> dict[str, list[float]]:
    return {name: rows["value"].tolist() for name, rows in frame.groupby("evaluator")}


def trained(results: Path, experiments: Sequence[str], dataset: str) -> Row:
    """Images, FLOPs and minutes of training."""
    data = images.describe(results / "data" / dataset / "images.h5")
    receipts = [
        [json.loads(path.read_text()) for path in (results / "runs" / name).glob("checkpoints/*/receipt.json")]
        for name in experiments
    ]
    seen = max(receipt["images"] for receipt in receipts[0])
    shape = data["channels"], data["size"], data["size"]
    cost = remembered_cost({"network": receipts[0][0]["config"]["network"]}, shape)
    return {
        "images": seen,
        "network": digest(receipts[0][0]["config"]["network"]),
        "tflop": seen * cost["training_flops"] / 1e12,
        "minutes": [minutes_of(each) for each in receipts],
        "threads": [each[0]["threads"] for each in receipts],
    }


def minutes_of(receipts: Sequence[Row]) -> float | None:
    """Of one training; None where it was killed and resumed, since only what came after is recorded."""
    steps = sum(receipt["to_step"] - receipt["from_step"] for receipt in receipts)
    whole = steps == max(receipt["to_step"] for receipt in receipts)
    return sum(receipt["seconds"] for receipt in receipts) / 60 if whole else None


def best(row: Row) -> str:
    """The linear evaluator with the best mean on `select`, where ideas are compared."""
    linear = {name: mean(values) for name, values in row["select"].items() if name in row["test"] and name != "knn"}
    return max(linear, key=lambda name: linear[name])


def tables(rows: Sequence[Row]) -> str:
    """A table for each dataset, the best row first."""
    text = ""
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        mine = [row for row in rows if row["dataset"] == dataset]
        mine.sort(key=lambda row: -mean(row["test"][best(row)]))
        lines = [HEAD, ["---"] * len(HEAD), *map(cells, mine)]
        text += f"\n**{dataset}**\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines) + "\n"
    return text


def cells(row: Row) -> list[str]:
    evaluator, test = best(row), row["test"]
    distance = next((values for name, values in row[SAMPLES].items() if is_distance(name)), None)
    return [
        row["name"],
        f"**{percent(test[evaluator])}**",
        evaluator,
        *(percent(test.get(name)) for name in ("linear", "published", "knn")),
        spread(distance, 2) if distance else "–",
        f"{row['images']:,}",
        f"{row['tflop']:,.0f}",
        spread(minutes(row), 1) if minutes(row) else "–",
        row["processor"],
        row["commit"],
        f"`{row['command']}`",
    ]


def minutes(row: Row) -> list[float]:
    """Of the trainings that had both cores from the first step to the last."""
    return [value for value, threads in zip(row["minutes"], row["threads"], strict=True) if value and threads == 2]


def percent(values: Sequence[float] | None) -> str:
    return "–" if values is None else spread([100 * value for value in values], 1)


def spread(values: Sequence[float], decimals: int) -> str:
    text = f"{mean(values):.{decimals}f}"
    return text if len(values) == 1 else f"{text} ± {stdev(values):.{decimals}f}"


def drawn(rows: Sequence[Row], dpi: int = 110) -> Figure:
    """Accuracy over FLOPs, a panel for each dataset: our recipe as a curve, the rows to beat as points and lines."""
    datasets = list(dict.fromkeys(row["dataset"] for row in rows))
    figure = Figure(figsize=(5.6 * len(datasets), 3.6), dpi=dpi, layout="constrained")
    for axes, dataset in zip(figure.subplots(1, len(datasets), squeeze=False)[0], datasets, strict=True):
        style(axes)
        mine = [row for row in rows if row["dataset"] == dataset]
        levels = {"raw pixels": 100 * mine[0]["pixels"]}
        levels |= {row["name"]: accuracy(row)[0] for row in mine if is_untrained(row)}
        for name, level in levels.items():
            axes.axhline(level, color=GREY, linestyle="--", linewidth=1)
            axes.annotate(name, (1, level), (-4, -10), xycoords=axes.get_yaxis_transform(), ha="right", **SMALL)
        trained = sorted((row for row in mine if not is_untrained(row)), key=lambda row: row["tflop"])
        ours = [row for row in trained if row["network"] == max(mine, key=accuracy)["network"]]
        axes.plot([row["tflop"] for row in ours], [accuracy(row)[0] for row in ours], color=BLUE)
        for row in trained:
            value, error = accuracy(row)
            axes.errorbar(row["tflop"], value, error, marker="o", color=BLUE if row in ours else GREY)
            at_right = len(trained) > 1 and row["tflop"] > trained[-1]["tflop"] / 2  # the name goes to the left
            place = ((-8, 5 if row in ours else -12), "right") if at_right else ((6, -10), "left")
            axes.annotate(row["name"], (row["tflop"], value), place[0], ha=place[1], **SMALL)
        axes.set_xscale("log")
        name_logarithmic(axes.xaxis)
        axes.set_xlabel("FLOPs of training, in TFLOP")
        axes.set_ylabel(f"linear probe on {dataset}'s test, in %")
        axes.margins(x=0.15, y=0.12)
    return figure


def is_untrained(row: Row) -> bool:
    """Whether its weights stayed as they were made."""
    return all(name.startswith("untrained") for name in row["experiments"])


def accuracy(row: Row) -> tuple[float, float]:
    """In per cent, with the deviation over trainings."""
    values = [100 * value for value in row["test"][best(row)]]
    return mean(values), stdev(values) if len(values) > 1 else 0.0


if __name__ == "__main__":
    main()
