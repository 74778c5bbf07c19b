"""The comparison of the experiments on a dataset shows what the tables of results say."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from toy_probing import call

from diffprobe.reporting.tables import best, results
from diffprobe.runtime.files import write_json

TAPS = {"deep": ["in_1", "mid", "out_1"], "flat": ["block_0", "block_1"]}
FD = {"deep": [9.0, 4.0, 3.0], "flat": [8.0, 6.0, 7.0]}  # at 10, 20 and 30 thousand images
SELECT = {"deep": [0.90, 0.95, 0.93], "flat": [0.80, 0.81, 0.86]}
CHOICES = {
    "deep": {"kimg": 20, "tap": "mid", "level": "0.1", "sigma": 0.1},
    "flat": {"kimg": 30, "tap": "block_1", "level": "clean", "sigma": 0.0},
}
TEST = {
    "deep": {"linear": (0.94, 0.003), "knn": (0.91, None)},
    "flat": {"linear": (0.85, 0.004), "few_10": (0.6, 0.02)},
}
OUTPUTS = {"experiments": "csv", "evaluators": "csv", "data": "csv", "plot": "png"}


def rows() -> list[dict]:
    every: list[dict] = []
    for name, choice in CHOICES.items():
        about = {"experiment": name, "dataset": "digits"}
        place = {"tap": choice["tap"], "sigma": choice["sigma"]}
        for kimg, distance, accuracy in zip((10, 20, 30), FD[name], SELECT[name], strict=True):
            samples = about | {"kimg": kimg, "split": "train+select", "images": 1000, "evaluator": "fd1k_small"}
            every += [samples | {"sampler": "heun", "value": distance}, samples | {"sampler": "ode", "value": 20.0}]
            scored = about | place | {"kimg": kimg, "split": "select", "evaluator": "linear"}
            every.append(scored | {"value": accuracy, "spread": 0.002, "seeds": 3})
        test = about | place | {"kimg": choice["kimg"], "split": "test"}
        every += [test | {"evaluator": e, "value": v, "spread": s} for e, (v, s) in TEST[name].items()]
        # Of an evaluator over noise levels, each of which is a row: not a figure of the chosen cell.
        every += [test | {"evaluator": "by_level", "sigma": sigma, "value": 0.99} for sigma in (0.1, 1.0)]
        # Of decodings of test images: no accuracy.
        every += [
            about | {"kimg": kimg, "split": "test", "sampler": "heun", "evaluator": "psnr", "value": 20.1}
            for kimg in (10, 20)
        ]
    every.append({"dataset": "digits", "evaluator": "pixels_logistic", "split": "test", "value": 0.9})
    return every


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the outputs of the job."""
    folder = tmp_path_factory.mktemp("comparison")
    inputs = {"results.0": folder / "one.json", "results.1": folder / "two.json"}
    for part, path in enumerate(inputs.values()):
        write_json(path, {"rows": rows()[part::2]})
    for i, (name, choice) in enumerate(CHOICES.items()):
        inputs[f"choice.{i}"] = folder / f"{name}.json"
        write_json(inputs[f"choice.{i}"], whole(name))
        for j, kimg in enumerate((10, 20, 30)):
            cells = [
                {"tap": tap, "level": level, "sigma": sigma, "accuracy": 0.5 + 0.01 * (t + sigma), "strength": strength}
                for t, tap in enumerate(TAPS[name])
                for level, sigma in (("clean", 0.0), ("0.1", 0.1), ("1", 1.0))
                for strength in (1, 2)
            ]
            grid = pd.DataFrame(cells)
            grid["log_snr"] = -2 * np.log(grid["sigma"].mask(grid["sigma"] == 0))
            chosen = (grid["tap"] == choice["tap"]) & (grid["level"] == choice["level"])
            tied = (grid["tap"] == TAPS[name][0]) & (grid["level"] == choice["level"])
            if kimg == choice["kimg"]:
                grid.loc[tied, "accuracy"] = 0.99  # as good, but not what was chosen
            grid.loc[chosen, "accuracy"] = 0.99 if kimg == choice["kimg"] else 0.1  # another grid must not be read
            inputs[f"grid.{3 * i + j}"] = folder / f"{name}.{kimg}.csv"
            grid.to_csv(inputs[f"grid.{3 * i + j}"], index=False)
    experiments = [{"name": name, "checkpoints": [10, 20, 30], "taps": TAPS[name]} for name in CHOICES]
    argument = {"dataset": "digits", "experiments": experiments, "dpi": 110}
    call("comparison", argument, inputs, {name: folder / f"{name}.{kind}" for name, kind in OUTPUTS.items()}, folder)
    return folder


def whole(name: str) -> dict:
    return {"dataset": "digits", "selection": "select", "scorer": "linear", "accuracy": 0.9} | CHOICES[name]


def test_numbers_are_those_of_the_tables_of_results(compared: Path) -> None:
    table = pd.read_csv(compared / "experiments.csv").set_index("experiment")
    choices = {name: whole(name) for name in CHOICES}
    for expected in (results(rows(), choices), best(rows(), choices)):
        expected = expected.set_index("experiment")
        for column in set(expected) & set(table):
            own = [value if isinstance(value, str) else "" for value in table[column]]
            if expected[column].dtype == object and any(own):
                assert own == [value if isinstance(value, str) else "" for value in expected[column]], column
            elif expected[column].dtype != object:
                assert table[column].tolist() == expected[column].tolist(), column
    assert table["linear test"].tolist() == ["94.0 ± 0.3 %", "85.0 ± 0.4 %"]
    assert table["best FD distance"].tolist() == [3.0, 6.0]
    assert table["best probe distance"].tolist() == [4.0, 7.0]
    assert table["apart kimg"].tolist() == [10, -10]  # where the best samples are after the best features, and before
    assert table["depth"].tolist() == [0.5, 1.0]
    assert table["log-SNR"].tolist()[0] == pytest.approx(4.61) and np.isnan(table["log-SNR"].tolist()[1])
    assert not any("by_level" in column or "psnr" in column for column in table)


def test_the_best_of_each_evaluator(compared: Path) -> None:
    table = pd.read_csv(compared / "evaluators.csv").set_index("evaluator")
    assert sorted(table.index) == ["few_10", "knn", "linear"]
    assert table["best"].to_dict() == {"linear": "deep", "knn": "deep", "few_10": "flat"}
    linear = table.loc["linear"]
    assert (linear["second"], linear["second test"], linear["difference"]) == ("flat", "85.0 ± 0.4 %", 9.0)
    assert linear["spreads"] == 18.0  # 9 points over sqrt(0.3^2 + 0.4^2)
    assert table.loc[["knn", "few_10"], "second"].isna().all()


def test_the_figure_shows_the_chosen_checkpoints_grid(compared: Path) -> None:
    points = pd.read_csv(compared / "data.csv", keep_default_na=True)
    chosen = points[points["marked"] == "chosen"].groupby("panel")["y"].apply(list).to_dict()
    assert chosen == {"level": [99.0, 99.0], "layer": [99.0, 99.0]}
    level = points[(points["panel"] == "level") & (points["experiment"] == "deep")]
    assert level["x"].tolist() == pytest.approx([0, -2 * np.log(0.1), np.inf])  # clean images are at infinity
    assert level["y"].tolist() == pytest.approx([53, 99, 52])  # at each level the best layer
    parting = points[(points["panel"] == "parting") & (points["experiment"] == "deep")]
    assert parting["x"].tolist() == FD["deep"] and parting["y"].tolist() == [90.0, 95.0, 93.0]
    assert parting["marked"].fillna("").tolist() == ["", "best probe", "best FD"]
    picture = np.asarray(Image.open(compared / "plot.png").convert("L"))
    assert max(picture.shape) <= 1500 and picture.std() > 5
