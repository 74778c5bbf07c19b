"""Where the project's own files lie: in a clone, or in an installed package, whose wheel holds the workflow (setup.py).

A file of the project has one name in both, its path in a clone, so that receipts of both can be compared.
"""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
BUNDLED = PACKAGE / "project"  # what a clone has beside src/
WORKFLOW = BUNDLED if BUNDLED.exists() else PACKAGE.parents[1]  # the folder with Snakefile, rules, profiles and configs
ROOMS = {"workflow": WORKFLOW / "workflow", "src/diffprobe": PACKAGE}  # where code of ours lies, by its name in a clone


def project_name(path: str) -> str | None:
    """The path in a clone of a file of ours, whose real path is given; None of any other file."""
    for room, folder in ROOMS.items():
        if path.startswith(f"{folder}/"):
            return f"{room}{path.removeprefix(str(folder))}"
    return None


def project_file(name: str) -> Path:
    """The file of ours that has this path in a clone."""
    for room, folder in ROOMS.items():
        if name.startswith(f"{room}/"):
            return folder / name.removeprefix(f"{room}/")
    return WORKFLOW / name


def config_file(path: str | Path) -> Path:
    """A config as named, or where there is none the one of this name that comes with diffprobe."""
    ours = WORKFLOW / path
    return ours if not Path(path).exists() and ours.is_file() else Path(path)


def snakefile() -> Path:
    """The Snakefile to run: that of the current folder if it is a clone's or imports us, else our own."""
    own = Path("Snakefile")
    return own if own.is_file() and "diffprobe" in own.read_text(errors="replace") else WORKFLOW / "Snakefile"
