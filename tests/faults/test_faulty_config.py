"""Hostile config files: as text that is hardly YAML, and as YAML with any value replaced by one of another type."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mini
import pytest
import yaml
from damage import places, replaced, without
from harness import ROOT, Sandbox, clear_lines, complaints_of_lines, one_clear_line, restore
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

WHOLE = yaml.safe_dump(mini.config(), sort_keys=False)
COMMANDS = (["describe"], ["describe", "--json"], ["status"], ["results"], ["verify"])
LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "\n".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)
)
NESTED = "datasets: " + "[" * 100_000 + "]" * 100_000

TEXTS: dict[str, tuple[str | bytes, str]] = {  # the file, and what the line must name besides the file
    "empty": ("", "datasets"),
    "a comment": ("# nothing yet\n", "datasets"),
    "null": ("null\n", "datasets"),
    "a list": ("- datasets\n", "keys and values"),
    "a word": ("datasets\n", "keys and values"),
    "a number": ("1\n", "keys and values"),
    "JSON's true": ("true\n", "keys and values"),
    "binary": (b"\x89PNG\r\n\x1a\n\x00\x00", "YAML"),
    "not UTF-8": (b"datasets: \xff\xfe\n", "YAML"),
    "UTF-16": ("datasets: {}\n".encode("utf-16"), ""),
    "NUL": (b"datasets: {}\x00\n", "YAML"),
    "tabs": ("datasets:\n\tdigits: 1\n", "YAML"),
    "an open bracket": ("datasets: {\n", "YAML"),
    "an open quote": ("datasets: 'digits\n", "YAML"),
    "two documents": ("datasets: {}\n---\nexperiments: {}\n", "YAML"),
    "code": ("datasets: !!python/object/apply:os.system ['touch ../outside/owned']\n", "YAML"),
    "a class": ("datasets: !!python/name:os.system\n", "YAML"),
    "an unknown tag": ("datasets: !vault x\n", "YAML"),
    "an unknown alias": ("datasets: *digits\n", "YAML"),
    "an alias of itself": ("datasets: &a [*a]\n", "alias a"),
    "a mapping of itself": ("datasets: &a {digits: *a}\n", "alias a"),
    "laughs": (LAUGHS + "\n" + WHOLE, ""),
    "laughs in a name": (LAUGHS + "\nonly: *a11\n" + WHOLE, ""),
    "nested": (NESTED, ""),
    "nested in flow": ("datasets: " + "{a: " * 5_000 + "1" + "}" * 5_000, ""),
    "an impossible date": ("datasets: 2024-13-45\n", "YAML"),
    "a key that is a list": ("? [a, b]\n: 1\n", ""),
    "a key that is a mapping": ("? {a: b}\n: 1\n", ""),
    "a key that is a number": (WHOLE + "7: x\n", "7"),
    "a key that is null": (WHOLE + "null: x\n", ""),
    "a key that is no word": (WHOLE + "true: x\n", ""),
    "a key that is a date": (WHOLE + "2024-01-01: x\n", "2024"),
    "a key with a line break": (WHOLE + '"a\\nb": x\n', r"a\nb"),
    "a key with an escape": (WHOLE + '"a\\e[2Jb": x\n', r"\x1b"),
    "a key twice": (WHOLE + "datasets: {}\n", "datasets"),
    "a key twice, deep": ("datasets: {a: {size: 8, size: 9}}\n", "size"),
    "a key twice, quoted": ("datasets: {a: {size: 8, 'size': 9}}\n", "size"),
    "a key twice, of other types": ("datasets: {1: {}, 0x1: {}}\n", "1"),
    "a merge of no mapping": ("datasets: {<<: 1}\n", "YAML"),
    "a merge of itself": ("datasets: &a {<<: *a}\n", ""),
    "a huge number": (WHOLE.replace("per_class: 24", f"per_class: {'9' * 5000}"), ""),
    "a large number": (WHOLE.replace("per_class: 24", "per_class: 1" + "0" * 300), ""),
    "an unset variable": ("results: $NOT_SET_HERE/x\n" + WHOLE.replace("results: results\n", ""), "NOT_SET_HERE"),
    "braces in a path": ("results: '{a}'\n" + WHOLE.replace("results: results\n", ""), "results"),
    "NUL in a path": ('results: "a\\0b"\n' + WHOLE.replace("results: results\n", ""), "line"),
    "a line break in a path": ('results: "a\\nb"\n' + WHOLE.replace("results: results\n", ""), "results"),
    "an escape in a path": ('results: "a\\e[2J"\n' + WHOLE.replace("results: results\n", ""), "results"),
    "results that are a file": ("results: mine.txt\n" + WHOLE.replace("results: results\n", ""), ""),
    "an unknown experiment": (WHOLE + "only: nobody\n", "nobody"),
    "half a surrogate": (WHOLE + '"\\ud800": x\n', ""),
}


@pytest.mark.parametrize("name", TEXTS)
def test_hostile_text(name: str, sandbox: Sandbox) -> None:
    text, named = TEXTS[name]
    file = sandbox.work / "bad.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode(errors="surrogatepass"))
    if name == "results that are a file":
        sandbox.refuses("verify", "--configfile", file, names=["mine.txt"])
        return
    for command in (["describe"], ["status"]):
        sandbox.inputs += 1
        with sandbox.unchanged():
            outcome = sandbox.run(*command, "--configfile", file)
        clear_lines(outcome, "bad.yaml", named)


def test_what_is_no_file(sandbox: Sandbox) -> None:
    (sandbox.work / "folder.yaml").mkdir()
    (sandbox.work / "loop.yaml").symlink_to("loop.yaml")
    (sandbox.work / "broken.yaml").symlink_to("nowhere.yaml")
    (sandbox.work / ("x" * 200)).mkdir()
    for name in ("folder.yaml", "loop.yaml", "broken.yaml", "none.yaml", "mine.txt/a.yaml", "a" * 300, "/dev/zero"):
        sandbox.refuses("describe", "--configfile", name, names=[name[:200]])
    for name in ("a\nb.yaml", "a\x1b[2J.yaml"):
        sandbox.refuses("describe", "--configfile", name)


def test_hostile_plugins(sandbox: Sandbox) -> None:
    """A plugin is code by design; what is no working plugin is named."""
    plugins = {
        "syntax.py": "def (:\n",
        "raises.py": "raise ValueError('no\\nno')\n",
        "exits.py": "import sys; sys.exit('bye')\n",
        "nul.py": "x = 1\x00\n",
        "binary.py": b"\x89PNG\xff",
    }
    for name, text in plugins.items():
        (sandbox.work / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        (sandbox.work / "c.yaml").write_text(f"plugins: [{name}]\n" + WHOLE)
        sandbox.refuses("describe", "--configfile", "c.yaml", names=[name], allowed=["*__pycache__*"], python=True)
    for value in (
        "[none.py]",
        "[.]",
        "[mine.txt]",
        "none.py",
        "[1]",
        "{a: b}",
        "[[a]]",
        "['']",
        "[$NONE]",
    ):
        (sandbox.work / "c.yaml").write_text(f"plugins: {value}\n" + WHOLE)
        sandbox.refuses("describe", "--configfile", "c.yaml", names=["plugins"], allowed=["*__pycache__*"], python=True)


# --- any value replaced by one of another type

SHIPPED = {path.stem: yaml.safe_load(path.read_text()) for path in sorted((ROOT / "config").glob("*.yaml"))}
# Whole ones: a file to be merged over another has many faults of its own, each with its line.
RECIPES = {"mini": mini.config()} | {
    name: recipe
    for name, recipe in SHIPPED.items()
    if all("process" in recipe.get("each", {}) | experiment for experiment in recipe.get("experiments", {}).values())
}
TEXT = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(
    [
        "",
        " ",
        "a b",
        "../up",
        "{x}",
        "$HOME/x",
        "~",
        "*",
        "a\nb",
        "\x1b[2J",
        "\u202e",
        "NaN",
        "null",
        "all",
        "auto",
        "-x",
    ]
)
NUMBERS = st.sampled_from([0, -1, 1, 2**31, 2**63, 10**9, 10**18, 10**40, 0.5, -0.5, 1e-300, 1e300, float("nan")]) | (
    st.sampled_from([float("inf"), -float("inf")])
)
SCALARS = st.none() | st.booleans() | NUMBERS | TEXT
VALUES = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(TEXT, SCALARS, max_size=3)
VALUES |= st.sampled_from([{"kind": "x"}, {"kind": ["unet"]}, {"kind": None}, [{"kind": "identity"}] * 3, [[[]]]])


@st.composite
def mutations(draw: st.DrawFn) -> tuple[str, Any]:
    """A recipe of which one value is another one, is left out, has another name, or has a stranger beside it."""
    recipe = copy.deepcopy(RECIPES[draw(st.sampled_from(["mini", "mini", *RECIPES]))])
    path = draw(st.sampled_from([path for path in places(recipe) if path]))
    where = ".".join(map(str, path))
    match draw(st.sampled_from(["value"] * 6 + ["without", "rename", "stranger"])):
        case "without":
            return f"without {where}", without(recipe, path)
        case "rename" if isinstance(path[-1], str):
            name, parent = draw(TEXT), path[:-1]
            value = follow(recipe, parent)
            renamed = {name if key == path[-1] else key: entry for key, entry in value.items()}
            return f"{where} is called {name!r}", replaced(recipe, parent, renamed)
        case "stranger" if isinstance(follow(recipe, path), dict):
            name, value = draw(TEXT), draw(VALUES)
            return f"{where} has {name!r}", replaced(recipe, path, follow(recipe, path) | {name: value})
    value = draw(VALUES)
    return f"{where}: {value!r}", replaced(recipe, path, value)


def follow(value: Any, path: tuple[str | int, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def attempt(sandbox: Sandbox, config: Any, command: list[str]) -> list[str]:
    """What is wrong with how a command takes a config; it may well accept it."""
    file = sandbox.work / "mutated.yaml"
    file.write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    with sandbox.unchanged():
        outcome = sandbox.run(*command, "--configfile", file.name)
    if outcome.status == 0 and not outcome.crash:
        return [f"{outcome.grown} MiB"] if outcome.grown > 1024 else []
    sandbox.inputs += 1
    # Those two may name a file of results that does not fit the config.
    return complaints_of_lines(outcome, "" if command[0] in ("results", "verify") else "mutated.yaml")


@pytest.mark.parametrize("part", range(4))
def test_any_value_of_another_type(part: int, sandbox: Sandbox, finished: Path) -> None:
    """In the folder of a finished project, so that commands have files to look at."""
    restore(finished, sandbox.work)

    @seed(part)
    @settings(
        max_examples=60, deadline=None, database=None, phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(mutations(), st.sampled_from(COMMANDS))
    def check(mutation: tuple[str, Any], command: list[str]) -> None:
        what, config = mutation
        wrong.extend(f"{' '.join(command)}: {what}: {line}" for line in attempt(sandbox, config, command))

    wrong: list[str] = []
    check()
    assert not wrong, f"{len(wrong)}\n" + "\n".join(wrong)


GREEDY: dict[str, Callable[[dict], None]] = {
    "blocks": lambda e: e["tiny"]["network"].update(blocks=10**9),
    "channels": lambda e: e["tiny"]["network"].update(channels=10**9),
    "multipliers": lambda e: e["tiny"]["network"].update(multipliers=[1] * 100_000),
    "multiplier": lambda e: e["tiny"]["network"].update(multipliers=[1, 10**12]),
    "depth": lambda e: e["tiny_dit"]["network"].update(depth=10**9),
    "width": lambda e: e["tiny_dit"]["network"].update(width=2 * 10**9),
    "patch": lambda e: e["tiny_dit"]["network"].update(patch=10**9),
    "checkpoints": lambda e: e["tiny"]["train"].update(checkpoints=list(range(1, 100_000))),
    "checkpoint": lambda e: e["tiny"]["train"].update(checkpoints=[10**18]),
    "batch": lambda e: e["tiny"]["train"].update(batch=10**18),
    "steps": lambda e: e["tiny"]["sample"]["samplers"]["heun2"].update(steps=10**12),
    "images": lambda e: e["tiny"]["sample"].update(images=10**15),
    "levels": lambda e: e["tiny"]["probe"].update(levels=[0.1 + i / 1e5 for i in range(100_000)]),
    "seeds": lambda e: e["tiny"]["probe"].update(seeds=list(range(10**6))),
    "augmented": lambda e: e["tiny"]["probe"].update(augmented=10**12),
    "taps": lambda e: e["tiny"]["probe"].update(taps=["mid"] * 10**5),
}


@pytest.mark.parametrize("key", GREEDY)
def test_numbers_beyond_reason(key: str, sandbox: Sandbox) -> None:
    """Described within seconds and little memory, or refused by key."""
    config = mini.config()
    GREEDY[key](config["experiments"])
    (sandbox.work / "greedy.json").write_text(json.dumps(config))  # YAML too, and read faster
    sandbox.inputs += 1
    with sandbox.unchanged():
        outcome = sandbox.run("describe", "--configfile", "greedy.json", seconds=30)
    if outcome.status != 0:
        one_clear_line(outcome, "greedy.json" if "greedy.json: " in outcome.err else key)
    assert outcome.grown < 1024
