"""Measures the code itself: size, words, types, comments, and what a new kind costs. Imports nothing of diffprobe.

    python -m benchmarks.house                        the working tree
    python -m benchmarks.house --against 9cf544f      beside another git revision, unpacked into a temporary folder
    python -m benchmarks.house --list                 with the names and places behind the counts

It only reads. docs/BENCHMARKS.md keeps the tables.
"""

import argparse
import ast
import io
import re
import statistics
import subprocess
import sys
import tarfile
import tempfile
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
WORDS = ("found", "known", "asked", "told")  # vague where the field has a term of its own
KINDS = ("network", "objective", "evaluator", "source", "task")
EXTENDING = "docs/extending.md"
# Files that a new kind touched before there were plugins, counted by hand for the revision that is compared with.
# Source: config/datasets.py (model and union), data/sources/NAME.py and its table in data/sources/__init__.py.
# An evaluator took four to twelve files; SODA, the task that was planned, about seventeen.
BEFORE_PLUGINS = {"network": "7", "objective": "6", "evaluator": "4 to 12", "source": "3", "task": "17"}
BRANCH = re.compile(r"""(?<!for )\bkind["']?\]?\s*(?:==|!=|(?:not )?in \()|\bmatch\s+[\w.]*(?:kind|\["']kind["']\])""")
PRAGMA = re.compile(r"#\s*(?:noqa|type:|pragma|fmt:|ruff:|snakefmt:|!)[^(]*$")
MYPY = "[mypy]\nplugins = pydantic.mypy\nmypy_path = src\nfiles = src\n"  # where pyproject.toml has no [tool.mypy]


@dataclass(frozen=True)
class Source:
    """One file: its text, and its syntax tree where it is plain Python (rules are not)."""

    path: Path  # relative to the tree
    text: str
    tree: ast.Module | None

    @property
    def lines(self) -> int:
        return len(self.text.splitlines())


@dataclass
class Measures:
    """The rows of the table, in their order, and what stands behind the counts."""

    rows: dict[str, str] = field(default_factory=dict)
    behind: dict[str, list[str]] = field(default_factory=dict)


def read(root: Path, *patterns: str) -> list[Source]:
    """The files that match glob patterns below a tree."""
    sources = []
    for path in sorted({path for pattern in patterns for path in root.glob(pattern)}):
        text = path.read_text(encoding="utf-8")
        sources.append(Source(path.relative_to(root), text, ast.parse(text) if path.suffix == ".py" else None))
    return sources


def functions(sources: list[Source]) -> Iterator[tuple[Source, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for source in sources:
        for node in ast.walk(source.tree) if source.tree else ():
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield source, node


def aliases_in(source: Source) -> set[str]:
    """Names that a module gives to a dictionary type, as in `Recipe = dict[str, Any]`."""
    names = set()
    for node in source.tree.body if source.tree else ():
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript) and is_loose(node.value, set()):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


def visible_aliases(source: Source, everywhere: set[str]) -> set[str]:
    """The aliases that a module defines, or imports from another; a class of its own may have the same name."""
    nodes = source.tree.body if source.tree else []
    imported = {name.name for node in nodes if isinstance(node, ast.ImportFrom) for name in node.names}
    return aliases_in(source) | (everywhere & imported)


def is_loose(annotation: ast.expr | None, aliases: set[str]) -> bool:
    """Whether an annotation is missing, Any, or a dictionary (in a union too): a type without a shape."""
    if annotation is None:
        return True
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):  # a quoted annotation
        return is_loose(ast.parse(annotation.value, mode="eval").body, aliases)
    if isinstance(annotation, ast.BinOp):  # dict | None
        return is_loose(annotation.left, aliases) or is_loose(annotation.right, aliases)
    if isinstance(annotation, ast.Subscript):
        return is_loose(annotation.value, aliases)
    name = annotation.attr if isinstance(annotation, ast.Attribute) else getattr(annotation, "id", "")
    return name in {"dict", "Any", "Mapping", "MutableMapping"} | aliases


def parameters(sources: list[Source], everywhere: set[str]) -> tuple[int, list[str]]:
    """How many parameters functions have, `self` and `cls` apart, and where the loosely typed ones are."""
    count, loose = 0, []
    aliases_of = {source.path: visible_aliases(source, everywhere) for source in sources}
    for source, node in functions(sources):
        spec = node.args
        every = [*spec.posonlyargs, *spec.args, *spec.kwonlyargs, *filter(None, (spec.vararg, spec.kwarg))]
        for parameter in every:
            if parameter.arg in ("self", "cls"):
                continue
            count += 1
            if is_loose(parameter.annotation, aliases_of[source.path]):
                loose.append(f"{source.path}:{parameter.lineno} {node.name}({parameter.arg})")
    return count, loose


def word_count(sources: list[Source]) -> tuple[Counter[str], list[str]]:
    """The four words in identifiers (their parts between underscores) and prose; not within longer words."""
    counts: Counter[str] = Counter()
    places = []
    for source in sources:
        for number, line in enumerate(source.text.splitlines(), 1):
            for word in re.findall(rf"(?<![a-z])({'|'.join(WORDS)})(?![a-z])", line, re.IGNORECASE):
                counts[word.lower()] += 1
                places.append(f"{source.path}:{number} {line.strip()}")
    return counts, places


def docstring_lines(tree: ast.Module | None) -> set[int]:
    lines: set[int] = set()
    for node in ast.walk(tree) if tree else ():
        # Any expression statement that is only a string documents something; it is no code.
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return lines


def comments_and_code(sources: list[Source]) -> tuple[int, int]:
    """Lines that carry a comment, whole or trailing, and lines of code; docstrings and pragmas are neither."""
    comments = code = 0
    blank = (tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER, tokenize.COMMENT)
    for source in sources:
        documented, used, commented = docstring_lines(source.tree), set(), set()
        for token in tokenize.generate_tokens(io.StringIO(source.text).readline):
            if token.type == tokenize.COMMENT and not PRAGMA.match(token.string):
                commented.add(token.start[0])
            elif token.type not in blank:
                used |= set(range(token.start[0], token.end[0] + 1))
        comments += len(commented)
        code += len(used - documented)
    return comments, code


def comment_rate(sources: list[Source]) -> float:
    """Lines with a comment per 100 lines of code."""
    comments, code = comments_and_code(sources)
    return 100 * comments / max(code, 1)


def shared_classes(sources: list[Source]) -> dict[str, list[str]]:
    """Class names that several modules define, with these modules."""
    homes: defaultdict[str, list[str]] = defaultdict(list)
    for source in sources:
        for node in source.tree.body if source.tree else ():
            if isinstance(node, ast.ClassDef):
                homes[node.name].append(str(source.path))
    return {name: paths for name, paths in sorted(homes.items()) if len(paths) > 1}


def mypy_errors(root: Path) -> tuple[str, list[str]]:
    """Errors of mypy with pydantic's plugin over src/, or a dash where mypy is not installed."""
    with tempfile.TemporaryDirectory() as cache:
        config = ROOT / "pyproject.toml"  # the working tree's settings judge both revisions
        if "[tool.mypy]" not in config.read_text():
            config = Path(cache, "mypy.ini")
            config.write_text(MYPY)
        command = [sys.executable, "-m", "mypy", "--config-file", str(config), "--cache-dir", cache]
        run = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if "No module named mypy" in run.stderr:
        return "-", []
    errors = [line for line in run.stdout.splitlines() if ": error:" in line]
    return (str(len(errors)), errors) if run.returncode in (0, 1) else (f"mypy: {run.stderr.strip()[:60]}", [])


def files_of_kinds(root: Path) -> dict[str, str]:
    """Files that each kind of extension costs, by the worked examples of docs/extending.md.

    The hook: a section whose heading names the kind (`## A network`), in which each file is a fenced block that names
    its path, after the language (```python mine/network.py) or in a comment that is its first line. Files of the same
    path count once; tests (test_*.py), the config that lists the plugin (*.yaml) and shell lines do not count.
    """
    page = root / EXTENDING
    if not page.exists():
        return BEFORE_PLUGINS
    costs = {}
    for section in re.split(r"^## ", page.read_text(), flags=re.MULTILINE)[1:]:
        heading, _, body = section.partition("\n")
        kind = next((kind for kind in KINDS if re.search(rf"\b{kind}s?\b", heading, re.IGNORECASE)), None)
        fences = re.findall(r"^```\w*[ \t]*(?:title=)?\"?([\w./-]*)\"?\n(?:#\s*([\w./-]+\.\w+)\b)?", body, re.MULTILINE)
        paths = {named or commented for named, commented in fences if named or commented}
        counted = [
            path for path in paths if Path(path).suffix in (".py", ".smk") and not Path(path).name.startswith("test_")
        ]
        if kind and counted:
            costs[kind] = str(len(counted))
    return {kind: costs.get(kind, "-") for kind in KINDS}


def median_and_most(lengths: list[int]) -> str:
    return f"{statistics.median(lengths):.0f} / {max(lengths)}"


def measure(root: Path, with_mypy: bool, suite_seconds: float | None) -> Measures:
    """All rows for one tree."""
    src, tests = read(root, "src/**/*.py"), read(root, "tests/**/*.py")
    scripts, rules = read(root, "workflow/scripts/*.py"), read(root, "Snakefile", "rules/*.smk")
    prose = read(root, "workflow/report/*.rst")
    result = Measures()
    rows, behind = result.rows, result.behind
    for name, sources in (("src", src), ("rules, Snakefile", rules), ("workflow/scripts", scripts), ("tests", tests)):
        rows[f"lines: {name}"] = str(sum(source.lines for source in sources))
        rows[f"lines of code alone: {name}"] = str(comments_and_code(sources)[1])

    aliases = set[str]().union(*map(aliases_in, [*src, *scripts]))
    for name, sources in (("workflow/scripts", scripts), ("src", src)):
        count, loose = parameters(sources, aliases)
        rows[f"dict, Any or untyped parameters: {name}"] = f"{100 * len(loose) / max(count, 1):.1f} % of {count}"
        behind[f"loose parameters, {name}"] = loose

    for name, sources in (("src, rules, workflow", [*src, *rules, *scripts, *prose]), ("tests", tests)):
        counts, places = word_count(sources)
        each = ", ".join(f"{word} {counts[word]}" for word in WORDS)
        rows[f"four words: {name}"] = f"{counts.total()} ({each})"
        behind[f"four words, {name}"] = places

    branches = [
        f"{source.path}:{number} {line.strip()}"
        for source in (*src, *rules, *scripts)
        for number, line in enumerate(source.text.splitlines(), 1)
        if BRANCH.search(line)
    ]
    rows["branches on a kind"] = str(len(branches))
    behind["branches on a kind"] = branches

    rows["README bytes"] = str((root / "README.md").stat().st_size)
    rows["comment lines per 100 of code: src"] = f"{comment_rate(src):.1f}"
    rows["comment lines per 100 of code: scripts, rules"] = f"{comment_rate([*scripts, *rules]):.1f}"
    rows["median / longest file: src"] = median_and_most([source.lines for source in src])
    lengths = [(node.end_lineno or node.lineno) - node.lineno + 1 for _, node in functions([*src, *scripts])]
    rows["median / longest function: src, scripts"] = median_and_most(lengths)

    shared = shared_classes([*src, *scripts])
    rows["class names with several meanings"] = str(len(shared))
    behind["class names with several meanings"] = [f"{name}: {', '.join(paths)}" for name, paths in shared.items()]
    rows["mypy errors"], behind["mypy errors"] = mypy_errors(root) if with_mypy else ("-", [])

    for kind, cost in files_of_kinds(root).items():
        rows[f"files for a new {kind}"] = cost
    rows["suite, minutes"] = f"{suite_seconds / 60:.1f}" if suite_seconds is not None else "-"
    return result


def unpack(revision: str, folder: str) -> Path:
    """The tree of a git revision, written into a folder."""
    archive = subprocess.run(["git", "archive", revision], cwd=ROOT, capture_output=True, check=False)
    if archive.returncode:
        sys.exit(f"{revision}: {archive.stderr.decode().strip()}; name a commit, a branch or a tag of this repository")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as members:
        members.extractall(folder, filter="data")
    return Path(folder)


def table(columns: dict[str, Measures]) -> str:
    """The measures side by side, as Markdown."""
    lines = [["", *columns], ["---"] * (1 + len(columns))]
    names = next(iter(columns.values())).rows
    lines += [[name, *(measures.rows[name] for measures in columns.values())] for name in names]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", metavar="REV", help="a git revision to show in a column before the working tree")
    parser.add_argument("--no-mypy", action="store_true", help="skip mypy, which takes most of the time")
    parser.add_argument("--list", action="store_true", help="also list the places that are counted")
    parser.add_argument(
        "--suite-seconds",
        nargs="+",
        type=float,
        default=[],
        metavar="S",
        help="of the tree, then of REV: timed elsewhere",
    )
    arguments = parser.parse_args()
    here, before = [*arguments.suite_seconds, None, None][:2]
    columns = {}
    if arguments.against:
        with tempfile.TemporaryDirectory() as folder:
            columns[arguments.against] = measure(unpack(arguments.against, folder), not arguments.no_mypy, before)
    columns["working tree"] = measure(ROOT, not arguments.no_mypy, here)
    print(table(columns))
    if arguments.list:
        for name, places in columns["working tree"].behind.items():
            print(f"\n{name}: {len(places)}", *places, sep="\n  ")


if __name__ == "__main__":
    main()
