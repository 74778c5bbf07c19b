"""The commands before anything is computed. `describe` counts the FLOPs of a network once, and remembers them."""

from benchmarks.commands import DEMO, DRY, run, side
from benchmarks.row import Agreement, Line, Row, Setting

DESCRIBE = ("diffprobe", "describe", "--configfile", str(DEMO))
WEIGHTS = "imported/DiT-XL-2-256x256.safetensors", "LITE0"  # without them their recipes are refused


def check(tiny: bool) -> list[Agreement]:
    return []  # nothing to compare with; a command that fails ends the benchmark


def prepare(setting: Setting) -> None:
    run(DESCRIBE, setting.folder, XDG_CACHE_HOME="cache")
    for name in WEIGHTS:
        (setting.folder / name).parent.mkdir(exist_ok=True)
        (setting.folder / name).touch()


ROW = Row(
    lines=(
        Line("describe, a network never seen before", must=3, go=1, figure="seconds", ours="ours_first"),
        Line("describe, a network seen before", must=3, go=1, figure="seconds", ours="ours_again"),
        Line("snakemake -n of the demo", must=2.5, go=2, figure="seconds", ours="ours_dry_run"),
        Line("dry run of all recipes", must=10, go=8, figure="seconds", ours="ours_plan"),
        Line("diffprobe --help", must=0.5, go=0.3, figure="seconds", ours="ours_help"),
    ),
    sides={
        "ours_first": side(lambda _: DESCRIBE, XDG_CACHE_HOME="/dev/null/none"),
        "ours_again": side(lambda _: DESCRIBE, XDG_CACHE_HOME="cache"),
        "ours_dry_run": side(lambda _: [*DRY, str(DEMO)]),
        "ours_plan": side(lambda _: ["diffprobe", "plan"]),
        "ours_help": side(lambda _: ["diffprobe", "--help"]),
    },
    check=check,
    amount=1,
    unit="runs/s",
    rounds=3,
    prepare=prepare,
)
