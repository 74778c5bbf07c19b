"""The evaluators on other features: another dataset's by the same model, the same dataset's by another network."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.neighbors import KNeighborsClassifier
from torch import nn
from toy_latents import IDENTITY, complete, planned, write_images
from toy_probing import EXPERIMENT, HEADS, PROBE, call, chain, experiment

from diffprobe.config.load import parse
from diffprobe.config.models import Config
from diffprobe.data import images
from diffprobe.data.splits import SPLITS
from diffprobe.evaluation.representation.inputs import fitted, open_inputs
from diffprobe.latents.store import open_store
from diffprobe.plan import probe_job_arguments
from diffprobe.plan.inputs import Inputs
from diffprobe.plan.layout import Layout
from diffprobe.plan.uses import used_latents
from diffprobe.reporting.tables import results, summary
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.keyed import Key

EVALUATORS = {"ridge": {"kind": "ridge"}, "knn": {"kind": "knn", "k": [3]}}
ROW = {"experiment": "toy", "dataset": "digits"}


def config(extractors: dict[str, Any] | None = None, **probe: Any) -> Config:
    digits = {"source": {"kind": "digits"}}
    whole = EXPERIMENT | {"probe": PROBE | {"evaluators": EVALUATORS} | probe}
    datasets = {"digits": digits, "same": digits}
    return parse({"datasets": datasets, "extractors": extractors or {}, "experiments": {"toy": whole}})


def evaluated(folder: Path, argument: dict[str, Any], store: Path, pictures: Path) -> dict[str, Any]:
    out = {"rows": folder / "rows.json", "receipt": folder / "r"}
    call("evaluate", argument, {"store": store, "images": pictures}, out, folder)
    return json.loads(out["rows"].read_text())["rows"][0]


def test_the_same_images_under_another_name_have_the_same_accuracy(
    tmp_path: Path, digits_store: Path, untrained: Path
) -> None:
    toy = config(transfer=["same"]).experiments["toy"]
    own = chain(tmp_path, digits_store, untrained, toy)
    store = tmp_path / "features/transfer/same/features.json"
    inputs = {"choice": tmp_path / "choice.json", "data": digits_store, "weights.0": untrained}
    call("chosen", probe_job_arguments.chosen(toy), inputs, {"store": store, "receipt": tmp_path / "r"}, tmp_path)
    rows = [
        evaluated(tmp_path, probe_job_arguments.transfer(toy, "same", name, ROW), store, digits_store)
        for name in EVALUATORS
    ]
    for name, row in zip(EVALUATORS, rows, strict=True):
        expected = own.test[name]["rows"][0]
        assert row == expected | {"dataset": "same", "evaluator": f"same_{name}"}
    every = [*own.rows, *(row for test in own.test.values() for row in test["rows"]), *rows]
    assert len(summary(every)) == len(every)
    table = results(every, {"toy": own.choice})
    assert table["same_knn test"].item() == table["knn test"].item()


def test_latents_of_another_dataset_are_scaled_as_the_models_own(tmp_path: Path) -> None:
    pictures = write_images(tmp_path / "images.h5")
    complete(planned(tmp_path / "own"), pictures)
    complete(planned(tmp_path / "other"), pictures, 0.5)
    strange = planned(tmp_path / "strange", identity=IDENTITY | {"autoencoder": "another"})
    complete(strange, pictures)
    own, other, strangers = (tmp_path / name / "latents.zarr/zarr.json" for name in ("own", "other", "strange"))
    content, part = open_store(own.parent).content, (slice(0, 256), Key(0, "noise"), 1, True)
    views: tuple[Any, ...] = (["train"], torch.device("cpu"), content)
    expected = open_inputs(own, *views)["train"].read(*part)
    assert torch.equal(open_inputs(other, *views, own=own)["train"].read(*part), expected)
    with pytest.raises(UserError, match="not the latents that this model was trained on"):
        open_inputs(other, *views[:2], "0" * 64, own=own)
    with pytest.raises(UserError, match="not by the autoencoder that made"):
        open_inputs(strangers, *views, own=own)


NETWORK = {"kind": "conv_autoencoder", "channels": 8}
VAE = {"kind": "trained", "dataset": "digits", "size": 8, "network": NETWORK, "train": {"kimg": 1}}


def test_latents_of_another_dataset_are_made_by_the_models_autoencoder() -> None:
    entry = {"dataset": "digits", "autoencoder": "vae"}
    latents = {"own": entry, "other": {"dataset": "same", "autoencoder": "vae"}, "third": entry | {"dataset": "same"}}
    raw = {
        "datasets": {"digits": {"source": {"kind": "digits"}}, "same": {"source": {"kind": "digits"}}},
        "autoencoders": {"vae": VAE, "another": VAE},
        "latents": latents | {"third": {"dataset": "same", "autoencoder": "another"}},
        "experiments": {"toy": EXPERIMENT | {"latents": "own", "probe": PROBE | {"transfer": ["same"]}}},
        "only": ["toy"],
    }
    whole = parse(raw)
    assert list(whole.datasets) == ["digits", "same"] and list(used_latents(whole)) == ["own", "other"]
    assert Inputs(whole).transferred_data("toy", "same") == Layout(whole.results).latents("other")
    del raw["latents"]["other"]
    with pytest.raises(UserError) as error:
        parse(raw)
    line = "probe.transfer: 'same' is refused; allowed: a dataset that an entry of latents has with the autoencoder vae"
    assert line in str(error.value) and "\n" not in str(error.value)


def test_images_of_another_shape() -> None:
    """Grey is repeated, colour becomes ITU-R 601 luma, a larger image is halved, a smaller one grows by bicubic."""
    random = np.random.default_rng(0)
    grey, colour = (random.integers(0, 256, (2, 8, 8, channels), np.uint8) for channels in (1, 3))
    assert fitted(grey, (8, 8, 1)) is grey and np.array_equal(fitted(grey, (8, 8, 3)), grey.repeat(3, 3))
    luma = colour @ [0.299, 0.587, 0.114]
    assert np.abs(fitted(colour, (8, 8, 1))[..., 0] - luma).max() <= 1
    halves = grey.reshape(2, 4, 2, 4, 2).mean((2, 4))
    assert np.abs(fitted(grey, (4, 4, 1))[..., 0] - halves).max() <= 1
    larger = [Image.fromarray(one[..., 0]).resize((12, 12), Image.Resampling.BICUBIC) for one in grey]
    assert np.array_equal(fitted(grey, (12, 12, 3))[..., 2], np.stack(larger))


def test_a_baseline_is_what_scikit_learn_finds_in_the_extractor(tmp_path: Path, digits_store: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        torch.jit.save(torch.jit.script(nn.Flatten()), tmp_path / "flat.pt")
    flat = {"kind": "torchscript", "weights": str(tmp_path / "flat.pt"), "size": 8, "trusted": True}
    whole = config({"flat": flat}, baselines=["flat"], augmented=2)
    store = tmp_path / "features/flat/features.json"
    inputs, outputs = {"images": digits_store}, {"store": store, "receipt": tmp_path / "r"}
    call("extracted", probe_job_arguments.extracted(whole, "flat"), inputs, outputs, tmp_path)
    argument = probe_job_arguments.extractor_probe(whole, whole.experiments["toy"], "flat", "knn", ROW)
    row = evaluated(tmp_path, argument, store, digits_store)
    parts = [images.read(digits_store, [split]) for split in SPLITS]
    x, y = [part.images.reshape(len(part.images), -1) for part in parts], [part.labels for part in parts]
    x = [vectors / np.linalg.norm(vectors, axis=1)[:, None] for vectors in x]
    neighbours = KNeighborsClassifier(1).fit(np.concatenate(x[:2]), np.concatenate(y[:2]))
    one = probe_job_arguments.extractor_probe(whole, whole.experiments["toy"], "flat", "knn", ROW)
    one["evaluator"]["k"] = [1]
    accuracy = evaluated(tmp_path, one, store, digits_store)["value"]
    assert accuracy == pytest.approx(neighbours.score(x[2], y[2]), abs=0.006)  # features are stored in float16
    assert row["evaluator"] == "flat_knn" and row["extractor"] == "script_flat" and row["views"] == 0
    assert row["kimg"] is None and len(summary([row])) == 1 and row["value"] > 0.9


@pytest.mark.parametrize(
    ("probe", "line"),
    [
        ({"transfer": ["nowhere"]}, "probe.transfer: 'nowhere' is refused; allowed: same"),
        ({"transfer": ["digits"]}, "probe.transfer: 'digits' is refused; allowed: same"),
        (
            {"baselines": ["nothing"]},
            "probe.baselines: 'nothing' is refused; allowed: an entry of extractors: nothing (none is defined)",
        ),
        ({"transfer": ["same"], "evaluators": {"a": HEADS, "same_a": HEADS}}, "since same_a names rows of two"),
        ({"transfer": ["same", "same"]}, "names rows of two"),
    ],
)
def test_contradictions_in_one_line(probe: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError) as error:
        config(**probe)
    assert line in str(error.value) and "\n" not in str(error.value)


def test_evaluators_that_name_cells_are_left_out_of_baselines() -> None:
    probe = experiment(evaluators={"a": HEADS, "b": HEADS | {"combine": [{"level": 0.1}]}}).probe
    assert probe is not None and list(probe.plain_heads) == ["a"]
