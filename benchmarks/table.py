"""The table of `make bench`, and docs/BENCHMARKS.md's part that is made from its JSON lines."""

from collections.abc import Sequence
from typing import Any

from benchmarks.row import ROOT

PAGE = ROOT / "docs" / "BENCHMARKS.md"
BEGIN, END = "<!-- make bench: from here", "<!-- make bench: to here -->"
Record = dict[str, Any]
HEAD = (
    "job",
    "plain",
    "ours",
    "figure",
    "range",
    "in CPU time",
    "must",
    "go for",
    "verdict",
    "memory, MiB",
    "ten times the work",
)


def table(records: Sequence[Record]) -> str:
    """Markdown, a line for each record."""
    lines = [HEAD, ["---"] * len(HEAD), *(cells(record) for record in records)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cells(record: Record) -> list[str]:
    sides, shown = record["sides"], FORMATS[record["figure"]]
    low, high = record["range"]
    at_most = record["figure"] != "ratio"
    plain = sides.get(record["plain"])
    ours = sides[record["ours"]]
    whose = "children_mib" if record["figure"] == "seconds" else "peak_mib"
    return [
        record["job"] + (f" ({record['remark']})" if record["remark"] else ""),
        rate(plain, record) if plain else "–",
        rate(ours, record) if record["figure"] != "seconds" else "–",
        shown(record["value"]),
        f"{shown(low)} to {shown(high)}",
        shown(record["value_cpu"]) if "value_cpu" in record else "",
        ("≤ " if at_most else "≥ ") + shown(record["must"]),
        shown(record["go"]),
        verdict(record),
        " → ".join(f"{side[whose]:,.0f}" for side in sides.values()),
        slope(record["slope"]),
    ]


FORMATS = {
    "ratio": lambda value: f"{value:.2f}",
    "overhead": lambda value: f"{value:+.1f} %",
    "seconds": lambda value: f"{value:.2f} CPU s",
}


def rate(side: Record, record: Record) -> str:
    value = side["rate"]
    return f"{value:,.0f} {record['unit']}" if value >= 100 else f"{value:.3g} {record['unit']}"


def verdict(record: Record) -> str:
    """By the median: `go` or `must` where it is reached, else `missed`."""
    sign = 1 if record["figure"] == "ratio" else -1
    for name in ("go", "must"):
        if sign * record["value"] >= sign * record[name]:
            return name
    return "**missed**"


def slope(measured: Record | None) -> str:
    if measured is None:
        return ""
    return f"{measured['of']}: {measured['time']:.1f} times the time, {measured['memory_mib']:+,.0f} MiB"


def write_page(records: Sequence[Record]) -> None:
    """Replace the page's generated part; it comes before the measurements that were made by hand."""
    text = PAGE.read_text()
    made = f"{BEGIN}, made by benchmarks/table.py -->\n{page(records)}\n{END}\n"
    if BEGIN in text:
        before, rest = text.split(BEGIN, 1)
        PAGE.write_text(before + made.rstrip("\n") + rest.split(END, 1)[1])
    else:
        title, _, rest = text.partition("\n## ")
        PAGE.write_text(f"{title}\n{made}\n## {rest}")


def page(records: Sequence[Record]) -> str:
    parts = ["## `make bench`", "", INTRODUCTION]
    machines: dict[str, list[Record]] = {}
    for record in records:
        machines.setdefault(about(record["machine"]), []).append(record)
    for machine, those in machines.items():
        parts += ["", machine, "", table(those)]
    parts += ["", "Agreement of the two sides, checked before they are timed: " + agreements(records) + "."]
    return "\n".join(parts)


INTRODUCTION = """\
Ours beside a plain reference of the same work (benchmarks/plain/): eager PyTorch in NCHW, a DataLoader, unfused Adam,
an average per parameter, `.item()` in every step; pytorch-fid's own network for Inception, a memory-mapped array in
full shuffle for latents. The same weights, machine and run, fp32 unless a line says otherwise, each side in a process
of its own, in turns. Figures are of the medians, ranges of neighbouring pieces. Ratios are of wall time. Overheads are
of CPU time, of the loop as jobs run it over forward, backward, optimiser and average alone. CPU s are user and system
time of a command and its children. Memory is the peak above that of the imports, plain → ours; of a command, the peak
of its largest process. `must` and `go for` are the issue's, which came from the peers' own code, run by hand."""


def about(machine: Record) -> str:
    versions = ", ".join(f"{name} {value}" for name, value in machine["versions"].items())
    return (
        f"{machine['date']}, commit {machine['commit']}: {machine['processor']}, {machine['cores']} cores, "
        f"{machine['threads']} threads, {machine['vector_units']}, {machine['memory_gib']} GiB; load before "
        f"{machine['load_before']}; {versions}."
    )


def agreements(records: Sequence[Record]) -> str:
    by_row = {record["row"]: record["agreement"] for record in records if record["agreement"]}
    return "; ".join(
        f"{name}: " + ", ".join(f"{each['what']} {each['difference']:.0e}" for each in those)
        for name, those in by_row.items()
    )
