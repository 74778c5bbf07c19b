"""Tables of docs/SCALING.md: their format, and those about reading from an object store."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from diffprobe.latents.shards import CHUNK
from diffprobe.reporting.describe import si

LATENCIES, BANDWIDTHS = (2, 10, 50, 200), (0, 90e6)  # ms; bytes/s of a connection, 0: any number
WINDOW = 12  # chunks of 4 MiB in `train.window_mib`: 48
HOUR = 3600  # s

Row = tuple[object, ...]


def table(head: Sequence[str], rows: Iterator[Row]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines) + "\n"


def hours(seconds: float) -> str:
    value = seconds / HOUR
    return f"{value:,.0f} h" if value >= 100 else f"{value:.1f} h" if value >= 1 else f"{60 * value:.0f} min"


def needed(rate: float, size: int) -> Iterator[Row]:
    """For `rate` rows/s in chunks of `size` bytes: how many requests at once suffice, in windows of WINDOW chunks,
    or of more where even all at once do not.
    """
    for bandwidth in BANDWIDTHS:
        for latency in LATENCIES:
            request = latency / 1000 + (size / bandwidth if bandwidth else 0)
            window = max(WINDOW, math.ceil(rate / CHUNK * request))
            # A window is there after as many rounds of requests as it takes, and used in window * CHUNK / rate.
            suffice = next(n for n in range(1, window + 1) if math.ceil(window / n) * request <= window * CHUNK / rate)
            connection = f"{si(bandwidth)}B/s" if bandwidth else "any"
            yield (
                f"{latency} ms", connection, f"{1000 * request:.0f} ms", f"{rate / CHUNK * request:.1f}", suffice,
                f"{window * size / 2**20:g} MiB",
            )  # fmt: skip


def measured(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return "Not measured yet: `python benchmarks/object_store.py --lines benchmarks/object_store.jsonl`.\n"
    first = rows[0]
    load = first["load"]  # of other work alone; later ones have the server's and the consumers' too
    others = f"**beside other work (load before: {load})**" if load > first["cpus"] / 2 else f"load before: {load}"
    head = (
        f"Measured on {first['date'][:10]}, {first['cpus']} cores of {first['cpu']}, {others}; a store of "
        f"{first['rows']:,} rows, {first['seconds']:g} s a measurement. *Free* is the rate without buckets, *cores* "
        "the reader's CPU seconds per second, *MB* its anonymous memory.\n"
    )
    columns = (
        "way",
        "requests at once",
        "window, MiB",
        "processes",
        "rows/s",
        "stalled",
        "longest",
        "cores",
        "MB",
        "free",
    )
    return f"{head}\n{table(columns, map(measured_row, rows))}"


def measured_row(row: Mapping[str, Any]) -> Row:
    free = f"{row['free']:,}" if row["free"] else ""
    return (
        row["way"], row["readers"], f"{row['window_mib']:g}", row["processes"], f"{row['rate']:,}",
        f"{row['stalled']:.1%}", f"{row['longest_ms']:.0f} ms", row["cores"], row["mb"], free,
    )  # fmt: skip
