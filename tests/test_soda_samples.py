"""Samples of a SODA model: decoded from the codes of training images, guided by hiding them; codes in Python."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy_soda import CPU, checkpoint

import diffprobe
from diffprobe.config import processes, samplers
from diffprobe.data import images
from diffprobe.data.pixels import to_float, to_uint8
from diffprobe.diffusion.build import build_sampler
from diffprobe.diffusion.process import Denoised
from diffprobe.evaluation import model
from diffprobe.evaluation.sampling import Drawing
from diffprobe.networks.condition import NOTHING, Condition
from diffprobe.plan.arguments import SampleArgument
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.keyed import Key, normal

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 1), dtype=np.uint8)
SPLIT = np.array([0, 2, 0, 1, 0, 0, 2, 0, 0])  # six of train, two of test
TRAIN = PIXELS[SPLIT == 0]
DDIM = {"kind": "ddim", "steps": 3, "precision": "fp32", "guidance": 1.3}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("soda") / "x.safetensors")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "images.h5"
    images.write(path, PIXELS, np.zeros(9, np.int64), SPLIT, classes=["a"])
    return path


def drawing(weights: Path, store: Path | None, batch: int = 8, **sampler: Any) -> Drawing:
    told = {"seed": 5, "sampler": DDIM | sampler, "weights": {"name": "ema"}, "keep": 8}
    return Drawing.of(SampleArgument.model_validate(told), weights, None, batch, CPU, store)


def test_samples_are_decoded_from_training_images_with_guidance(weights: Path, store: Path) -> None:
    """eps = (1 + w) cond - w uncond with w = 0.3, by hand; sample 6 has the code of the first image again."""
    network, header = model.load(weights, CPU)[0], model.load(weights, CPU).header
    process = processes.Process.member(header["process"])
    sampler = build_sampler(samplers.Sampler.member(DDIM), process)
    z = network.encode(to_float(torch.from_numpy(TRAIN)))[[0, 1, 2, 3, 4, 5, 0, 1]]

    def denoise(x: torch.Tensor, level: Any) -> Denoised:
        with_code, without = (network(x, level.of(x).c_noise, cond)[0] for cond in (Condition(z=z), NOTHING))
        return sampler.process.estimate(1.3 * with_code - 0.3 * without, x, level.of(x))

    start = normal(Key(5, "sample"), torch.arange(8), (1, 8, 8))
    with torch.inference_mode():
        by_hand = to_uint8(sampler.run(denoise, start, lambda _: start)).numpy().astype(int)
    drawn = drawing(weights, store, batch=3).array(0, 8).astype(int)
    assert abs(drawn - by_hand).max() <= 1  # rounding in another batch
    assert abs(drawn[0] - drawn[6]).max() > 1  # other noise


def test_without_guidance_or_code_nothing_else_changes(weights: Path, store: Path) -> None:
    unconditional = drawing(weights, None, guidance=1).array(0, 8)
    assert np.array_equal(drawing(weights, store, guidance=0).array(0, 8), unconditional)
    assert not np.array_equal(drawing(weights, store, guidance=1).array(0, 8), unconditional)


def test_what_samples_depend_on_is_told(weights: Path, store: Path) -> None:
    with_codes, without = drawing(weights, store), drawing(weights, None)
    content = images.describe(store)["content"]
    assert with_codes.about == without.about | {"codes": {"images": content, "split": "train"}}
    assert with_codes.labels is None


def test_codes_and_decodings_in_python(weights: Path, store: Path, tmp_path: Path) -> None:
    trained = diffprobe.load(weights, device="cpu")
    codes = trained.encode(TRAIN, batch=4)
    assert codes.shape == (6, 12) and codes.dtype == np.float32
    floats = TRAIN.transpose(0, 3, 1, 2) / 127.5 - 1
    np.testing.assert_allclose(codes, trained.encode(floats), atol=1e-5)
    decoded = trained.sample(8, seed=5, sampler=DDIM, images=TRAIN).astype(int)
    assert abs(decoded - drawing(weights, store).array(0, 8)).max() <= 1
    assert trained.loss(TRAIN) > 0


def test_other_models_have_no_codes(tmp_path: Path) -> None:
    from test_load import PROCESSES, write

    trained = diffprobe.load(write(tmp_path / "x.safetensors", PROCESSES["edm"]), device="cpu")
    for action in (lambda: trained.encode(TRAIN), lambda: trained.sample(1, images=TRAIN)):
        with pytest.raises(UserError, match=r"^this model has no encoder; the task soda trains one$"):
            action()
