"""`make bench`: every row, ours beside a plain reference, as JSON lines and as a table.

    python -m benchmarks                    all rows; writes benchmarks/measured.jsonl and docs/BENCHMARKS.md
    python -m benchmarks ddpm dit           these rows; writes only where --out says
    python -m benchmarks --demo             all rows, and the demo, which takes minutes
    python -m benchmarks --page             only the page, from benchmarks/measured.jsonl

On an idle machine: about twelve minutes on two cores. Rows are files of benchmarks/rows/.
"""

import argparse
import json
import sys
import time
from pathlib import Path

from benchmarks import harness, machine, table
from benchmarks.row import NAMES, ROOT

KEPT = ROOT / "benchmarks" / "measured.jsonl"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"{', '.join(NAMES)}; default: all but demo")
    parser.add_argument("--demo", action="store_true", help="also the demo")
    parser.add_argument("--rounds", type=int, help="pieces of each side (default: the row's)")
    parser.add_argument("--out", type=Path, help="where the JSON lines of this run go")
    parser.add_argument("--page", action="store_true", help="only write the page, from what was measured before")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.rows if name not in NAMES]:
        parser.error(f"no such row: {', '.join(unknown)}; there are {', '.join(NAMES)}")
    if arguments.page:
        table.write_page(read(KEPT))
        return
    rows = arguments.rows or [name for name in NAMES if name != "demo"]
    rows += ["demo"] if arguments.demo and "demo" not in rows else []
    records, facts = [], machine.facts()
    for name in rows:
        begun = time.perf_counter()
        for record in harness.measure(name, arguments.rounds, say):
            records.append(record | {"machine": facts})
            if arguments.out:
                arguments.out.parent.mkdir(parents=True, exist_ok=True)
                write(arguments.out, records)
        say(f"{name}: {time.perf_counter() - begun:.0f} s in all")
    print(table.table(records))
    if not arguments.rows:
        publish(records)


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def publish(records: list[table.Record]) -> None:
    """Replace the rows of this run among those that are kept, and the page by all of them."""
    new = {record["row"] for record in records}
    kept = [record for record in read(KEPT) if record["row"] in NAMES and record["row"] not in new]
    together = sorted([*records, *kept], key=lambda record: NAMES.index(record["row"]))
    write(KEPT, together)
    table.write_page(together)
    say(f"written: {KEPT.relative_to(ROOT)}, {table.PAGE.relative_to(ROOT)}")


def read(path: Path) -> list[table.Record]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def write(path: Path, records: list[table.Record]) -> None:
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records))


if __name__ == "__main__":
    main()
