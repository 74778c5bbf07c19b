"""Features of networks that are told nothing: zeros in place of embeddings, no noise, and other pixel ranges."""

import copy
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
import zarr
from toy_dit import small
from toy_probing import HEADS, call, chain

from diffprobe.config.built import parse_network
from diffprobe.config.load import parse
from diffprobe.config.models import Experiment
from diffprobe.data import images
from diffprobe.data.pixels import imagenet_normalised
from diffprobe.diffusion.ddpm import DDPM
from diffprobe.diffusion.edm import EDM
from diffprobe.diffusion.levels import CLEAN
from diffprobe.evaluation.model import load_codec
from diffprobe.evaluation.representation.chunks import array
from diffprobe.evaluation.representation.features import FeatureModel
from diffprobe.evaluation.representation.featurestore import Copies, without_repeats
from diffprobe.evaluation.representation.inputs import ModelInputs
from diffprobe.latents.encoding import split_arrays
from diffprobe.networks.build import build
from diffprobe.networks.condition import Condition
from diffprobe.plan import job_arguments, probe_job_arguments
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.keyed import Key
from diffprobe.training import checkpoints

CPU = torch.device("cpu")
CONFIG = yaml.safe_load((Path(__file__).parents[1] / "config" / "config.yaml").read_text())
DIT = {"kind": "dit", "width": 24, "depth": 2, "heads": 2, "patch": 2, "augment": False}


@torch.no_grad()
def test_without_embeddings_only_the_biases_of_adaln_are_left() -> None:
    """So the level and the label change nothing; either embedding alone is that of weights which are zero."""
    network, x = small(), torch.randn(3, 4, 8, 8)
    t, label = torch.tensor([0.0, 500.0, 999.0]), torch.tensor([1, 2, 9])
    told_nothing = Condition(label, zeroed=("time", "label"))
    unconditioned = copy.deepcopy(network)
    for name, weight in unconditioned.named_parameters():
        if "adaLN_modulation" in name and name.endswith("weight"):
            weight.zero_()
    expected = unconditioned(x, t, taps=["block_1"])[1]["block_1"]
    torch.testing.assert_close(network(x, t, told_nothing, ["block_1"])[1]["block_1"], expected)
    assert not torch.allclose(network(x, t, Condition(label), ["block_1"])[1]["block_1"], expected)
    for name, embedder in (("time", "t_embedder"), ("label", "y_embedder")):
        silent = copy.deepcopy(network)
        for weight in getattr(silent, embedder).parameters():
            weight.zero_()
        own = network(x, t, Condition(label, zeroed=(name,)))[0]
        torch.testing.assert_close(own, silent(x, t, Condition(label))[0])


@torch.no_grad()
def test_images_without_noise_are_scaled_as_the_process_scales() -> None:
    network, x = small(), torch.randn(5, 4, 8, 8)
    for process, factor in ((DDPM(), 1.0), (EDM(), 2.0)):  # 1 / sigma_data
        source = FeatureModel(network, process, 0, CPU, zeroed=("time", "label"))
        pooled = source.pooled(x, torch.arange(5), CLEAN, {"a": ("block_1", "mean")}, Key(0, "p"), 3)["a"]
        seen = network(factor * x, torch.zeros(5), Condition(zeroed=("time", "label")), ["block_1"])[1]["block_1"]
        torch.testing.assert_close(pooled, seen.mean((2, 3)))


@torch.no_grad()
def test_a_network_that_is_shown_no_noise_is_told_the_level_nevertheless() -> None:
    """EDM's inputs at sigma 0.5: x / sqrt(sigma^2 + sigma_data^2) and ln(sigma) / 4, whatever the draw."""
    network, x, specs = small(), torch.randn(5, 4, 8, 8), {"a": ("block_1", "mean")}
    process = EDM()
    shown = FeatureModel(network, process, 0, CPU, noisy=False)
    copies = [shown.pooled(x, torch.arange(5), process.level(0.5), specs, Key(0, "p"), draw)["a"] for draw in (0, 1)]
    seen = network(2**0.5 * x, torch.full((5,), math.log(0.5) / 4), taps=["block_1"])[1]["block_1"].mean((2, 3))
    for copy_ in copies:
        torch.testing.assert_close(copy_, seen)
    # So one copy of an image is all that is stored of it.
    several = [Copies("train", "identity", 2), Copies("train", "augmented", 3)]
    data = {"train": ModelInputs(np.arange(5), lambda *at: x)}
    (one, augmented) = without_repeats(several, shown, process.level(0.5), data)
    assert (one.draws, augmented.draws) == (1, 3)
    assert without_repeats(several, FeatureModel(network, process, 0, CPU), process.level(0.5), data) == several


def test_results_say_where_no_noise_was_shown() -> None:
    """All but those of fine-tuning, which has an input of its own."""
    finetuned = {"kind": "finetune", "kimg": 1}
    for shown in ({}, {"input": "clean"}):
        experiment = toy(levels=[0.1], evaluators={"ridge": {"kind": "ridge"}, "ft": finetuned}, **shown)
        row = job_arguments.row(experiment, "toy")
        about = probe_job_arguments.grid(experiment, row)["about"]
        assert {key: about[key] for key in about if key == "input"} == shown
        assert "input" not in probe_job_arguments.finetuned(experiment, "ft", row, choosing=False)["about"]
        assert probe_job_arguments.features(experiment, 0).get("input", "noisy") == shown.get("input", "noisy")


def test_equal_copies_and_encoders_of_images_without_noise_are_refused() -> None:
    with pytest.raises(UserError, match=r"contrastive.*`input: noisy`, since two copies of a clean image are equal"):
        toy(levels=[0.1], input="clean", monitors=[{"kind": "contrastive"}])
    raw = yaml.safe_load((Path(__file__).parents[1] / "config" / "soda_forms.yaml").read_text())
    raw["experiments"] = {"soda": raw["experiments"]["default_0"]}
    raw["experiments"]["soda"]["probe"]["input"] = "clean"
    with pytest.raises(UserError, match=r"probe\.input: 'clean' is refused; allowed: noisy, since stage_1"):
        parse(raw)


def toy(**probe: Any) -> Experiment:
    evaluators = {"linear": HEADS, "attentive": {"kind": "attentive", "queries": 4, "epochs": 40, "lr": [0.01]}}
    raw = {"dataset": "digits", "network": DIT, "process": {"kind": "edm"}, "train": {"checkpoints": [1]}}
    raw |= {"sample": {"samplers": {"heun": {"kind": "heun", "steps": 3}}}}
    raw["probe"] = {"taps": "all", "seeds": [0, 1], "evaluators": evaluators} | probe
    config = parse({"datasets": {"digits": {"source": {"kind": "digits"}}}, "experiments": {"toy": raw}})
    return config.experiments["toy"]


def test_the_boards_way_through_all_jobs(tmp_path: Path, digits_store: Path) -> None:
    """Last block, no noise, zero embeddings: one copy of an image, a column `clean`, a row that says what was zero."""
    torch.manual_seed(0)
    network = build(parse_network(DIT), image_channels=1, classes=10)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    head = {"network": DIT | {"conditional": True, "label_dropout": 0.1}, "process": {"kind": "edm"}}
    head |= {"shape": {"image_channels": 1, "classes": 10}, "image": [1, 8, 8]}
    weights = tmp_path / "ema.safetensors"
    checkpoints.write(weights, {"ema": network.state_dict()}, head)
    settings = toy(levels=["clean"], zeroed=["time", "label"])
    assert settings.probed_taps == settings.probed_at(0.0) == ["block_0", "block_1"]
    run = chain(tmp_path / "run", digits_store, weights, settings)
    assert (run.choice["level"], run.choice["sigma"]) == ("clean", 0.0) and len(run.grid) == 4
    stored = array(tmp_path / "run/features/chosen", "clean", "train", "identity", f"{run.choice['tap']}.tokens")
    assert stored.shape == (1, 400, 24 * 16) and stored.attrs["channels"] == 24
    row = run.test["attentive"]["rows"][0]
    assert row["zeroed"] == "time+label" and row["value"] > 0.5 and row["seeds"] == 2
    x = torch.from_numpy(images.read(digits_store, ["train"]).images).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        seen = network(2 * x, torch.zeros(400), Condition(zeroed=("time", "label")), [run.choice["tap"]])[1]
    expected = seen[run.choice["tap"]].flatten(2).mT.flatten(1)  # token by token
    torch.testing.assert_close(torch.from_numpy(stored[0]).float(), expected, rtol=2e-3, atol=2e-2)


@pytest.mark.parametrize(
    ("experiment", "probe", "refused"),
    [
        ("digits_dit", {"levels": ["clean"]}, r"probe\.levels: 'clean' is refused; .*only noisy images \(or zeroed"),
        ("digits_edm", {"zeroed": ["time"]}, r"probe\.zeroed: 'time' is refused; .*zeros cannot replace it in a unet"),
        ("digits_dit", {"zeroed": ["label"], "label": 3}, r"probe\.label: 3 is refused; allowed: null, since zeroed"),
    ],
)
def test_what_cannot_be_zero_is_refused(experiment: str, probe: dict[str, Any], refused: str) -> None:
    raw = copy.deepcopy(CONFIG)
    raw["experiments"][experiment]["probe"] |= probe
    with pytest.raises(UserError, match=refused):
        parse(raw)


def test_an_autoencoder_is_given_normalised_pixels(tmp_path: Path, digits_store: Path) -> None:
    """The store of latents holds the moments of those pixels, and its identity says so."""
    network = {"kind": "autoencoder_kl", "latent_channels": 2, "widths": [8, 8], "blocks": 1, "groups": 4}
    head = {"network": network | {"channels": 3, "attention": False}, "shape": {}, "image": [1, 8, 8]}
    head["codec"] = {"size": 8, "channels": 3, "resize": "repeat"}
    torch.manual_seed(0)
    state = build(parse_network(head["network"])).state_dict()
    weights, stored = tmp_path / "ema.safetensors", {}
    checkpoints.write(weights, {"ema": state}, head)
    for normalise in (None, "imagenet"):
        entry = {"dataset": "digits", "autoencoder": "ae", "normalise": normalise, "precision": "fp32"}
        raw = copy.deepcopy(CONFIG)
        raw["autoencoders"] = {"ae": {"kind": "pretrained", "source": "a/b", "size": 8}}
        raw["latents"]["digits_16"] = entry
        raw["experiments"].pop("digits_dit")
        config = parse(raw)
        argument = job_arguments.encode(config, "digits_16")
        assert ("normalise" in argument) == (normalise is not None)
        out = tmp_path / str(normalise)
        files = {"images": digits_store, "autoencoder": weights}
        outputs = {"encoded": out / "0.json", "receipt": out / "r"}
        call("encode", argument, files, outputs, out, share="0/1", store=out / "latents.zarr")
        record = json.loads((out / "0.json").read_text())["store"]
        assert record["identity"].get("normalise") == normalise
        files = {"images": digits_store, "autoencoder": weights, "encoded.0": out / "0.json"}
        outputs = {"store": out / "latents.zarr/zarr.json", "receipt": out / "r"}
        call("latents", job_arguments.finish(config, "digits_16"), files, outputs, out)
        moments = zarr.open_array(str(out / "latents.zarr/train/moments"))  # (views, N, 2C, h, w)
        stored[normalise] = torch.from_numpy(moments[0, :20]).float()
    codec, _ = load_codec(weights, CPU, (1, 8, 8))
    with images.open_store(digits_store) as file:
        rows = split_arrays(file, ["train"])[1]["train"][:20]
        pixels = torch.from_numpy(file["images"][rows]).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        torch.testing.assert_close(stored[None], codec.moments(2 * pixels - 1), rtol=2e-3, atol=2e-3)
        expected = codec.moments((pixels.expand(-1, 3, -1, -1) - imagenet_mean()) / imagenet_deviation())
    torch.testing.assert_close(stored["imagenet"], expected, rtol=2e-3, atol=2e-3)
    assert imagenet_normalised(pixels).shape == (20, 3, 8, 8)


def imagenet_mean() -> torch.Tensor:
    return torch.tensor([0.485, 0.456, 0.406])[:, None, None]


def imagenet_deviation() -> torch.Tensor:
    return torch.tensor([0.229, 0.224, 0.225])[:, None, None]
