"""The jobs of probing: the same table twice, an honest choice, every option, mistakes in one line."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from toy_probing import (
    EXPERIMENT,
    HEADS,
    PROBE,
    ProbingRun,
    chain,
    experiment,
    features,
    select,
    write_digits,
    write_model,
)

from diffprobe.config.evaluators.ridge import Ridge
from diffprobe.config.load import parse
from diffprobe.data import images
from diffprobe.data.splits import SPLITS
from diffprobe.evaluation.representation.chunks import array
from diffprobe.evaluation.representation.evaluators import TOP5_FROM
from diffprobe.evaluation.representation.features import FeatureModel
from diffprobe.evaluation.representation.grid import ProbeData, evaluate
from diffprobe.evaluation.representation.search import best, search
from diffprobe.evaluation.representation.table import StoredFeatures, Table, table_of
from diffprobe.plan.probe_arguments import SearchPlan
from diffprobe.runtime.errors import UserError


def said(folder: Path, script: str) -> str:
    return (folder / "logs" / script / "log.log").read_text()


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, digits_store: Path, untrained: Path) -> ProbingRun:
    """What others are compared with."""
    return chain(tmp_path_factory.mktemp("first"), digits_store, untrained, experiment())


def test_the_whole_table_twice_is_the_same_and_levels_can_be_spread(
    first: ProbingRun, tmp_path: Path, digits_store: Path, untrained: Path
) -> None:
    again = chain(tmp_path, digits_store, untrained, experiment(batch=50, levels_per_job=1))
    assert len(list((tmp_path / "features").glob("[01]"))) == 2
    assert (again.choice, again.rows, again.test) == (first.choice, first.rows, first.test)
    assert again.grid.equals(first.grid)
    assert len(first.grid) == 3 * 2 * 2  # taps, levels, rates
    cell = first.grid.sort_values(["accuracy", "nll"], ascending=[False, True]).iloc[0]
    assert (first.choice["tap"], first.choice["sigma"]) == (cell["tap"], cell["sigma"])
    assert first.choice["setting"] == {"lr": cell["lr"]} and first.choice["scorer"] == "linear"
    other = first.choice["runner_up"]
    assert (other["tap"], other["level"]) != (first.choice["tap"], first.choice["level"])
    assert other["accuracy"] <= first.choice["accuracy"] == cell["accuracy"]
    tested = {name: report["rows"][0] for name, report in first.test.items()}
    assert all(row["split"] == "test" and row["selection"] == "select" for row in tested.values())
    assert tested["linear"]["value"] > 0.6 and tested["knn"]["value"] > 0.6  # even untrained; chance: 0.1
    assert tested["linear"]["setting"] == f"lr={cell['lr']:g}"
    assert tested["linear"]["seeds"] == 2 and tested["knn"]["spread"] > 0
    assert np.sum(first.test["linear"]["confusion"]) == 2 * 200


def test_shuffled_test_labels_change_no_choice(first: ProbingRun, tmp_path: Path, untrained: Path) -> None:
    shuffled = write_digits(tmp_path / "images.h5", shuffled=True)
    blind = chain(tmp_path / "b", shuffled, untrained, experiment())
    assert (blind.choice, blind.rows) == (first.choice, first.rows)
    assert [report["rows"][0]["setting"] for report in blind.test.values()] == [
        report["rows"][0]["setting"] for report in first.test.values()
    ]
    assert blind.test["linear"]["rows"][0]["value"] < 0.25 < first.test["linear"]["rows"][0]["value"]


def test_a_selection_as_published_says_so(tmp_path: Path, digits_store: Path, untrained: Path) -> None:
    published = experiment(selection="published")
    run = chain(tmp_path / "a", digits_store, untrained, published)
    assert run.choice["selection"] == "published"
    assert {(row["split"], row["selection"]) for row in run.rows} == {("published", "published")}
    assert {row["selection"] for each in run.test.values() for row in each["rows"]} == {"published"}
    shuffled = write_digits(tmp_path / "images.h5", shuffled=True)
    stores = {"store.0": tmp_path / "a/features/0"}
    assert select(tmp_path / "b", shuffled, stores, published)["choice"]["accuracy"] < 0.3  # it is test that chooses


def test_augmented_copies_joined_cells_tokens_and_labels(tmp_path: Path, digits_store: Path) -> None:
    conditional = write_model(tmp_path / "ema.safetensors", classes=10)
    probe: dict[str, Any] = {
        "augmented": 3,
        "crop": {"pad": 1, "flip": False},
        "pooling": "mean_std",
        "taps": ["mid", "out_1"],
        "scorer": "ridge",
        "evaluators": {
            "linear": HEADS | {"average": False, "optimizer": "lars", "lr": [50.0], "batch": 200, "epochs": 40},
            "ridge": {"kind": "ridge"},
            "levels": {
                "kind": "logistic",
                "combine": [{"level": 0.5}, {"level": 0.1}, {"tap": "mid"}],
                "strength": [1e-3],
            },
            "tokens": {"kind": "ridge", "tokens": True, "strength": [0.1, 1.0]},
            "attentive": {"kind": "attentive", "queries": 4, "lr": [0.001, 0.01], "epochs": 20},
        },
    }
    run = chain(tmp_path / "run", digits_store, conditional, experiment(**probe))
    assert list(run.grid.columns[:3]) == ["tap", "level", "strength"] and run.choice["scorer"] == "ridge"
    store = tmp_path / "run/features"
    level, tap = run.choice["level"], run.choice["tap"]
    assert array(store / "0", "0.1", "train", "augmented", "mid").shape == (3, 400, 2 * 16)
    assert not (store / "0/0.1.zarr/train/identity").exists()  # nothing compares with it
    assert array(store / "chosen", level, "test", "identity", tap).shape[0] == 2 * 2  # seeds, copies
    assert array(store / "chosen", level, "select", "augmented", tap).shape[0] == 3
    assert not (store / f"chosen/{level}.zarr/test/augmented").exists()
    side = 4 if tap in ("mid", "out_1") else 8
    assert array(store / "chosen", level, "train", "identity", f"{tap}.tokens").shape[2] == 16 * side * side
    assert {row["evaluator"] for row in run.rows} == {"linear", "ridge", "levels"}
    tested = {name: each["rows"][0] for name, each in run.test.items()}
    assert tested["linear"]["seeds"] == 4  # two seeds, each copy alone
    assert all(row["value"] > 0.4 and row["views"] == 3 and row["pooling"] == "mean_std" for row in tested.values())
    other = chain(
        tmp_path / "labelled", digits_store, conditional, experiment(conditional=True, **probe | {"label": 4})
    )
    assert other.test["ridge"]["rows"][0]["label"] == "4"
    assert not other.grid["nll"].equals(run.grid["nll"])


def test_a_search_keeps_the_best_levels(tmp_path: Path, digits_store: Path, untrained: Path) -> None:
    searching = experiment(levels=[], search={"low": 0.02, "high": 20.0, "coarse": 3, "rounds": 1, "keep": 2})
    run = chain(tmp_path, digits_store, untrained, searching)
    kept = sorted(set(run.grid["level"]))
    log = said(tmp_path, "features")
    tried = {
        line.split(":")[0]: float(line.split(": ")[1].split("%")[0]) for line in log.splitlines() if "ridge" in line
    }
    assert len(tried) in (4, 5) and len(kept) == 2 and max(kept) < 20  # the noisiest tells nothing
    top = sorted(tried, key=tried.get, reverse=True)[:2]
    assert {f"sigma {level:g}" for level in kept} == set(top)
    assert sorted(path.name for path in (tmp_path / "features/0").glob("*.zarr")) == [
        f"{level:g}.zarr" for level in kept
    ]


def test_search_closes_in_on_the_best_level() -> None:
    plan = SearchPlan(low=1e-3, high=1e3, coarse=5, rounds=4, keep=1)
    scores = search(plan, lambda ratio: ratio, lambda ratio: -abs(np.log(ratio / 0.2)))
    assert len(scores) <= 13 and best(scores, 1)[0] == pytest.approx(0.2, rel=0.3)
    assert best(scores, 3) == sorted(best(scores, 3))
    snapped = search(plan, lambda ratio: 1.0, lambda ratio: 0.0)
    assert snapped == {1.0: 0.0}


def test_a_damaged_or_missing_chunk_is_named(tmp_path: Path, digits_store: Path, untrained: Path) -> None:
    stores = features(tmp_path, digits_store, untrained, experiment())
    chunk = stores["store.0"] / "0.5.zarr/train/identity/mid/c/1/0/0"
    data = bytearray(chunk.read_bytes())
    data[100] ^= 1
    chunk.write_bytes(data)
    for _ in range(2):
        with pytest.raises(SystemExit):
            select(tmp_path, digits_store, stores, experiment())
        line = said(tmp_path, "grid").splitlines()[-1]
        assert line.startswith(f"error: {chunk}: damaged (") and "delete" in line
        assert not (tmp_path / "grid").exists()
        chunk.unlink(missing_ok=True)  # zarr alone would take it for zeros


def test_a_class_missing_from_select_is_named(tmp_path: Path, untrained: Path) -> None:
    pictures = write_digits(tmp_path / "images.h5")
    with h5py.File(pictures) as file:
        x, y, split = (file[name][:] for name in ("images", "labels", "split"))
    keep = (split != SPLITS.index("select")) | (y != 7)
    images.write(pictures, x[keep], y[keep], split[keep], classes=[f"digit {i}" for i in range(10)])
    stores = features(tmp_path, pictures, untrained, experiment())
    with pytest.raises(SystemExit):
        select(tmp_path, pictures, stores, experiment())
    (line,) = said(tmp_path, "grid").splitlines()
    assert line.startswith("error: select has no image of digit 7: ")


def test_a_network_without_taps_is_refused_in_a_line() -> None:
    class Model:
        taps: tuple[str, ...] = ()

    with pytest.raises(UserError, match="has no taps"):
        FeatureModel.of(Model(), None, 1, None)


def test_many_classes_have_a_row_for_the_five_likeliest() -> None:
    """An accuracy and a top-5 accuracy in rows of their own; an experiment's tables take both."""
    rng = np.random.default_rng(0)
    labels = np.arange(1000) % TOP5_FROM
    values = np.eye(TOP5_FROM)[labels] + rng.normal(size=(2, 1000, TOP5_FROM))
    table = table_of(torch.from_numpy(values.astype(np.float32)), torch.from_numpy(labels))

    class Memory(StoredFeatures):
        def table(self, *_: object) -> Table:
            return table

    source = Memory({}, {}, augmented=False)
    data = ProbeData(source, TOP5_FROM, 2**28, torch.device("cpu"))
    ridge = Ridge(kind="ridge", strength=[1e-3])
    rows = evaluate(data, ridge, [("0", "t")], [0], ["train"], "select")[0].rows("ridge", {"tap": "t"})
    assert [row["evaluator"] for row in rows] == ["ridge", "ridge_top5"] and rows[0]["setting"] == "strength=0.001"
    assert 0.3 < rows[0]["value"] < rows[1]["value"] < 1


MISTAKES = {
    "no levels": ({"levels": []}, "levels: [] is refused; allowed: either levels or a search"),
    "both": ({"search": {"low": 0.1, "high": 1}}, "either levels or a search"),
    "index beyond": ({"levels": [{"edm_index": 19}]}, "levels.0.edm_index: 19 is refused"),
    "two at once": ({"levels": [{"edm_index": 4, "t": 3}]}, "allowed: either t or edm_index"),
    "step of edm": ({"levels": [{"t": 3}]}, "allowed: sigma or edm_index"),
    "search upside down": ({"levels": [], "search": {"low": 1, "high": 0.1}}, "search.low: '1' is refused"),
    "one draw": ({"draws": 1}, "draws: 1 is refused; allowed: integer from 2"),
    "label": ({"label": 3}, "label: 3 is refused; allowed: null"),
    "no scorer": ({"evaluators": {"knn": {"kind": "knn"}}}, "at least one linear or ridge evaluator"),
    "wrong scorer": ({"scorer": "knn"}, "scorer: 'knn' is refused; allowed: a linear or ridge evaluator"),
    "many neighbours": ({"evaluators": PROBE["evaluators"] | {"n": {"kind": "knn", "k": [9999]}}}, "n.k: 9999"),
    "joined tap": ({"evaluators": {"a": HEADS, "b": HEADS | {"combine": [{"tap": "in_1"}]}}}, "tap: 'in_1' is refused"),
    "joined level": (
        {"evaluators": {"a": HEADS, "b": HEADS | {"combine": [{"level": 0.3}]}}},
        "one of the grid's levels",
    ),
    "joined level, another impossible": (
        {"levels": [0.1, 1e9], "evaluators": {"a": HEADS, "b": HEADS | {"combine": [{"level": 0.1}]}}},
        "levels: 1000000000.0 is refused",
    ),
    "joined nothing": ({"evaluators": {"a": HEADS, "b": HEADS | {"combine": [{}]}}}, "another tap or another level"),
    "a figure's name": ({"evaluators": {"fid5k_x": HEADS}}, "another name"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_lines(name: str) -> None:
    changes, line = MISTAKES[name]
    with pytest.raises(UserError) as error:
        experiment(**changes)
    assert line in str(error.value) and "\n" not in str(error.value)


def test_unlabelled_data_are_refused() -> None:

    data = {
        "digits": {"source": {"kind": "digits"}},
        "faces": {"source": {"kind": "celebahq", "path": "x"}, "size": 64},
    }
    with pytest.raises(UserError, match="probe: 'a probe' is refused; allowed: null, since faces has no labels"):
        parse({"datasets": data, "experiments": {"toy": EXPERIMENT | {"dataset": "faces"}}})
