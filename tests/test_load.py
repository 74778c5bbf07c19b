"""`diffprobe.load`: which checkpoint, the workflow's own features and samples, what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from toy_networks import SMALL

import diffprobe
from diffprobe.config import processes
from diffprobe.config.built import parse_model, parse_network
from diffprobe.diffusion.build import build_sampler
from diffprobe.evaluation import model
from diffprobe.evaluation.representation.features import FeatureModel
from diffprobe.evaluation.sampling import draw
from diffprobe.networks.autoencoder import Codec
from diffprobe.networks.build import build
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.keyed import Draws, Key
from diffprobe.trained import TrainedModel
from diffprobe.training import checkpoints

CPU = torch.device("cpu")
UNET = {"kind": "unet", "channels": 8, "multipliers": [1, 2], "blocks": 1, "attention": [1], "groups": 4}
UNET |= {"head_groups": 4, "dropout": 0.5}
PROCESSES = {
    "edm": {"kind": "edm"},
    "ddpm": {"kind": "ddpm", "steps": 100},
    "flow": {"kind": "flow"},
}
IMAGES = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 1), dtype=np.uint8)
FLOATS = IMAGES.transpose(0, 3, 1, 2) / 127.5 - 1


def write(path: Path, process: dict, network: dict = UNET, seed: int = 0, **header: object) -> Path:
    """A checkpoint with two averages."""
    torch.manual_seed(seed)
    head = {"network": network, "process": process, "shape": {"image_channels": 1}, "image": [1, 8, 8], **header}
    names = ["raw"] if path.name == "raw.safetensors" else ["ema", "slow"]
    sets = {name: build(parse_network(network), **head["shape"]).state_dict() for name in names}
    checkpoints.write(path, sets, head)
    return path


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with checkpoints at 9 and 10 kimg."""
    for i, kimg in enumerate((9, 10)):
        write(tmp_path / f"run/checkpoints/{kimg}/ema.safetensors", PROCESSES["edm"], seed=i)
        write(tmp_path / f"run/checkpoints/{kimg}/raw.safetensors", PROCESSES["edm"], seed=10 + i)
    (tmp_path / "run/checkpoints/30").mkdir()  # one that has not been reached
    return tmp_path / "run"


def weight(trained: TrainedModel) -> torch.Tensor:
    return trained.model.network.stem.weight


def test_which_checkpoint(run: Path) -> None:
    latest, first = run / "checkpoints/10", run / "checkpoints/9"
    for trained, file, weights in (
        (diffprobe.load(run), latest / "ema.safetensors", "ema"),
        (diffprobe.load(run, kimg=9), first / "ema.safetensors", "ema"),
        (diffprobe.load(str(first), weights="slow"), first / "ema.safetensors", "slow"),
        (diffprobe.load(run, weights="raw"), latest / "raw.safetensors", "raw"),
        (diffprobe.load(first / "raw.safetensors", weights=None), first / "raw.safetensors", "raw"),
    ):
        assert torch.equal(weight(trained), checkpoints.load(file, CPU, parse_model, weights)[0].stem.weight)


@pytest.mark.parametrize("kind", PROCESSES)
def test_features_and_samples_are_the_workflows(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path / "x.safetensors", PROCESSES[kind])
    trained, loaded = diffprobe.load(path, device="cpu"), model.load(path, CPU)
    features = trained.features(IMAGES, 0.3, ["out_2", "mid"], seed=3, batch=2)
    assert (
        list(features) == ["out_2", "mid"] and features["mid"].dtype == np.float32 and features["mid"].shape == (5, 16)
    )
    level, x = loaded.process.level(0.3), torch.from_numpy(IMAGES).permute(0, 3, 1, 2) / 127.5 - 1
    key = Key(3, f"features/{level.name}")
    source = FeatureModel(loaded.network, loaded.process, 3, CPU)
    expected = source.pooled(x, torch.arange(5), level, {tap: (tap, "mean") for tap in ("mid", "out_2")}, key, 0)
    for tap in features:
        np.testing.assert_allclose(features[tap], expected[tap].numpy(), atol=1e-5)
        np.testing.assert_allclose(trained.features(x, 0.3, tap, seed=3)[tap], features[tap], atol=1e-5)
    assert set(trained.features(IMAGES[:1], 0.3)) == set(trained.taps)

    usual = {"edm": ("heun", 18), "ddpm": ("ddim", 100), "flow": ("heun", 25)}[kind]
    whole = trained.sampler(None)
    assert (whole.kind, whole.steps, whole.clip) == (*usual, kind == "ddpm")
    sampler = {"kind": whole.kind, "steps": 4}
    images = trained.sample(3, seed=1, sampler=sampler, batch=2)
    assert images.shape == (3, 8, 8, 1) and images.dtype == np.uint8
    chosen = build_sampler(trained.sampler(sampler), processes.Process.member(loaded.header["process"]))
    assert np.array_equal(images, draw(loaded, chosen, torch.arange(3), 1).numpy())
    assert trained.level(0.3) == level


@pytest.mark.parametrize("kind", PROCESSES)
def test_the_loss_is_the_objective_at_keyed_draws(tmp_path: Path, kind: str) -> None:
    trained = diffprobe.load(write(tmp_path / "x.safetensors", PROCESSES[kind]), device="cpu")
    x = torch.from_numpy(IMAGES).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.inference_mode():
        expected = trained.model.process.loss(trained.model.network, x, Draws(3, torch.arange(5), "loss/"))
    assert trained.loss(IMAGES, seed=3) == pytest.approx(expected.item(), rel=1e-5)
    assert trained.loss(IMAGES, [-1] * 5, seed=3, batch=2) == pytest.approx(expected.item(), rel=1e-5)
    assert trained.loss(IMAGES, seed=4) != pytest.approx(expected.item(), rel=1e-3)


def test_a_wrapped_model_is_one_like_others(tmp_path: Path) -> None:
    trained = diffprobe.load(
        write(tmp_path / "x.safetensors", PROCESSES["ddpm"], {"kind": "diffusers", "config": SMALL})
    )
    assert trained.features(IMAGES, 0.5, "out_1")["out_1"].shape == (5, 32)
    assert trained.sample(2, sampler={"kind": "ddim", "steps": 2}).shape == (2, 8, 8, 1)


def test_a_model_of_latents_needs_its_autoencoder(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = {"kind": "autoencoder_kl", "channels": 1, "latent_channels": 2, "widths": [4, 8], "blocks": 1, "groups": 2}
    config |= {"attention": False}
    network, codec = build(parse_network(config)), {"size": 8, "channels": 1, "resize": "bilinear"}
    own = tmp_path / "run/checkpoints/1/ema.safetensors"
    checkpoints.write(own, {"ema": network.state_dict()}, {"network": config, "shape": {}, "codec": codec})
    latents = {"scale": [2.0, 3.0], "shift": [0.1, 0.2], "image": [1, 8, 8], "content": "c"}
    shape = {"image_channels": 2}
    path = write(tmp_path / "x.safetensors", PROCESSES["edm"], latents=latents, shape=shape, image=[2, 4, 4])
    with pytest.raises(UserError, match="a model of latents; name its autoencoder"):
        diffprobe.load(path)
    with pytest.raises(UserError, match="no checkpoint of an autoencoder"):
        diffprobe.load(path, autoencoder=path)
    trained = diffprobe.load(path, autoencoder=tmp_path / "run")
    assert trained.sample(2, sampler={"kind": "heun", "steps": 2}).shape == (2, 8, 8, 1)
    assert trained.features(IMAGES, 0.1, "mid")["mid"].shape == (5, 16)
    mean, _ = Codec(network.eval(), **codec, image=(1, 8, 8)).moments(x := trained.pixels(IMAGES)).chunk(2, dim=1)
    many = torch.stack([trained.seen(x, 0, Key(0, "k"), draw) for draw in range(200)]).mean(0)  # of the posterior
    expected = (mean - torch.tensor([0.1, 0.2])[:, None, None]) * torch.tensor([2.0, 3.0])[:, None, None]
    assert (many - expected).abs().max() < 1.5  # scale / sqrt(400) times five, with variances near one
    assert torch.equal(trained.seen(x[2:], 2, Key(0, "k"), 0), trained.seen(x, 0, Key(0, "k"), 0)[2:])


def test_mistakes_are_lines(run: Path, tmp_path: Path) -> None:
    trained = diffprobe.load(run)
    (tmp_path / "foreign.safetensors").write_bytes(b"x" * 100)
    for action, line in (
        (lambda: diffprobe.load(tmp_path / "none"), "no checkpoint there; expected a run's folder"),
        (lambda: diffprobe.load(run, kimg=30), "no checkpoint at 30 kimg; there are 9, 10"),
        (lambda: diffprobe.load(run, weights="fast"), "no weights called fast; it has ema, slow"),
        (lambda: diffprobe.load(tmp_path / "foreign.safetensors"), "is damaged or not a checkpoint"),
        (lambda: trained.features(IMAGES, 0.3, ["out_9"]), "no tap out_9; there are in_1"),
        (lambda: trained.features(IMAGES, 0), "sigma 0: expected"),
        (lambda: trained.features(IMAGES[..., 0], 0.3), r"images: .* expected uint8 \(N, 8, 8, 1\)"),
        (lambda: trained.features(IMAGES.astype(int), 0.3), "images: torch.int64"),
        (lambda: trained.features(IMAGES[:0], 0.3), "images: empty"),
        (lambda: trained.features(FLOATS * 127.5 + 127.5, 0.3), r"images: values from .* in \[-1, 1\]"),
        (lambda: trained.features(FLOATS * np.nan, 0.3), "images: NaN or infinite values in image 0; expected"),
        (lambda: trained.features(["a", "b"], 0.3), r"images: .*; expected uint8"),
        (lambda: trained.features(IMAGES, float("inf")), "sigma inf: expected"),
        (lambda: trained.features(IMAGES, 0.3, batch=0), "batch 0: expected a positive integer"),
        (lambda: trained.loss(IMAGES, [0] * 4), r"labels: expected 5 integers, each -1 \(none\)"),
        (lambda: trained.sample(-1), "n -1: expected a positive integer"),
        (lambda: trained.sample(1, sampler={"kind": "ddim"}), "sampler: kind: ddim: allowed: heun, euler, for"),
        (lambda: trained.sample(1, sampler={"kind": "heun", "stepps": 2}), "sampler: stepps: Extra inputs"),
    ):
        with pytest.raises(UserError, match=line) as error:
            action()
        assert "\n" not in str(error.value)
