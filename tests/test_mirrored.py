"""Mirrored copies: features of every image and of its mirror image."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from toy_probing import chain

from diffprobe.config.built import parse_network
from diffprobe.config.load import parse
from diffprobe.config.models import Experiment
from diffprobe.data import images
from diffprobe.diffusion.edm import EDM
from diffprobe.evaluation.representation.chunks import array
from diffprobe.evaluation.representation.features import FeatureModel
from diffprobe.evaluation.representation.inputs import open_inputs
from diffprobe.networks.build import build
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.keyed import Key
from diffprobe.training import checkpoints

CPU = torch.device("cpu")
DIT = {"kind": "dit", "width": 24, "depth": 2, "heads": 2, "patch": 2, "augment": False}


def test_every_second_draw_is_mirrored(digits_store: Path) -> None:
    data = open_inputs(digits_store, ["train"], CPU, None, mirrored=True)["train"]
    draws = [data.read(slice(3, 7), Key(0, "x"), draw, False) for draw in range(4)]
    for draw, x in enumerate(draws):
        torch.testing.assert_close(x, draws[0].flip(3) if draw % 2 else draws[0], rtol=0, atol=0)
    assert not torch.equal(draws[0], draws[1])


def test_mirrored_copies_are_fitted_on_and_averaged(tmp_path: Path, digits_store: Path) -> None:
    """Without noise an image has two copies, itself and its mirror image, which all seeds share."""
    torch.manual_seed(0)
    network = build(parse_network(DIT), image_channels=1, classes=10)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    head = {"network": DIT, "process": {"kind": "edm"}, "image": [1, 8, 8]}
    head |= {"shape": {"image_channels": 1, "classes": 10}}
    weights = tmp_path / "ema.safetensors"
    checkpoints.write(weights, {"ema": network.state_dict()}, head)
    ridge = {"ridge": {"kind": "ridge", "strength": [0.1]}}
    run = chain(
        tmp_path / "run", digits_store, weights, toy(levels=[0.1], input="clean", mirrored=True, evaluators=ridge)
    )
    tap, folder = run.choice["tap"], tmp_path / "run/features/chosen"
    stored = {
        split: torch.from_numpy(array(folder, run.choice["level"], split, "identity", tap)[:]).float()
        for split in ("train", "select", "test")
    }
    data = {split: images.read(digits_store, [split]) for split in stored}
    process = EDM()
    source = FeatureModel(network.eval(), process, 0, CPU, noisy=False)
    for split, (pixels, _, rows) in data.items():
        assert len(stored[split]) == 2
        for copy_, seen in zip(stored[split], (pixels, pixels[:, :, ::-1].copy()), strict=True):
            x = torch.from_numpy(seen).permute(0, 3, 1, 2) / 127.5 - 1
            specs = {"f": (tap, "mean")}
            features = source.pooled(x, torch.from_numpy(rows), process.level(0.1), specs, Key(0, "x"), 0)["f"]
            torch.testing.assert_close(copy_, features, rtol=2e-3, atol=2e-3)
    # Fitted on both copies of all images, and judged by the mean of both copies' scores.
    x = torch.cat([stored["train"], stored["select"]], 1).flatten(0, 1).numpy()
    labels = np.concatenate([data["train"].labels, data["select"].labels])
    scaled = make_pipeline(StandardScaler(), Ridge(alpha=0.1 * len(x)))
    fitted = scaled.fit(x, np.eye(10)[np.tile(labels, 2)])
    scores = np.clip([fitted.predict(copy_.numpy()) for copy_ in stored["test"]], 1e-6, None)
    right = (scores / scores.sum(-1, keepdims=True)).mean(0).argmax(-1) == data["test"].labels
    row = run.test["ridge"]["rows"][0]
    assert row["value"] == pytest.approx(right.mean(), abs=0.006) and row["value"] > 0.2  # chance 0.1
    assert row["mirrored"] is True and row["seeds"] == 1  # equal features are fitted once


def test_what_cannot_be_mirrored_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"probe\.draws: 3 is refused; allowed: an even number, since every second copy"
    ):
        toy(levels=[0.1], mirrored=True, draws=3)
    raw = yaml.safe_load((Path(__file__).parents[1] / "config" / "config.yaml").read_text())
    raw["experiments"]["digits_dit"]["probe"]["mirrored"] = True
    with pytest.raises(UserError, match=r"probe\.mirrored: true is refused; allowed: false, since latents"):
        parse(raw)


def toy(**probe: Any) -> Experiment:
    raw = {"dataset": "digits", "network": DIT, "process": {"kind": "edm"}, "train": {"checkpoints": [1]}}
    raw |= {"sample": {"samplers": {"heun": {"kind": "heun", "steps": 3}}}}
    raw["probe"] = {"taps": "all", "seeds": [0, 1], "evaluators": {"ridge": {"kind": "ridge"}}} | probe
    config = parse({"datasets": {"digits": {"source": {"kind": "digits"}}}, "experiments": {"toy": raw}})
    return config.experiments["toy"]
