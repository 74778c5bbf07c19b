"""The queue of measurements for a GPU names benchmarks, options and recipes that exist."""

import re
import shlex
from pathlib import Path

import pytest

from benchmarks.recipes import changed, recipes

ROOT = Path(__file__).parents[1]
QUEUE = [line for line in (ROOT / "benchmarks" / "gpu_queue").read_text().splitlines() if not line.startswith("#")]


@pytest.mark.parametrize("line", QUEUE)
def test_a_command_exists(line: str) -> None:
    python, m, module, *arguments = shlex.split(line)
    assert (python, m) == ("python", "-m")
    file = ROOT / f"{module.replace('.', '/')}.py"
    source = file.read_text() if file.is_file() else (ROOT / "src" / "diffprobe" / "__main__.py").read_text()
    for option in (argument for argument in arguments if argument.startswith("--")):
        assert f'"{option}"' in source or module == "diffprobe", option


def test_recipes_and_their_settings_exist() -> None:
    plan = recipes()
    for line in QUEUE:
        if not (names := re.findall(r"benchmarks\.throughput (\w+)|--recipe (\w+)", line)):
            continue
        recipe = plan[next(filter(None, names[0]))]
        settings = line.split("--set ")[1].split(" --")[0].split() if "--set" in line else []
        changed(recipe, settings)  # exits for a key that is not there
        if sampler := re.search(r"--sampler (\w+)", line):
            assert sampler[1] in recipe["samplers"]
