"""The rows of docs/RECORDS.md and its figure, from benchmarks/records.jsonl.

    python -m benchmarks.records                                                          # tables and figure anew
    python -m benchmarks.records results/speedrun record_0 record_1 --name "..." --command "diffprobe run ..."

The second adds a row first: experiments of a finished project that differ in seeds alone. It takes the place of a row
of that name on that dataset.
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

ROWS = ROOT / "benchmarks" / "records.jsonl"
PAGE, FIGURE = ROOT / "docs" / "RECORDS.md", ROOT / "docs" / "records.png"
BEGIN, END = "<!-- benchmarks.records: from here -->\n", "<!-- benchmarks.records: to here -->\n"
HEAD = ("row", "accuracy on test", "by", "one layer", "as published", "kNN", "Fréchet distance")
HEAD += ("images", "TFLOP", "minutes", "processor", "commit", "command")
Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.records", description="Rows of docs/RECORDS.md.")
    parser.add_argument("results", type=Path, nargs="?", help="results of a finished project")
    parser.add_argument("experiments", nargs="*", help="experiments of one row, which differ in seeds alone")
    parser.add_argument("--name", help="what the row is of")
    parser.add_argument("--command", help="the command that made it")
    parser.add_argument("--commit", default=commit(), help="the commit that it was made by (default: the present one)")
    arguments = parser.parse_args()
    rows = [json.loads(line) for line in ROWS.read_text().splitlines()]
    if arguments.results:
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
    frame = pd.read_csv(results / "summary.csv")
    frame = frame[frame["experiment"].isin(experiments)]
    figures = {
        split: {name: rows["value"].tolist() for name, rows in frame[frame["split"] == split].groupby("evaluator")}
        for split in ("select", "test", "")
    }
    dataset = str(frame["dataset"].iloc[0])
    return {
        "dataset": dataset,
        "experiments": list(experiments),
        **{split or "samples": values for split, values in figures.items()},
        **trained(results, experiments, images.describe(results / "data" / dataset / "images.h5")),
    }


def trained(results: Path, experiments: Sequence[str], data: images.StoreSummary) -> Row:
    """Images, FLOPs and minutes of training."""
    receipts = [
        [json.loads(path.read_text()) for path in (results / "runs" / name).glob("checkpoints/*/receipt.json")]
        for name in experiments
    ]
    seen = max(receipt["images"] for receipt in receipts[0])
    shape = data["channels"], data["size"], data["size"]
    cost = remembered_cost({"network": receipts[0][0]["config"]["network"]}, shape)
    return {
        "images": seen,
        "tflop": seen * cost["training_flops"] / 1e12,
        "minutes": [sum(receipt["seconds"] for receipt in each) / 60 for each in receipts],
        "threads": [each[0]["threads"] for each in receipts],
    }


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
    distance = next((values for name, values in row["samples"].items() if name.startswith(("fd", "fid"))), None)
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
    """Of the trainings that had both cores."""
    return [value for value, threads in zip(row["minutes"], row["threads"], strict=True) if threads == 2]


def percent(values: Sequence[float] | None) -> str:
    return "–" if values is None else spread([100 * value for value in values], 1)


def spread(values: Sequence[float], decimals: int) -> str:
    text = f"{mean(values):.{decimals}f}"
    return text if len(values) == 1 else f"{text} ± {stdev(values):.{decimals}f}"


def drawn(rows: Sequence[Row], dpi: int = 110) -> Figure:
    """Accuracy over FLOPs, a panel for each dataset."""
    datasets = list(dict.fromkeys(row["dataset"] for row in rows))
    figure = Figure(figsize=(5.2 * len(datasets), 3.6), dpi=dpi, layout="constrained")
    for axes, dataset in zip(figure.subplots(1, len(datasets), squeeze=False)[0], datasets, strict=True):
        style(axes)
        mine = [row for row in rows if row["dataset"] == dataset]
        for row in mine:
            values = [100 * value for value in row["test"][best(row)]]
            error = stdev(values) if len(values) > 1 else 0
            ours = any(name.startswith("record") for name in row["experiments"])
            axes.errorbar(row["tflop"], mean(values), error, marker="o", color=BLUE if ours else GREY)
            place: Any = {"xytext": (6, -3), "textcoords": "offset points", "fontsize": 8, "color": INK}
            axes.annotate(row["name"], (row["tflop"], mean(values)), **place)
        axes.set_xscale("log")
        name_logarithmic(axes.xaxis)
        axes.set_xlabel("FLOPs of training, in TFLOP")
        axes.set_ylabel(f"linear probe on {dataset}'s test, in %")
        axes.margins(x=0.35)
    return figure


if __name__ == "__main__":
    main()
