"""The strip of images during denoising: estimates and noisy images, decoded, at a stride."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from diffprobe.config import processes, samplers
from diffprobe.config.load import load
from diffprobe.data.pixels import to_uint8
from diffprobe.diffusion.build import Sampler, build_process, build_sampler
from diffprobe.evaluation.model import Model
from diffprobe.evaluation.sampling import FRAMES, Drawing, draw, strip
from diffprobe.networks.condition import NOTHING, Condition
from diffprobe.plan import job_arguments
from diffprobe.plan.arguments import SampleArgument
from diffprobe.runtime.keyed import Key, normal

CPU = torch.device("cpu")
SHAPE = (2, 4, 4)
ROWS = torch.arange(3)
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "ancestral": ({"kind": "ddpm", "steps": 23}, {"kind": "ddpm"}),
    "heun": ({"kind": "heun", "steps": 23}, {"kind": "edm"}),
    "euler_maruyama": ({"kind": "euler_maruyama", "steps": 23}, {"kind": "flow"}),
}


class Smooth(torch.nn.Module):
    def forward(self, x: Tensor, c: Tensor, cond: Condition = NOTHING, *_: object) -> tuple[Tensor, dict]:
        return torch.tanh(0.5 * x + 0.2 * x.roll(1, 3) + torch.sin(c)[:, None, None, None]), {}


def decoded(z: Tensor) -> Tensor:
    """Latents of 2 x 4 x 4 to images of 1 x 8 x 8, each by itself."""
    return torch.tanh(z.mean(1, keepdim=True)).repeat_interleave(2, 2).repeat_interleave(2, 3)


def made(case: str, **changes: Any) -> tuple[Model, Sampler]:
    sampler, process = CASES[case]
    built = build_sampler(samplers.Sampler.member(sampler | changes), processes.Process.member(process))
    model = Model(Smooth(), build_process(processes.Process.member(process)), {}, SHAPE, (8, 8, 1), 0, "x", decoded)
    return model, built


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(sorted(CASES)), st.integers(1, 30))
def test_frames_come_at_the_stride_and_end_with_the_image(case: str, stride: int) -> None:
    model, sampler = made(case)
    shown = strip(model, sampler, ROWS, 0, stride)
    count = math.ceil(23 / stride) + 1
    assert shown.noisy is not None and shown.estimates.shape == shown.noisy.shape == (3, count, 8, 8, 1)
    assert [level.sigma for level in shown.levels[:-1]] == [level.sigma for level in sampler.levels[:-1:stride]]
    assert shown.levels[-1].sigma == 0
    images = draw(model, sampler, ROWS, 0)
    assert torch.equal(shown.estimates[:, -1], images) and torch.equal(shown.noisy[:, -1], images)
    start, level = normal(Key(0, "sample"), ROWS, SHAPE), sampler.levels[0]
    state = sampler.process.start(start, level)
    shown_first = state / math.hypot(level.alpha, level.sigma)  # of unit variance, as large as EDM's state may be
    estimate = sampler.process.denoise(Smooth(), state, level.of(start)).image
    for frames, latent in ((shown.noisy, shown_first), (shown.estimates, estimate)):
        assert (frames[:, 0].int() - to_uint8(decoded(latent)).int()).abs().max() <= 1


@pytest.mark.parametrize("steps", [20, 40, 41, 100])
def test_without_a_stride_there_are_some_frames_of_estimates_alone(steps: int) -> None:
    model, sampler = made("ancestral", steps=steps)
    shown = strip(model, sampler, ROWS, 0)
    assert shown.noisy is None and shown.estimates.shape[1] - 1 == math.ceil(steps / math.ceil(steps / FRAMES))
    every = math.ceil(steps / FRAMES)
    assert torch.equal(shown.estimates, strip(model, sampler, ROWS, 0, every).estimates)


@pytest.mark.parametrize("stride", [None, 10])
def test_the_file_names_both(stride: int | None, tmp_path: Path) -> None:
    model, sampler = made("euler_maruyama")
    Drawing(model, sampler, 0, {}, 2, CPU).write_strip(tmp_path / "strip.npz", 5, stride)
    with np.load(tmp_path / "strip.npz") as arrays:
        assert list(arrays) == ["images", "sigmas", *(["noisy"] if stride else [])]
        assert len(arrays["images"]) == 5 and arrays["images"].shape[1] == len(arrays["sigmas"])


def test_samples_of_latents_are_decoded_into_the_store_whatever_the_batch(tmp_path: Path) -> None:
    batches: list[int] = []

    def watched(z: Tensor) -> Tensor:
        batches.append(len(z))
        return decoded(z)

    model, sampler = made("euler_maruyama")
    stores = []
    for batch in (4, 11):
        drawing = Drawing(model._replace(to_images=watched), sampler, 7, {"batch": 0}, batch, CPU)
        stores.append(drawing.fill(tmp_path / f"{batch}.zarr", 11, lambda done: None))
    assert batches == [4, 4, 3, 11] and stores[0].shape == (11, 8, 8, 1)
    difference = stores[0].read(0, 11).astype(int) - stores[1].read(0, 11)
    assert abs(difference).max() <= 1  # convolutions of other batches may round otherwise


def test_the_stride_is_in_the_argument_where_it_is_set() -> None:
    config = load(Path(__file__).parents[1] / "config" / "config.yaml")
    experiment = config.experiments["digits_edm"]
    plain = job_arguments.sample(experiment, "heun12")
    sample = experiment.sample.model_copy(update={"strip_stride": 3})
    argument = job_arguments.sample(experiment.model_copy(update={"sample": sample}), "heun12")
    assert argument == plain | {"strip_stride": 3} and "strip_stride" not in plain
    assert SampleArgument.model_validate(json.loads(json.dumps(argument))).strip_stride == 3
    assert SampleArgument.model_validate(plain).strip_stride is None
