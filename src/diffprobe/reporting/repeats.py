"""The table of experiments that were repeated with other seeds: mean and spread, and pairs of equal seeds."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import pandas as pd

from diffprobe.config.names import level_name
from diffprobe.reporting.rows import LossRow, ResultRow
from diffprobe.reporting.tables import by_level, of_classifiers, summary

Members = Mapping[str, Sequence[int]]  # the seeds of each experiment of a group
WHAT = ["kimg", "evaluator", "split", "sampler", "level"]  # what a figure is of, whichever experiment
COLUMNS = ["experiment", *WHAT, "seeds", "value", "spread", "compared", "pairs", "difference", "difference spread"]
LAST = 0.1  # of the images up to a checkpoint: those whose losses are averaged


def repeats(rows: Iterable[ResultRow], groups: Mapping[str, Members]) -> pd.DataFrame:
    """One row per group and figure, columns COLUMNS; `experiment` is the group's name.

    `value` and `spread` are mean and standard deviation (of a sample) over the group's experiments. `difference` is the
    mean over `pairs` of equal seeds of the group's value minus that of the group `compared`, the first one. Seeds that
    both have had the same images in the same order, and the same noise.
    """
    frame = summary(rows)
    # Elsewhere the level is an experiment's choice, as the checkpoint is on `test`.
    frame["level"] = frame["sigma"].map(level_name).where(by_level(frame), "")
    # Classifiers read `test` at the checkpoint that each experiment chose.
    frame["kimg"] = frame["kimg"].astype("string").mask(of_classifiers(frame), "").fillna("")
    values = {name: frame[frame["experiment"] == name].set_index(WHAT)["value"] for name in set(frame["experiment"])}
    # Of a group the figures by row, its members' seeds by column.
    tables = {
        group: pd.DataFrame({tuple(seeds): values[name] for name, seeds in members.items() if name in values})
        for group, members in groups.items()
    }
    first = next(iter(tables), "")
    lines = [line for group, table in tables.items() for line in compared(group, table, first, tables[first])]
    return pd.DataFrame(lines, columns=COLUMNS).astype({"pairs": "Int64"})


def rounded(value: float) -> float:
    """To five significant digits."""
    return float(f"{value:.5g}")


def compared(group: str, table: pd.DataFrame, other: str, others: pd.DataFrame) -> Iterator[dict[str, object]]:
    for what, own in table.iterrows():
        values = own.dropna()
        line = {"experiment": group, **dict(zip(WHAT, what, strict=True))}
        line |= {"seeds": len(values), "value": rounded(values.mean()), "spread": rounded(values.std())}
        if group != other and what in others.index:
            pairs = (values - others.loc[what]).dropna()  # by seeds
            line |= {"compared": other, "pairs": len(pairs), "difference": rounded(pairs.mean())}
            line |= {"difference spread": rounded(pairs.std())}
        yield line


def loss_row(about: ResultRow, history: Sequence[LossRow]) -> ResultRow:
    """The mean training loss over the last tenth of the images up to a checkpoint, from its part of the history.

    `about` holds the columns of the row that identify the checkpoint.
    """
    frame = pd.DataFrame({"images": row["images"], "loss": row["loss"]} for row in history)
    frame["length"] = frame["images"].diff().bfill().fillna(1)  # the first row's is that of the second
    last = frame[frame["images"] > (1 - LAST) * frame["images"].iloc[-1]]
    value = (last["loss"] * last["length"]).sum() / last["length"].sum()
    return about | {"evaluator": "training_loss", "value": float(value)}
