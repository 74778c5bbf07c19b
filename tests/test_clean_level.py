"""The level `clean`: taps that see the image as it is, alone and beside taps that see noise.

By a toy of SODA's shape: an encoder whose code guides a U-Net.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from toy_probing import EXPERIMENT, HEADS, PROBE, UNET, ProbingRun, call, chain
from toy_probing import features as probed_features
from toy_soda import checkpoint

import diffprobe
from diffprobe.config import tasks
from diffprobe.config.built import parse_model
from diffprobe.config.load import parse
from diffprobe.config.models import Experiment
from diffprobe.config.names import RESNET_TAPS
from diffprobe.config.networks import Network
from diffprobe.config.tasks import Task
from diffprobe.data import images
from diffprobe.diffusion.levels import CLEAN
from diffprobe.diffusion.process import perturb
from diffprobe.evaluation.representation.chunks import array, damage, stored_levels
from diffprobe.networks.build import build
from diffprobe.networks.condition import NOTHING, Condition
from diffprobe.networks.pooling import mean, mean_std
from diffprobe.plan import probe_job_arguments
from diffprobe.reporting.plots import heatmap
from diffprobe.reporting.tables import results
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.keyed import Key, normal
from diffprobe.training import checkpoints

ENCODER = ["map", "z"]
KNN = {"kind": "knn", "k": [5]}
MIXED: dict[str, Any] = {"levels": [0.5, "clean", 0.1], "taps": ["map", "z", "mid", "out_1"]}


class CodedModel(nn.Module):
    """The code of `cond.source`, added to the noisy image that the U-Net sees."""

    def __init__(self, network: Any, task: Any, image_channels: int) -> None:
        super().__init__()
        self.convolution, self.to_z = nn.Conv2d(image_channels, 4, 3, padding=1), nn.Linear(64 * image_channels, 24)
        self.to_image, self.decoder = nn.Linear(24, 64), build(network, image_channels=image_channels)
        self.taps = [*ENCODER, *self.decoder.taps]

    def forward(
        self, x: Tensor, c_noise: Tensor, cond: Condition = NOTHING, taps: Any = (), features_only: bool = False
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        tapped: dict[str, Tensor] = {}
        if cond.source is not None:
            z = self.to_z(cond.source.flatten(1))  # (B, 24)
            tapped = {"map": self.convolution(cond.source).relu(), "z": z}
            x = x + self.to_image(z).view_as(x)
        if all(tap in ENCODER for tap in taps) and features_only:
            return None, tapped
        output, others = self.decoder(x, c_noise, cond, [tap for tap in taps if tap not in ENCODER], features_only)
        return output, tapped | others


@pytest.fixture(autouse=True)
def coded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A kind of task, as a plugin would define it."""
    monkeypatch.setattr(tasks.Task, "members", dict(tasks.Task.members))

    class Coded(Task):
        kind: Literal["coded"]
        build: ClassVar[str] = "unused:make"
        model: ClassVar[str] = f"{__name__}:CodedModel"

        def taps(self, network: Network) -> list[str]:
            return [*ENCODER, *network.taps]

        def clean_taps(self, network: Network) -> list[str]:
            return ENCODER

    yield


@pytest.fixture
def weights(tmp_path: Path, coded: None) -> Path:
    torch.manual_seed(0)
    network = UNET | {"conditional": False, "augment": False, "label_dropout": 0.1}
    head = {"network": network, "task": {"kind": "coded"}, "process": {"kind": "edm"}, "image": [1, 8, 8]}
    head |= {"shape": {"image_channels": 1}}
    path = tmp_path / "run/checkpoints/1/ema.safetensors"
    checkpoints.write(path, {"ema": build(parse_model(head), image_channels=1).state_dict()}, head)
    return path


def experiment(**probe: Any) -> Experiment:
    data = {"digits": {"source": {"kind": "digits"}}}
    evaluators = {"linear": HEADS, "knn": KNN}
    whole = EXPERIMENT | {"task": {"kind": "coded"}, "probe": PROBE | {"evaluators": evaluators} | probe}
    return parse({"datasets": data, "experiments": {"toy": whole}}).experiments["toy"]


def pictured(run: ProbingRun, taps: list[str]) -> list[str]:
    """The numbers and levels that the map shows, after a look at its labels."""
    figure = heatmap(run.grid, {**run.choice}, "", taps)
    (axes,) = figure.axes
    assert ("σ" in axes.get_xlabel()) == any(run.grid["sigma"])
    return [text.get_text() for text in (*axes.texts, *axes.get_xticklabels())]


def test_a_grid_of_both_kinds_has_one_clean_column(weights: Path, tmp_path: Path, digits_store: Path) -> None:
    beside = {"linear": HEADS, "knn": KNN, "map_knn": KNN | {"at": {"tap": "map", "level": "clean"}}}
    both = experiment(**MIXED, evaluators=beside)
    assert both.probed_taps == ["map", "z", "mid", "out_1"]
    assert (both.probed_at(0.0), both.probed_at(0.1)) == (ENCODER, ["mid", "out_1"])
    run = chain(tmp_path, digits_store, weights, both)
    cells = set(zip(run.grid["tap"], run.grid["level"], strict=True))
    noisy = {(tap, level) for tap in ("mid", "out_1") for level in ("0.1", "0.5")}
    assert cells == {("map", "clean"), ("z", "clean")} | noisy and len(run.grid) == 2 * len(cells)  # rates
    store = tmp_path / "features/0"
    assert damage(store) == [] and [level.name for level in sorted(stored_levels(store))] == ["clean", "0.1", "0.5"]
    assert sorted(path.name for path in (store / "clean.zarr/train/identity").iterdir()) == ENCODER
    assert array(store, "clean", "train", "identity", "z").shape == (1, 400, 24)  # nothing differs between draws
    assert array(store, "0.1", "train", "identity", "mid").shape[0] == 2
    assert (run.choice["level"], run.choice["sigma"], run.choice["log_snr"]) == ("clean", 0.0, None)
    chosen = tmp_path / "features/chosen"
    assert array(chosen, "clean", "test", "identity", run.choice["tap"]).shape[0] == 1
    assert run.choice["tap"] == "z" and run.test["knn"]["rows"][0]["tap"] == "z"
    assert [run.test["map_knn"]["rows"][0][name] for name in ("tap", "sigma")] == ["map", 0.0]
    assert {row["evaluator"]: row["tap"] for row in run.rows} == {"linear": "z", "knn": "z", "map_knn": "map"}
    knn, linear = (run.test[name]["rows"][0] for name in ("knn", "linear"))
    assert (knn["seeds"], knn["spread"]) == (1, None) and linear["seeds"] == 2  # the order of batches alone
    assert knn["value"] > 0.7 and linear["value"] > 0.7 and knn["sigma"] == 0.0
    shown = pictured(run, both.probed_taps)
    assert len(shown) == len(cells) + 3 and shown[-3] == "clean"  # empty cells, and the first column
    rows = [row for report in run.test.values() for row in report["rows"]] + run.rows
    assert results(rows, {"toy": run.choice})["sigma"].tolist() == ["clean"]
    options = {"columns": 4, "rows": 2, "scale": 2, "dpi": 60, "experiment": "toy", "taps": both.probed_taps}
    inputs = {"grid/1": tmp_path / "grid", "select/1": tmp_path / "select"}
    outputs = {"grid/1": tmp_path / "grid.png", "data/grid/1": tmp_path / "grid.csv"}
    call("plot", options | {"evaluator": "linear"}, inputs, outputs, tmp_path)


def test_features_are_the_encoders_of_the_image_as_it_is(weights: Path, tmp_path: Path, digits_store: Path) -> None:
    """Of augmented copies those of the view; joined cells, with noise and without; all taps of the level."""
    joined = {
        "kind": "ridge",
        "strength": [0.1],
        "combine": [{"tap": "z", "level": "clean"}, {"tap": "mid", "level": 0.5}],
    }
    evaluators = {"linear": HEADS, "joined": joined, "tokens": {"kind": "ridge", "tokens": True, "strength": [1.0]}}
    probe = {"levels": ["clean", 0.5], "taps": ["map", "z", "mid"], "augmented": 2, "crop": {"pad": 1, "flip": False}}
    run = chain(tmp_path, digits_store, weights, experiment(**probe, evaluators=evaluators))
    model = diffprobe.load(tmp_path / "run")
    pixels = images.read(digits_store, ["train"]).images
    stored = array(tmp_path / "features/0", "clean", "train", "augmented", "z")
    assert stored.shape == (2, 400, 24) and not np.array_equal(stored[0], stored[1])
    assert run.test["joined"]["rows"][0]["value"] > 0.6 and run.test["tokens"]["rows"][0]["seeds"] == 1
    features = model.features(pixels)
    assert list(features) == ENCODER == model.clean_taps
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1
    torch.testing.assert_close(torch.from_numpy(features["z"]), model.model.network.to_z(x.flatten(1)).detach())
    probed_features(tmp_path / "only", digits_store, weights, experiment(levels=["clean"], taps="all"))
    plain = array(tmp_path / "only/features/0", "clean", "train", "identity", "z")
    np.testing.assert_allclose(plain[0], features["z"], rtol=2e-3, atol=2e-3)
    assert sorted(path.name for path in (tmp_path / "only/features/0/clean.zarr/train/identity").iterdir()) == ENCODER


def test_a_decoder_sees_the_code_or_none(weights: Path, tmp_path: Path, digits_store: Path) -> None:
    pixels, stored = images.read(digits_store, ["train"]).images, {}
    for code in ("encoded", "dropped"):
        settings = experiment(taps=["mid"], levels=[0.1], code=code)
        probed_features(tmp_path / code, digits_store, weights, settings)
        stored[code] = array(tmp_path / code / "features/0", "0.1", "train", "identity", "mid")[0]
    assert abs(stored["encoded"] - stored["dropped"]).max() > 0.1
    expected = diffprobe.load(tmp_path / "run").features(pixels, 0.1, "mid")["mid"]
    np.testing.assert_allclose(stored["encoded"], expected, rtol=1e-2, atol=1e-2)
    assert "z" not in experiment(taps="all", levels=[0.1]).probed_taps


def test_of_soda_the_encoder_is_clean_and_its_code_guides_the_decoder(tmp_path: Path) -> None:
    """The features of z are the codes; the decoder's are those of the code of the image, as it is told."""
    path = checkpoint(tmp_path / "soda.safetensors")
    model, pixels = diffprobe.load(path), np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1), np.uint8)
    features = model.features(pixels, batch=7)
    assert list(features) == list(RESNET_TAPS) and features["stage_4"].shape == features["features"].shape == (20, 32)
    np.testing.assert_allclose(features["z"], model.encode(pixels), rtol=1e-4, atol=1e-5)
    guided, level = model.features(pixels, 1.0, "mid")["mid"], model.level(1.0)
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1
    noisy = perturb(x, level.of(x), normal(Key(0, f"features/{level.name}"), torch.arange(20), (1, 8, 8)))
    denoise, network = model.model.process.denoise, model.model.network

    def far(code: Tensor | None) -> float:
        with torch.inference_mode():
            h = denoise(network, noisy, level.of(x), Condition(z=code), ["mid"], True).activations["mid"].mean((2, 3))
        return float(abs(h.numpy() - guided).max())

    assert far(torch.from_numpy(features["z"])) < 1e-4 and far(None) > 1e-2


def test_arguments_say_what_is_clean_and_nothing_else_changes() -> None:
    features = probe_job_arguments.features(experiment(**MIXED), 0)
    assert features["levels"] == [0.5, 0.0, 0.1] and features["clean_taps"] == ENCODER
    assert "code" not in features and json.dumps(features, allow_nan=False)
    noisy = probe_job_arguments.features(experiment(), 0)
    assert "clean_taps" not in noisy
    assert probe_job_arguments.features(experiment(code="dropped"), 0) == noisy | {"code": "dropped"}


def test_vectors_are_pooled_as_they_are() -> None:
    h = torch.randn(3, 5)
    assert mean(h) is h and mean_std(h) is h and CLEAN.title == "clean"
    frame = pd.DataFrame({"sigma": [0.0]})
    assert frame["sigma"].notna().all()


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "clean tap without its level": (
        {"taps": ["z", "mid"]},
        "taps: 'z' is refused; allowed: a tap of the grid's levels",
    ),
    "tap without noise": ({"levels": ["clean"], "taps": ["z", "mid"]}, "is computed at a level with noise"),
    "level without taps": ({"levels": ["clean", 0.1], "taps": ["mid"]}, "also a tap of the level clean, such as z"),
    "twice": ({"levels": ["clean", "clean"], "taps": "all"}, "levels that differ"),
    "search": ({"levels": [], "search": {"low": 0.1, "high": 1}, "taps": ["z"]}, "taps: 'z' is refused"),
    "joined level": (
        MIXED | {"evaluators": {"a": HEADS, "b": HEADS | {"combine": [{"tap": "z"}]}}},
        "combine: {'tap': 'z'} is refused; allowed: a tap and a level at which it is computed",
    ),
    "another cell": (
        MIXED | {"evaluators": {"a": HEADS, "b": KNN | {"at": {"tap": "z"}}}},
        "at: {'tap': 'z'} is refused; allowed: a tap and a level at which it is computed",
    ),
    "joined pair": (
        MIXED | {"evaluators": {"a": HEADS, "b": HEADS | {"combine": [{"tap": "mid", "level": "clean"}]}}},
        "a tap and a level at which it is computed",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_lines(name: str) -> None:
    changes, line = MISTAKES[name]
    with pytest.raises(UserError) as error:
        experiment(**changes)
    assert line in str(error.value) and "\n" not in str(error.value)


def test_other_models_refuse_the_level(weights: Path) -> None:
    data = {"digits": {"source": {"kind": "digits"}}}
    for changes, line in (
        ({"levels": ["clean"]}, "levels: 'clean' is refused; allowed: a noise level, since this model sees only noisy"),
        ({"code": "dropped"}, "code: 'dropped' is refused; allowed: encoded"),
        ({"levels": ["cleam"]}, "levels"),
    ):
        with pytest.raises(UserError) as error:
            parse({"datasets": data, "experiments": {"toy": EXPERIMENT | {"probe": PROBE | changes}}})
        assert line in str(error.value) and "\n" not in str(error.value)
    model = diffprobe.load(weights.parents[2])
    with pytest.raises(UserError, match="no tap mid at clean; there are map, z"):
        model.features(np.zeros((1, 8, 8, 1), np.uint8), taps="mid")
    with pytest.raises(UserError, match=r"no tap z at sigma 0\.1"):
        model.features(np.zeros((1, 8, 8, 1), np.uint8), 0.1, taps=["z"])
