"""The jobs of label-free figures and of similarity, and what their settings refuse."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import toy_soda
from toy_probing import EXPERIMENT, PROBE, call, experiment, features, write_model

from diffprobe.config.load import parse
from diffprobe.config.models import Experiment
from diffprobe.evaluation.representation.chunks import array
from diffprobe.evaluation.representation.inputs import picked
from diffprobe.evaluation.representation.similarity import cka, cknna
from diffprobe.plan import job_arguments, probe_job_arguments
from diffprobe.runtime.errors import UserError

MONITORS: list[dict[str, Any]] = [{"kind": "contrastive"}, {"kind": "effective_rank"}]
MONITORS += [{"kind": "similarity", "to": "dino"}]
EXTRACTORS = {"dino": {"kind": "dinov2"}, "other": {"kind": "classifier", "dataset": "more"}}
CHOICE = {"kimg": 2, "tap": "out_1", "level": "0.5", "sigma": 0.5, "scorer": "linear", "setting": {"lr": 0.1}}


def config(probe: dict[str, Any], **experiments: Any) -> dict[str, Any]:
    """Two experiments on the digits, `toy` and `twin`; `probe` is of toy, `experiments` are others."""
    digits = {"source": {"kind": "digits"}}
    whole = {"toy": EXPERIMENT | {"probe": PROBE | probe}, "twin": EXPERIMENT, **experiments}
    return {"datasets": {"digits": digits, "more": digits}, "extractors": EXTRACTORS, "experiments": whole}


def stored(store: Path, tap: str, level: str = "0.5", split: str = "select") -> np.ndarray:
    return array(store, level, split, "identity", tap)[:]


def subset(folder: Path, pictures: Path, weights: Path, settings: Experiment, **argument: Any) -> Path:
    outputs = {"store": folder / "subset", "receipt": folder / "subset.receipt.json"}
    inputs = {"weights": weights, "data": pictures}
    call("features", probe_job_arguments.subset(settings) | argument, inputs, outputs, folder)
    return outputs["store"]


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory, digits_store: Path, untrained: Path) -> list[Path]:
    """Features of 100 images by two sets of weights, as of two checkpoints."""
    folder = tmp_path_factory.mktemp("subsets")
    torch.manual_seed(1)
    write_model(folder / "other.safetensors")
    settings = experiment(subset={"images": 100})
    weights = [untrained, folder / "conditional.safetensors"]
    write_model(weights[1], classes=10)  # other weights, drawn after those of its labels
    return [subset(folder / str(i), digits_store, path, settings) for i, path in enumerate(weights)]


def test_a_subset_has_the_features_of_its_images(
    stores: list[Path], tmp_path: Path, digits_store: Path, untrained: Path
) -> None:
    """The same images, noise and copies as those that the grid is scored on; more images contain fewer."""
    whole = features(tmp_path, digits_store, untrained, experiment(draws=2))["store.0"]
    rows = picked(200, 100)
    assert len(set(rows)) == 100 and set(picked(200, 30)) < set(rows)
    for tap in PROBE["taps"]:
        np.testing.assert_allclose(stored(stores[0], tap), stored(whole, tap)[:, rows], atol=2e-3)
    assert picked(20, 100).tolist() == list(range(20))


def test_levels_of_a_search_come_from_its_grid(tmp_path: Path, digits_store: Path, untrained: Path) -> None:
    searched = experiment(search={"low": 0.1, "high": 1.0}, levels=[], subset={"images": 40})
    grid = tmp_path / "grid.csv"
    pd.DataFrame({"tap": ["mid", "mid"], "level": ["0.25", "0.7"], "sigma": [0.25, 0.7]}).to_csv(grid)
    outputs = {"store": tmp_path / "subset", "receipt": tmp_path / "r"}
    inputs = {"weights": untrained, "data": digits_store, "grid": grid}
    call("features", probe_job_arguments.subset(searched), inputs, outputs, tmp_path)
    assert sorted(path.name for path in outputs["store"].glob("*.zarr")) == ["0.25.zarr", "0.7.zarr"]


def test_figures_of_every_cell_and_rows_of_the_best(stores: list[Path], tmp_path: Path) -> None:
    settings = parse(config({"subset": {"images": 100}, "monitors": MONITORS})).experiments["toy"]
    foreign = torch.randn(100, 5, generator=torch.Generator().manual_seed(0))
    np.savez(tmp_path / "dino.npz", features=foreign.numpy())
    (tmp_path / "select.json").write_text(json.dumps({"choice": CHOICE, "rows": []}))
    outputs = {name: tmp_path / name for name in ("monitors", "rows", "receipt")}
    row = job_arguments.row(settings, "toy", kimg=2)
    inputs = {"store": stores[0], "select": tmp_path / "select.json", "foreign.dino": tmp_path / "dino.npz"}
    call("monitors", probe_job_arguments.monitors(settings, row), inputs, outputs, tmp_path)
    table = pd.read_csv(outputs["monitors"], dtype={"level": str})
    assert [*zip(table.level, table.tap, strict=True)] == [
        (level, tap) for level in ("0.1", "0.5") for tap in PROBE["taps"]
    ]
    copies = torch.from_numpy(stored(stores[0], "out_1")).double()  # (2, n, D)
    units = copies / copies.norm(dim=-1, keepdim=True)
    cell = table[(table.tap == "out_1") & (table.level == "0.5")].iloc[0]
    assert cell["alignment"] == pytest.approx((units[0] - units[1]).square().sum(-1).mean().item(), rel=1e-5)
    assert cell["cka_dino"] == pytest.approx(cka([copies[0]], [foreign]).item(), abs=1e-5)
    rows = {row["evaluator"]: row for row in json.loads(outputs["rows"].read_text())["rows"]}
    assert {name: row["value"] for name, row in rows.items()} == pytest.approx(cell[list(rows)].to_dict())
    assert list(rows) == ["alignment", "uniformity", "effective_rank", "cka_dino", "cknna10_dino"]
    common = {"experiment": "toy", "kimg": 2, "tap": "out_1", "sigma": 0.5, "split": "select", "images": 100}
    assert all(common.items() <= row.items() for row in rows.values())


def test_maps_of_similarity_whatever_memory_there_is(stores: list[Path], tmp_path: Path) -> None:
    probe = {"subset": {"images": 100}, "similarity": {"checkpoints": "all", "experiments": ["twin"], "neighbours": 5}}
    two = {"train": {"checkpoints": [1, 2]}}
    twin = EXPERIMENT | two | {"probe": PROBE | {"subset": {"images": 100}}}
    raw = config(probe, twin=twin)
    raw["experiments"]["toy"] |= two
    argument = probe_job_arguments.similarity(parse(raw), "toy")
    (tmp_path / "choice.json").write_text(json.dumps(CHOICE))
    (tmp_path / "twin.json").write_text(json.dumps(CHOICE | {"kimg": 1, "tap": "mid", "level": "0.1"}))
    inputs = {"choice": tmp_path / "choice.json", "choices.twin": tmp_path / "twin.json"}
    inputs |= {f"store.{i}": store for i, store in enumerate(stores)}
    inputs |= {f"stores.twin.{i}": store for i, store in enumerate(stores)}
    maps = []
    for memory in (1, argument["memory"]):  # a cell at a time, all at once
        outputs = {name: tmp_path / name for name in ("similarity", "receipt")}
        call("similarity", argument | {"memory": memory}, inputs, outputs, tmp_path)
        maps.append(json.loads(outputs["similarity"].read_text()))
    frugal, whole = maps
    layers = whole["layers"]["2"]
    assert layers["rows"] == layers["columns"] == [[level, tap] for level in ("0.1", "0.5") for tap in PROBE["taps"]]
    for measure in ("cka", "cknna"):
        np.testing.assert_allclose(frugal["layers"]["2"][measure], layers[measure], atol=1e-5)
        np.testing.assert_allclose(np.diag(layers[measure]), 1, atol=1e-5)
        np.testing.assert_allclose(layers[measure], np.transpose(layers[measure]), atol=1e-5)
    one, other = ([torch.from_numpy(stored(store, "out_1")[0]).float()] for store in stores)
    assert whole["training"]["rows"] == [1, 2]
    assert whole["training"]["cka"][0][1] == pytest.approx(cka(one, other).item(), abs=1e-5)
    assert whole["training"]["cknna"][1][0] == pytest.approx(cknna(one, other, 5).item(), abs=1e-5)
    rows = {(row["evaluator"], row["kimg"]): row["value"] for row in whole["rows"]}
    assert rows["cka_chosen", 1] == pytest.approx(whole["training"]["cka"][0][1])
    assert rows["cka_chosen", 2] == pytest.approx(1, abs=1e-5)
    # The own chosen cell, the fifth of the second checkpoint, beside the twin's, the first of the first one.
    assert rows["cka_twin", 2] == whole["experiments"]["twin"]["cka"][4][0]


@pytest.mark.parametrize(
    ("probe", "fragments"),
    [
        ({"monitors": [{"kind": "similarity", "to": "dina"}]}, ["monitors.0.to: 'dina'", "dino"]),
        ({"monitors": [{"kind": "similarity", "to": "other"}]}, ["monitors.0.to: 'other'", "a classifier of digits"]),
        ({"monitors": [{"kind": "contrastive"}] * 2}, ["monitors.0: 'alignment'", "each figure once"]),
        (
            {"monitors": [{"kind": "contrastive", "batch": 512}], "subset": {"images": 100}},
            ["monitors.0.batch: 512", "at most the 100 images of the subset"],
        ),
        (
            {
                "monitors": [{"kind": "intrinsic_dimension", "estimator": "mle", "neighbours": 60}],
                "subset": {"images": 50},
            },
            ["monitors.0.neighbours: 60", "below the 50 images of the subset"],
        ),
        (  # `select` has no more images
            {"monitors": [{"kind": "intrinsic_dimension", "estimator": "mle", "neighbours": 400}]},
            ["monitors.0.neighbours: 400", "below the 270 images of the subset"],
        ),
        (
            {"similarity": {"neighbours": 60}, "subset": {"images": 50}},
            ["neighbours: 60", "below the 50 images of the subset"],
        ),
        ({"similarity": {"experiments": ["toy"]}}, ["similarity.experiments: 'toy'", "the same subset: twin"]),
        ({"similarity": {"experiments": ["twin"]}, "subset": {"images": 99}}, ["'twin'", "nothing"]),
        ({"similarity": {"experiments": ["twin", "twin"]}}, ["similarity.experiments", "each experiment once"]),
        ({"subset": {"split": "test"}}, ["subset.split: 'test'", "train"]),
    ],
)
def test_mistakes_are_named_in_one_line(probe: dict[str, Any], fragments: list[str]) -> None:
    with pytest.raises(UserError) as refusal:
        parse(config(probe))
    line = str(refusal.value).splitlines()[0]
    assert line.startswith("config: experiments.toy.probe") or "experiments.toy.probe" in line
    for fragment in fragments:
        assert fragment in line


def test_alignment_needs_copies_that_differ() -> None:
    """SODA's encoder sees images as they are: there an image has one copy."""
    probe = PROBE | {"taps": ["z"], "levels": ["clean"], "monitors": [{"kind": "contrastive"}]}
    soda = EXPERIMENT | {"network": toy_soda.NETWORK, "process": {"kind": "ddpm", "beta_schedule": "inverted"}}
    soda |= {
        "task": {"kind": "soda", **toy_soda.TASK},
        "probe": probe,
        "sample": {"samplers": {"ddim": {"kind": "ddim"}}},
    }
    with pytest.raises(UserError, match=r"monitors.0: 'contrastive' .* a level with noise, .* copies of a clean image"):
        parse(config({}, soda=soda))
    parse(config({}, soda=soda | {"probe": probe | {"levels": ["clean", 0.5], "taps": "all"}}))
