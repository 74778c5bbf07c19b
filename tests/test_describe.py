"""Sizes and costs, counted on the meta device: published numbers, and sums that must agree."""

import io
import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from sklearn.datasets import load_digits
from torch.utils.flop_counter import FlopCounterMode
from toy_soda import NETWORK, TASK

from diffprobe.config.built import parse_model, parse_network
from diffprobe.config.datasets import Dataset
from diffprobe.config.load import load
from diffprobe.config.models import Config
from diffprobe.data.splits import SPLITS, stratified
from diffprobe.networks.flops import flops, on_meta, training_flops
from diffprobe.plan.graph import stages
from diffprobe.reporting.describe import Description, as_json, describe, show, si
from diffprobe.reporting.network_cost import NetworkCost, cost, counted, tap_costs, whole_cost
from diffprobe.runtime.errors import UserError

CIFAR = (3, 32, 32)
DDPM = {"kind": "unet", "channels": 128, "multipliers": [1, 2, 2, 2], "blocks": 2, "attention": [1]}
DDPMPP = DDPM | {"multipliers": [2, 2, 2], "blocks": 4, "resample": "block"}


@pytest.fixture(scope="module")
def config() -> Config:
    return load(Path(__file__).parents[1] / "config" / "config.yaml")


@pytest.fixture(scope="module")
def row(config: Config) -> Description:
    return describe(config, "digits_edm")[0]


@pytest.fixture(scope="module")
def ddpm() -> NetworkCost:
    return cost({"network": DDPM}, CIFAR)


def test_ddpm_size_and_flops(ddpm: NetworkCost) -> None:
    assert ddpm["parameters"] == ddpm["trainable"] == 35_746_307
    assert ddpm["forward_flops"] == pytest.approx(12.44e9, rel=1e-3)
    assert ddpm["training_flops"] == pytest.approx(37.32e9, rel=1e-3)


def test_ddpmpp_size_and_flops() -> None:
    size = whole_cost(*on_meta(parse_network(DDPMPP), CIFAR))
    assert size["parameters"] == 56_524_291
    assert size["forward_flops"] == pytest.approx(42.98e9, rel=1e-3)
    assert size["training_flops"] == pytest.approx(3 * 42.98e9, rel=1e-3)


@pytest.mark.parametrize(
    "network", [DDPM, {"kind": "dit", "width": 32, "depth": 2, "heads": 2, "patch": 4}], ids=["unet", "dit"]
)
def test_counts_are_those_of_torch(network: dict) -> None:
    module, inputs = on_meta(parse_network(network), CIFAR)
    with FlopCounterMode(display=False) as counter:
        module(*inputs)[0].sum().backward()
    assert training_flops(module, inputs) == counter.get_total_flops() > 0


def test_counting_on_a_device_loads_no_compiler() -> None:
    code = (
        "import sys, torch; from diffprobe.networks.flops import flops; "
        "assert flops(lambda: torch.rand(2, 3) @ torch.rand(3, 4)) == 48; assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_ddpm_taps(ddpm: NetworkCost) -> None:
    shapes = [[256, 4, 4]] * 3 + [[256, 8, 8]] * 3 + [[256, 16, 16]] * 3 + [[128, 32, 32]] * 3
    decoder = [tap for tap in ddpm["taps"] if tap["tap"].startswith("out_")]
    assert [tap["tap"] for tap in decoder] == [f"out_{i}" for i in range(1, 13)]
    assert [tap["shape"] for tap in decoder] == shapes


def test_cost_up_to_a_tap(ddpm: NetworkCost) -> None:
    upto = {tap["tap"]: tap["flops"] for tap in ddpm["taps"]}
    assert upto["out_6"] == pytest.approx(4.32e9, rel=2e-3)
    assert list(upto.values()) == sorted(upto.values())
    assert upto["out_12"] < ddpm["forward_flops"]


def test_rows_come_from_the_split_rule() -> None:
    """Within a row or two per class, since classes are taken to be of equal size."""
    labels = load_digits().target
    for select, test in ((0.15, 0.2), (0.3, 0.05)):
        rule = {"kind": "stratified", "select": select, "test": test}
        exact = np.bincount(stratified(labels, 0, select, test), minlength=3)
        about = Dataset(source={"kind": "digits"}, split=rule).split_rows
        assert sum(about.values()) == len(labels)
        assert all(abs(about[name] - exact[i]) <= 10 for i, name in enumerate(SPLITS))


def test_bytes_of_the_stores(config: Config, row: Description) -> None:
    probe = config.experiments["digits_edm"].probe
    weights, rows = 4 * row["network"]["parameters"], row["dataset"]["rows"]
    channels = [tap["shape"][0] for tap in row["network"]["taps"]]
    kept = probe.draws * len(probe.seeds) * sum(rows.values()) * max(channels) * 2  # of the chosen cell
    grid = len(probe.levels) * probe.draws * (rows["train"] + rows["select"]) * sum(channels) * 2
    assert row["bytes"] == {
        "images": 1797 * 64,
        "checkpoints": 3 * 2 * weights,
        "states": 4 * weights,
        "samples": 3 * 1000 * 64,
        "features": kept,
        "total": sum(size for store, size in row["bytes"].items() if store not in ("total", "features_peak")),
        "features_peak": kept + grid,
    }


def test_keeping_all_states_costs_one_each(config: Config, row: Description) -> None:
    keeping = config.model_copy(update={"state": config.state.model_copy(update={"keep": "all"})})
    assert describe(keeping, "digits_edm")[0]["bytes"]["states"] == 3 * row["bytes"]["states"]


def test_training_counts_whole_steps(config: Config, row: Description) -> None:
    train, images = config.experiments["digits_edm"].train, row["training"]["images"]
    assert images % train.batch == 0
    assert 0 <= images - 1000 * train.checkpoints[-1] < train.batch
    assert row["training"]["flops"] == images * row["network"]["training_flops"]


def test_jobs_are_those_of_the_layout(config: Config, row: Description) -> None:
    assert row["jobs"]["pretrain"] == row["jobs"]["features"] == 3
    both = describe(config)
    shared = {"images", "dataset_table", "baseline", "nearest_real", "classifier", "reference", "overview", "summary"}
    jobs = sum(sum(row["jobs"].values()) for row in both) - len(shared)
    assert jobs + 1 == len(stages(config))  # one compares the two


def test_all_experiments_by_default(config: Config) -> None:
    assert [row["experiment"] for row in describe(config, None)] == list(config.experiments)


def test_unknown_experiment_is_refused(config: Config) -> None:
    with pytest.raises(UserError, match="cifar: no such experiment; there are digits_edm"):
        describe(config, "cifar")


def test_shown_and_as_json(row: Description) -> None:
    assert json.loads(as_json([row])) == [row]
    console = Console(width=80, record=True, file=io.StringIO())
    show([row], console)
    text = console.export_text()
    parameters = f"{row['network']['parameters']:,} parameters"
    for fragment in ("digits_edm", parameters, "out_4", "32x8x8", "features", "pretrain 3"):
        assert fragment in text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 "), (999, "999 "), (999.6, "1 k"), (12_443_713_536, "12.4 G"), (1e21, "1e+03 E")],
)
def test_decimal_prefixes(value: float, text: str) -> None:
    assert si(value) == text


def test_the_command_line_starts_without_torch() -> None:
    code = "import sys, diffprobe.reporting.describe; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_tap_is_priced_in_one_pass() -> None:
    """As if nothing after it were computed: also of two networks, and where an operator returns its input."""
    models: list[dict[str, Any]] = [{"network": DDPMPP | {"channels": 8, "groups": 4, "blocks": 1}}]
    models.append({"network": NETWORK, "task": {"kind": "soda", **TASK}})
    for model in models:
        module, inputs = on_meta(parse_model(model), CIFAR)
        names = getattr(module, "named_taps", module.taps)
        counts, features = counted(module, inputs, names)
        alone = {tap: flops(partial(module, *inputs, taps=[tap], features_only=True)) for tap in names}
        assert counts == alone
        assert [tuple(tap["shape"]) for tap in tap_costs(module, inputs)] == [features[tap].shape[1:] for tap in names]
