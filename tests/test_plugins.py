"""Kinds of a user's own: the worked examples of docs/extending.md run as plugins, from a folder outside the package."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from diffprobe.config import plugins
from diffprobe.config.kinds import Kind, is_family
from diffprobe.config.load import load, parse
from diffprobe.config.networks import Network
from diffprobe.networks.build import build
from diffprobe.plan.job_arguments import pretrain
from diffprobe.reporting.describe import describe
from diffprobe.runtime.errors import UserError

ROOT = Path(__file__).parents[1]
EXAMPLES = re.findall(r"^```python (mine/\w+\.py)\n(.*?)^```", (ROOT / "docs/extending.md").read_text(), re.M | re.S)
MODELS = ["mixer", "denoising", "midpoint", "centroid", "spread", "shapes", "joint"]
TRAIN = {"checkpoints": [4], "batch": 64, "lr": 3.0e-3, "averages": {"ema": {"kind": "half_life", "kimg": 1}}}
PROBE = {"levels": [0.3], "evaluators": {"ridge": {"kind": "ridge"}, "centroid": {"kind": "centroid"}}}
PROBE |= {"monitors": [{"kind": "spread"}]}


def experiment(process: dict[str, Any], sampler: dict[str, Any], **more: Any) -> dict[str, Any]:
    network = {"kind": "mixer", "width": 16, "size": 8}
    sample = {"samplers": {"own": {"steps": 4, **sampler}}, "images": 16}
    parts = {"dataset": "shapes", "network": network, "process": process, "train": TRAIN, "sample": sample}
    return {**parts, "probe": PROBE, **more}


CONFIG = {
    "plugins": [f"mine/{name}.py" for name in MODELS],
    "datasets": {"shapes": {"source": {"kind": "shapes", "count": 400}}},
    "experiments": {
        "mixed": experiment({"kind": "denoising"}, {"kind": "midpoint"}),
        "joint": experiment({"kind": "edm"}, {"kind": "heun"}, task={"kind": "joint", "width": 16}, probe=None),
    },
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workflow with the examples' files beside it, as a user has them."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("Snakefile", "rules", "workflow", "config", "envs", "profiles"):
        source = ROOT / name
        shutil.copytree(source, folder / name) if source.is_dir() else shutil.copy(source, folder)
    (folder / "src").symlink_to(ROOT / "src")
    for path, text in EXAMPLES:
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(text)
    (folder / "own.yaml").write_text(yaml.safe_dump(CONFIG))
    return folder


@pytest.fixture(autouse=True)
def ours_alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Unload the plugins that a test loads: a family's members belong to the process."""
    families = [kind for kind in all_subclasses(Kind) if is_family(kind)]
    members, modules = [dict(family.members) for family in families], set(sys.modules)
    yield
    for family, before in zip(families, members, strict=True):
        family.members.clear()
        family.members.update(before)
    for name in set(sys.modules) - modules:  # torch, which a test may be the first to import, stays
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(tmp_path_factory.getbasetemp())):
            del sys.modules[name]


def all_subclasses(kind: type) -> Iterator[type]:
    for below in kind.__subclasses__():
        yield below
        yield from all_subclasses(below)


def snakemake(folder: Path, *more: str) -> str:
    command = [sys.executable, "-m", "snakemake", "--configfile", "own.yaml", "--cores", "2", *more]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout + run.stderr


def scheduled(folder: Path) -> set[str]:
    """The rules that a plain start would run."""
    return set(re.findall(r"^rule (\w+):", snakemake(folder, "-n"), re.M)) - {"all"}


def test_each_kind_costs_two_files() -> None:
    assert len(EXAMPLES) == 2 * len(MODELS)


def test_the_examples_run_to_a_table(project: Path) -> None:
    snakemake(project)
    rows = pd.read_csv(project / "results/summary.csv")
    tested = rows[(rows.split == "test") & rows.experiment.notna()]
    assert set(tested.evaluator) == {"ridge", "centroid"}
    assert rows[rows.evaluator == "spread"].value.item() > 0
    assert tested.value.min() > 0.55  # two classes: half by chance
    stats = (project / "results/runs/joint/checkpoints/4/stats.jsonl").read_text().splitlines()
    accuracies = [json.loads(line)["accuracy"] for line in stats]
    assert accuracies[-1] > 0.6
    assert (project / "results/runs/mixed/samples/4/own.zarr/zarr.json").exists()
    run, own = (
        str(project / "results/runs/mixed"),
        [str(project / f"mine/{name}.py") for name in ("mixer", "denoising")],
    )
    in_python = "import sys, diffprobe; print(diffprobe.load(sys.argv[1], weights=None, plugins=sys.argv[2:]).taps)"
    taps = "['block_0', 'block_1']"
    for named, said in (
        (own[:0], "which is not loaded; name the"),
        (own[:1], "which is not loaded; name"),
        (own, taps),
    ):
        command = [sys.executable, "-c", in_python, run, *named]
        loaded = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert said in loaded.stdout and "damaged" not in loaded.stdout
    assert scheduled(project) == set()
    # The content of a kind's files decides a rerun of what holds the kind, and of nothing else.
    path = project / "mine/joint_task.py"
    path.write_text(path.read_text() + "\n# a change\n")
    assert "pretrain" in scheduled(project) and "images" not in scheduled(project)
    assert "Nothing to be done" in snakemake(project, "-n", "results/runs/mixed/checkpoints/4/ema.safetensors")


def test_they_are_checked_and_described_like_ours(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    config = load("own.yaml")
    (row,) = describe(config, "mixed")
    assert [tap["tap"] for tap in row["network"]["taps"]] == ["block_0", "block_1"]
    assert row["dataset"]["rows"] is not None
    plugin = pretrain(config, config.experiments["mixed"])["network"]["plugin"]
    assert re.fullmatch(r"[0-9a-f]{16}", plugin)
    with pytest.raises(UserError, match=r"each.network.size: 9 is refused; allowed: 8"):
        parse({**CONFIG, "each": {"network": {"size": 9}}, "only": ["mixed"]})
    with pytest.raises(UserError, match=r"network.widht: 3 is refused: unknown key \(did you mean width\?\)"):
        parse({**CONFIG, "each": {"network": {"widht": 3}}, "only": ["mixed"]})


def test_an_installed_package_adds_its_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package, metadata = tmp_path / "mixers", tmp_path / "mixers-1.0.dist-info"
    for folder in (package, metadata):
        folder.mkdir()
    examples = dict(EXAMPLES)
    (package / "__init__.py").write_text("")
    (package / "models.py").write_text(examples["mine/mixer.py"].replace("mixer_network.py:", "mixers.network:"))
    (package / "network.py").write_text(examples["mine/mixer_network.py"])
    (metadata / "METADATA").write_text("Name: mixers\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[diffprobe.plugins]\nmixers = mixers.models\n")
    monkeypatch.syspath_prepend(tmp_path)
    plugins.installed.cache_clear()
    try:
        network = Network.member({"kind": "mixer", "size": 8})  # as in a job, which reads no config
        assert network.taps == ["block_0", "block_1"]
        code = plugins.content_hash([package / "models.py", package / "network.py"])
        assert network.model_dump()["plugin"] == code
        assert sum(p.numel() for p in build(network, image_channels=1).parameters()) > 8**4
    finally:
        plugins.installed.cache_clear()


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (None, "plugins: {}: no such file"),
        ("import nothing_there", "plugins: {}: fails: ModuleNotFoundError: No module named 'nothing_there'"),
        (
            "from typing import Literal\nfrom diffprobe.config.networks import Network\n"
            "class Mine(Network):\n    kind: Literal['dit']\n",
            "plugins: {}: fails: ValueError: .*there is a Network dit already",
        ),
    ],
    ids=["missing", "failing", "taken"],
)
def test_a_bad_plugin_is_one_line(tmp_path: Path, content: str | None, line: str) -> None:
    path = tmp_path / "bad.py"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=line.format(re.escape(str(path)))) as error:
        parse({**CONFIG, "plugins": [str(path)]})
    assert len(str(error.value).splitlines()) == 1
