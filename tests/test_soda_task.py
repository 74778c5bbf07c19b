"""SODA's task: one step by hand, what it hides, a kill in the middle, both modulations, what its config refuses."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_soda import CPU, NETWORK, OPTIONS, TASK, argument, soda
from toy_training import KilledError, equal, run_once, slice_of, stream

from diffprobe.config.built import parse_model
from diffprobe.config.load import parse
from diffprobe.config.training import HalfLife
from diffprobe.config.views import RandomView
from diffprobe.data.batch import Batch
from diffprobe.data.random_view import random_view
from diffprobe.networks.condition import NOTHING, Condition
from diffprobe.networks.soda import SODA
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.keyed import Draws
from diffprobe.training import checkpoints
from diffprobe.training.loop import fresh, train
from diffprobe.training.tasks.soda import CodedDiffusion

AVERAGES = {"ema": HalfLife(kind="half_life", kimg=0.05, ramp=1.0)}


def batch(n: int = 16) -> Batch:
    return stream(size=8, channels=1).read(0, n)


def loss(task: CodedDiffusion, seen: Batch) -> torch.Tensor:
    return task.losses(seen, Draws(0, seen.positions))["loss"]


def lively(task: CodedDiffusion) -> CodedDiffusion:
    """With modulation that does something: its layers begin at zero."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in task.module.decoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return task


def test_a_step_by_hand() -> None:
    """The mean squared error of the noise of the target, by the code of the noisy normalised source."""
    task, seen = lively(soda({"parts": "levels"}, part_dropout=0.5, z_dropout=0.3)), batch()
    draws = Draws(0, seen.positions)
    source = random_view(seen.images, draws.apart("source"), RandomView())
    source = ((source + 1) / 2 - 0.4) / 0.3 + 0.1 * draws.normal("source noise", (1, 8, 8))
    target = random_view(seen.images, draws.apart("target"), RandomView())
    assert not torch.equal(target, random_view(seen.images, draws.apart("source"), RandomView()))
    z = task.module.encoder.body(source)[0]
    parts = z.view(16, 3, 4) * (draws.uniform("parts", (3,)) >= 0.5)[:, :, None]  # of equal length
    z = parts.flatten(1) * (draws.uniform("code") >= 0.3)[:, None]
    t = (draws.uniform("t") * 1000).long()
    abar = torch.tensor(task.process.abar)[t + 1][:, None, None, None]
    noise = draws.normal("noise", (1, 8, 8))
    noisy = abar.sqrt() * target + (1 - abar).sqrt() * noise
    output, _ = task.module.decoder(noisy, t.float(), Condition(z=z))
    task.module.encoder.load_state_dict(soda().module.encoder.state_dict())  # the running statistics as they were
    torch.testing.assert_close(loss(task, seen), (output - noise).square().mean())


@pytest.mark.parametrize("hidden", [{"z_dropout": 1.0}, {"part_dropout": 1.0}])
def test_hiding_all_is_the_unconditional_model(hidden: dict[str, float]) -> None:
    task, seen = lively(soda({"parts": "levels"}, target=None, **hidden)), batch()
    unconditional = task.process.loss(task.module.decoder, seen.images, Draws(0, seen.positions), NOTHING)
    assert torch.equal(loss(task, seen), unconditional)
    assert not torch.equal(loss(lively(soda({"parts": "levels"}, target=None)), seen), unconditional)


def test_views_of_an_image_depend_on_no_other() -> None:
    task, many = soda(z_dropout=0.5), batch(16)
    few = Batch(many.images[5:8], many.labels[5:8], many.positions[5:8])
    for whole, part in zip(*(task.draw_views(b.images, Draws(0, b.positions)) for b in (many, few)), strict=True):
        assert torch.equal(whole[5:8], part)
    assert 0 < task.draw_views(many.images, Draws(0, many.positions)).seen.sum() < 16


def test_a_kill_changes_no_byte(tmp_path: Path) -> None:
    """Of weights and their averages, moments, and the statistics of batch norms."""
    options = replace(OPTIONS, averages=AVERAGES, optimizer="adamw", weight_decay=0.05)

    def go(folder: str, die_at: int | None = None) -> Any:
        part = slice_of(tmp_path / folder, 1, 0, 7)
        return run_once(part, soda(), stream(size=8, channels=1), options, die_at, autosave=0)

    undisturbed, rows, _ = go("a")
    with pytest.raises(KilledError):
        go("b", die_at=4)
    resumed, rows_again, _ = go("b")
    assert equal(undisturbed, resumed) and json.dumps(rows) == json.dumps(rows_again)
    running = [name for name in resumed.tensors() if name.endswith("running_mean")]
    assert any(name.startswith("ema") for name in running) and len(running) == 40  # 20 norms, and their averages


@pytest.mark.parametrize("modulation", ["residual", "direct"])
def test_both_modulations_train(modulation: str) -> None:
    options = replace(OPTIONS, batch=50, lr=5e-3)
    task = soda({"modulation": modulation}, source={"crop": None, "randaugment": None}, target=None)
    state = fresh(task, options)
    train(task, stream(size=8, channels=1), options, state, 40, lambda _: None)  # two ticks
    first, second = (row["loss"] for row in state.history)
    assert first < 1.1 and second < 0.9 * first


def test_the_encoder_learns_at_its_own_rate() -> None:
    encoder, decoder = soda(encoder_rate=3.0).parameter_groups()
    assert (encoder.rate, decoder.rate) == (3.0, 1.0)
    module = soda().module
    assert len(encoder.parameters) == len(list(module.encoder.parameters()))
    assert len(encoder.parameters) + len(decoder.parameters) == len(list(module.parameters()))
    assert soda().image_flops() > 0


def test_a_checkpoint_loads_as_encoder_and_decoder(tmp_path: Path) -> None:
    told, task = argument({"parts": "levels"}), soda({"parts": "levels"})
    header = {"network": told.network.argument(), "shape": task.shape, **told.described}
    checkpoints.write(tmp_path / "x.safetensors", {"ema": task.module.state_dict()}, header)
    module, _ = checkpoints.load(tmp_path / "x.safetensors", CPU, parse_model)
    images = batch().images
    assert isinstance(module, SODA)
    torch.testing.assert_close(module.encode(images), task.module.eval().encode(images))


def config(changes: dict[str, Any]) -> dict[str, Any]:
    """With keys of the experiment changed, by their paths."""
    experiment: dict[str, Any] = {
        "dataset": "digits",
        "network": NETWORK,
        "process": {"kind": "ddpm"},
        "task": {"kind": "soda", **TASK},
        "train": {"checkpoints": [1]},
        "sample": {"samplers": {"s": {"kind": "ddim", "guidance": 1.3}}},
    }
    for path, value in changes.items():
        *parents, last = path.split(".")
        at = experiment
        for name in parents:
            at[name] = dict(at.get(name) or {})
            at = at[name]
        at[last] = value
    digits = {"source": {"kind": "digits"}, "split": {"kind": "stratified", "select": 0.1, "test": 0.2}}
    return {"datasets": {"digits": digits}, "experiments": {"x": experiment}}


def test_its_config_is_accepted_with_guidance_and_both_arms() -> None:
    for changes in ({}, {"task.target": None}, {"network.parts": "levels", "task.part_dropout": 0.2}):
        assert parse(config(changes)).experiments["x"].taps[:2] == ["stage_1", "stage_2"]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"network.kind": "unet"}, "network.kind: 'unet' is refused; allowed: modulated_unet"),
        ({"network.conditional": True}, "network.conditional: true"),
        ({"network.parts": "levels", "task.z": 2}, "task.z: 2 is refused; allowed: at least 3"),
        ({"task.part_dropout": 0.1}, "task.part_dropout: 0.1 is refused; allowed: 0, or a network with parts: levels"),
        ({"task.encoder": {"mean": [0.5] * 3}}, "task.encoder.mean: [0.5, 0.5, 0.5] is refused; allowed: 1 numbers"),
        ({"task.encoder": {"depth": 20}}, "task.encoder.depth"),
        ({"task.source": {"noise": -0.1}}, "task.source.noise"),
        ({"task.z_dropout": 0}, "samplers.s.guidance: 1.3 is refused; allowed: 1, or a task.z_dropout above 0"),
        ({"train.flip": True}, "train.flip: true"),
        ({"train.augment": {}}, "train.augment"),
        ({"sample.samplers": {"s": {"kind": "ddim", "labels": "random"}}}, "samplers.s.labels"),
        ({"sample.samplers": {"s": {"kind": "heun"}}}, "samplers.s.kind: 'heun'"),
        ({"task": {"kind": "diffusion"}}, "samplers.s.guidance: 1.3 is refused; allowed: 1, since"),
    ],
)
def test_what_its_config_refuses(changes: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError) as refused:
        parse(config(changes))
    assert line in str(refused.value) and "Traceback" not in str(refused.value)
