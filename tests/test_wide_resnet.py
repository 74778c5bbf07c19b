"""The wide residual network, its task, and its own classes as an evaluator."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from toy_probing import EXPERIMENT, UNET, chain, write_digits
from toy_training import KilledError, equal, run_once, slice_of, stream

import diffprobe
from diffprobe.config.built import parse_network
from diffprobe.config.load import parse
from diffprobe.config.models import Experiment
from diffprobe.config.training import HalfLife
from diffprobe.config.views import Crop
from diffprobe.data import images
from diffprobe.diffusion.ddpm import DDPM
from diffprobe.evaluation.representation.chunks import array
from diffprobe.networks.build import build
from diffprobe.networks.flops import flops
from diffprobe.networks.wide_resnet import WideResNet, norm
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.keyed import Draws
from diffprobe.training import checkpoints
from diffprobe.training.optimizers import Options
from diffprobe.training.tasks.noise_classification import NoiseClassification, random_crop

SMALL = {"kind": "wide_resnet", "depth": 10, "width": 1, "embedding": 32}
TASK = {"kind": "noise_classification", "crop": None}
WRN = {"dataset": "digits", "network": SMALL, "process": {"kind": "edm"}, "task": TASK}
WRN |= {"train": {"checkpoints": [1], "splits": ["train"]}}
PROBE = {"levels": [0.1, 1.0], "taps": ["logits"], "weights": "raw", "seeds": [0, 1]}
PROBE |= {"evaluators": {"own": {"kind": "logits"}, "wrn": {"kind": "logits", "levels": "all"}}}


def small(seed: int = 0) -> WideResNet:
    torch.manual_seed(seed)
    return WideResNet(1, classes=3, depth=10, width=1, embedding=32)


def test_wrn_28_10_has_the_published_size() -> None:
    with torch.device("meta"):
        network = WideResNet(3, classes=10)
        x, c_noise = torch.zeros(1, 3, 32, 32), torch.zeros(1)
        assert sum(p.numel() for p in network.parameters()) == 38_913_114
        assert round(flops(lambda: network(x, c_noise)) / 1e9, 2) == 10.43
        _, taps = network(x, c_noise, taps=network.taps)
    shapes = [(1, 160, 32, 32), (1, 320, 16, 16), (1, 640, 8, 8), (1, 640), (1, 10)]
    assert [tuple(h.shape) for h in taps.values()] == shapes


@pytest.mark.parametrize("width", [1, 2, 9, 10, 11])
def test_any_width_is_divided_into_groups(width: int) -> None:
    for channels in (16 * width, 32 * width, 64 * width):
        groups = norm(channels).num_groups
        assert channels % groups == 0 and channels // groups >= 4 and groups <= 32


def test_images_are_standardised_and_the_level_is_seen() -> None:
    """Scale and offset of an image, which a process chooses, change nothing; a plain image stays finite."""
    network, x = small().eval(), torch.randn(2, 1, 8, 8)
    c_noise = torch.tensor([0.1, 0.1])
    logits, _ = network(x, c_noise)
    torch.testing.assert_close(network(7 * x - 3, c_noise)[0], logits, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(network(x, c_noise + 0.01)[0], logits, atol=1e-2)
    assert network(torch.ones(2, 1, 8, 8), c_noise)[0].isfinite().all()


def test_shortcuts_are_pooled_padded_and_first_activated() -> None:
    """With nothing from the second convolutions, what is left are the shortcuts."""
    network, x = small().eval(), torch.randn(2, 1, 8, 8)
    for block in network.blocks:
        nn.init.zeros_(block.conv2.weight)
    _, taps = network(x, torch.zeros(2), taps=network.taps)
    std, mean = torch.std_mean(x, dim=(1, 2, 3), correction=0, keepdim=True)
    first = network.blocks[0].norm1(network.stem((x - mean) / std)).relu()
    torch.testing.assert_close(taps["group_1"], first)
    second = torch.cat([F.avg_pool2d(first, 2), torch.zeros(2, 16, 4, 4)], dim=1)
    torch.testing.assert_close(taps["group_2"], second)


def task() -> NoiseClassification:
    return NoiseClassification(small(), DDPM(time_input="fraction"), Crop(pad=1))


def test_the_loss_is_of_images_at_the_process_own_levels() -> None:
    own, batch = task(), stream(8, 1).read(0, 16)
    own.crop = None
    draws = Draws(0, batch.positions)
    noised = own.process.noised(batch.images, draws)
    assert ((noised.level.c_noise > 0) & (noised.level.c_noise <= 1)).all()  # t / T
    logits, _ = own.module(noised.noisy, noised.level.c_noise)
    losses = own.losses(batch, draws)
    torch.testing.assert_close(losses["loss"], F.cross_entropy(logits, batch.labels))
    assert losses["accuracy"].item() == (logits.argmax(1) == batch.labels).float().mean().item()


def test_a_killed_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    averages = {"ema": HalfLife(kind="half_life", kimg=0.05, ramp=1.0)}
    options = Options(batch=4, lr=0.1, optimizer="sgd", weight_decay=5e-4, averages=averages)
    whole, _, _ = run_once(slice_of(tmp_path / "whole", 1, 0, 4), task(), stream(8, 1), options)
    part = slice_of(tmp_path / "killed", 1, 0, 4)
    with pytest.raises(KilledError):
        run_once(part, task(), stream(8, 1), options, die_at=2, autosave=0)
    resumed, _, steps = run_once(part, task(), stream(8, 1), options, autosave=0)
    assert equal(resumed, whole) and steps[0] > 0


def test_crops_are_shifts_of_the_image_on_black() -> None:
    x = torch.rand(1, 1, 4, 4).expand(64, -1, -1, -1) * 2 - 1
    cut = random_crop(x, Draws(0, torch.arange(64)), Crop(pad=1))
    padded = F.pad(x[:1], (1, 1, 1, 1), value=-1)
    shifts = [padded[..., i : i + 4, j : j + 4] for i in range(3) for j in range(3)]
    flipped = F.pad(x[:1].flip(3), (1, 1, 1, 1), value=-1)
    shifts += [flipped[..., i : i + 4, j : j + 4] for i in range(3) for j in range(3)]
    each = (cut[:, None] - torch.cat(shifts)[None]).abs().amax((2, 3, 4))  # (64, 18)
    assert each.amin(1).max() < 1e-6 and len(each.argmin(1).unique()) > 12


def whole(**more: Any) -> Experiment:
    config = {"datasets": {"digits": {"source": {"kind": "digits"}}}, "experiments": {"toy": WRN | more}}
    return parse(config).experiments["toy"]


def test_its_own_classes_are_scored_by_level(tmp_path: Path) -> None:
    pictures, weights = write_digits(tmp_path / "images.h5"), tmp_path / "raw.safetensors"
    settings = whole(probe=PROBE)
    shape, process = {"image_channels": 1, "classes": 10}, {"kind": "edm"}
    network = settings.network.argument()
    header = {"network": network, "process": process, "shape": shape, "image": [1, 8, 8]}
    torch.manual_seed(0)
    checkpoints.write(weights, {"raw": build(parse_network(network), **shape).state_dict()}, header)
    run = chain(tmp_path, pictures, weights, settings)
    labels = images.labels(pictures, "test")
    for row, level in zip(run.test["wrn"]["rows"], ("0.1", "1"), strict=False):
        stored = array(tmp_path / "features/chosen", level, "test", "identity", "logits")[:].astype(np.float32)
        p: Tensor = torch.from_numpy(stored).softmax(2).view(2, 2, -1, 10).mean(1)  # by seed
        accuracies = (p.argmax(2).numpy() == labels).mean(1)
        assert row["value"] == pytest.approx(accuracies.mean())
        assert row["spread"] == pytest.approx(accuracies.std(ddof=1))
    loaded = diffprobe.load(weights, weights="raw")
    assert loaded.features(np.zeros((2, 8, 8, 1), np.uint8), 0.1, "logits")["logits"].shape == (2, 10)
    with pytest.raises(UserError, match="a classifier denoises nothing"):
        loaded.sample(1)


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"task": {"kind": "diffusion"}}, "task.kind: 'diffusion' is refused; allowed: noise_classification"),
        ({"network": UNET}, "network.kind: 'unet' is refused; allowed: wide_resnet"),
        ({"network": SMALL | {"depth": 12}}, "depth: 12 is refused; allowed: 6 n + 4"),
        ({"process": {"kind": "ddpm"}}, "process.time_input: 'index' is refused; allowed: fraction"),
        ({"sample": EXPERIMENT["sample"]}, "allowed: none, since a classifier draws no samples"),
        ({"train": {"checkpoints": [1]}, "probe": PROBE}, "allowed: [train], since select chooses among classifiers"),
        ({"train": {"checkpoints": [1], "splits": ["train"], "flip": True}}, "since experiments.toy.task.crop says"),
        ({"probe": PROBE | {"taps": "all"}}, "allowed: probe.taps: [logits], or at: {tap: logits}"),
    ],
)
def test_what_does_not_fit_a_classifier_is_refused(more: dict[str, Any], problem: str) -> None:
    with pytest.raises(UserError) as caught:
        whole(**more)
    assert problem in str(caught.value)


def test_a_diffusion_model_has_no_classes_of_its_own_and_needs_a_sampler() -> None:
    diffusion = EXPERIMENT | {"sample": {}, "probe": EXPERIMENT["probe"] | {"evaluators": {"own": {"kind": "logits"}}}}
    with pytest.raises(UserError) as caught:
        parse({"datasets": {"digits": {"source": {"kind": "digits"}}}, "experiments": {"toy": diffusion}})
    assert "allowed: at least one sampler" in str(caught.value)
    assert "allowed: another, since the network unet has no layer logits" in str(caught.value)
