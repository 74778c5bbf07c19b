"""The recipes of SODA: published settings and sizes, costs in the headers, the arms, the smoke overlay."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from diffprobe.config.load import load
from diffprobe.config.models import Experiment
from diffprobe.reporting import describe
from diffprobe.runtime.errors import UserError

ROOT = Path(__file__).parents[1]
SODA, SMOKE = ROOT / "config" / "soda.yaml", ROOT / "config" / "smoke_soda.yaml"
CONFIG = load(SODA)
NAMES = list(CONFIG.experiments)
# Of the re-implementation: images of an epoch, kNN and linear accuracy, parameters of encoder and decoder.
PUBLISHED = {
    "cifar10_soda": (50, "80.4 / 80.0 %", 11_234_496),
    "cifar100_soda": (50, "51.4 / 54.9 %", 11_234_496),
    "tiny_soda": (100, "34.8 / 38.2 %", 11_242_176),
}
DECODER = 39_595_139


@pytest.fixture(scope="module", autouse=True)
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """`describe` with a cache of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def header(name: str) -> str:
    """The comment above a recipe."""
    before = re.split(rf"\n  {name}:\n", SODA.read_text())[0]
    return re.split(r"\n\n|\nexperiments:\n", before)[-1]


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_settings(name: str) -> None:
    epoch, scores, encoder = PUBLISHED[name]
    experiment = CONFIG.experiments[name]
    train, task = experiment.train, experiment.task
    assert train.checkpoints == [epoch * n for n in range(100, 801, 100)] and train.warmup_kimg == 20 * epoch
    assert (train.batch, train.lr, train.optimizer, train.beta2, train.weight_decay, train.clip) == (
        *(512, 4e-4, "adamw", 0.95, 0.05, 1.0),
    )
    assert (task.encoder_rate, task.z_dropout, task.part_dropout, task.source.noise) == (2.0, 0.1, 0.0, 0.1)
    assert (experiment.process.beta_schedule, experiment.process.time_input) == ("linear", "fraction")
    assert experiment.network.modulation == "direct" and scores in header(name)
    assert describe.description(CONFIG, name)["network"]["parameters"] == encoder + DECODER


@pytest.mark.parametrize("name", NAMES)
def test_headers_tell_the_cost(name: str) -> None:
    """Those of arms are equal."""
    text, training = header(name), describe.description(CONFIG, name.removesuffix("_plain_target"))["training"]
    assert f"{training['images'] / 1e6:.0f} M images, {training['flops'] / 1e18:.3g} EFLOP" in text
    for card, peak in {"H100": 989, "A100": 312, "RTX 4090": 165, "RTX 3090": 71}.items():
        hours = training["flops"] / (0.25 * peak * 1e12) / 3600
        told = float(re.search(rf"{card} ([\d.]+\d|\d)[,.]", text)[1])
        assert told == pytest.approx(hours, abs=0.6, rel=5e-3)


def settings(experiment: Experiment, *without: str) -> dict[str, Any]:
    return experiment.model_dump(mode="json", exclude=set(without))


@pytest.mark.parametrize("name", PUBLISHED)
def test_arms_differ_in_the_target_alone(name: str) -> None:
    viewed, plain = CONFIG.experiments[name], CONFIG.experiments[f"{name}_plain_target"]
    assert settings(viewed, "task") == settings(plain, "task")
    assert viewed.task.model_copy(update={"target": None}) == plain.task


def test_ours_has_what_the_paper_adds() -> None:
    ours = CONFIG.experiments["cifar10_soda_ours"]
    assert (ours.network.modulation, ours.network.code_parts, ours.task.z) == ("residual", 5, 640)
    assert ours.task.part_dropout > 0 and ours.process.beta_schedule == "inverted"
    assert ours.sample.samplers["guided"].spacing == "dit"  # even steps would begin with a fifth of the image left
    own = ("network", "process", "task", "sample")
    assert settings(ours, *own) == settings(CONFIG.experiments["cifar10_soda"], *own)


@pytest.mark.parametrize("name", NAMES)
def test_smoke_scales_every_recipe(name: str) -> None:
    config = load(SODA, SMOKE, only=name)
    small, whole = config.experiments[name], CONFIG.experiments[name]
    assert list(config.datasets) == ["smoke"]
    assert small.task.model_copy(update={"encoder": whole.task.encoder}) == whole.task
    kept = ("multipliers", "attention", "modulation", "parts", "dropout")
    assert [getattr(small.network, key) for key in kept] == [getattr(whole.network, key) for key in kept]


def test_what_a_job_would_refuse_after_hours_is_refused_before(tmp_path: Path) -> None:
    """Parts of a batch, which the encoder's batch norms take whole, and segmentation by a vector."""
    masks = "masks: {kind: threshold, levels: [100]}"
    (tmp_path / "more.yaml").write_text(f"""
datasets: {{smoke: {{{masks}}}}}
experiments:
  cifar10_soda:
    train: {{batch: 32, device_batch: 8}}
    probe: {{evaluators: {{dense: {{kind: dense, images: 5, at: {{tap: z, level: clean}}}}}}}}
""")
    with pytest.raises(UserError) as error:
        load(SODA, SMOKE, tmp_path / "more.yaml", only="cifar10_soda")
    lines = str(error.value).splitlines()
    assert ["train.device_batch: 8" in line for line in lines] == [True, False]
    assert "dense.at.tap: 'z'" in lines[1] and "a tap with positions" in lines[1]


def test_smoke_takes_minutes() -> None:
    config = load(SODA, SMOKE, only="cifar10_soda_ours")
    assert describe.description(config, "cifar10_soda_ours")["training"]["flops"] < 1e13
