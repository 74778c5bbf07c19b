"""Nearest training images: none nearer is missed, and copies are recognised."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from diffprobe.data import images, samples
from diffprobe.data.sources.digits import load
from diffprobe.evaluation.generation.nearest import MEMORISED, nearest, ratios
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import read_json

SCRIPT = Path(__file__).parents[1] / "workflow" / "scripts" / "nearest.py"
CONFIG = {"row": {"dataset": "digits"}, "images": 40, "shown": 8, "neighbours": 4, "splits": ["train", "select"]}


def pixels(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def cut(real: np.ndarray, batch: int) -> list[np.ndarray]:
    return [real[start : start + batch] for start in range(0, len(real), batch)]


def by_force(queries: np.ndarray, real: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    differences = queries[:, None].astype(np.int64) - real  # (M, N, H, W, C)
    squared = (differences**2).sum((2, 3, 4))
    rows = squared.argsort(1, kind="stable")[:, :k]
    return np.sqrt(np.take_along_axis(squared, rows, 1)), rows


@pytest.mark.parametrize("batch", [1, 7, 64, 500])
@pytest.mark.parametrize("k", [1, 2, 5])
def test_nearest_are_those_of_brute_force_for_any_batches(batch: int, k: int) -> None:
    real, queries = pixels(300, 8, 8, 3), pixels(20, 8, 8, 3, seed=1)
    queries[3] = real[250]
    distances, rows = nearest(torch.from_numpy(queries), cut(real, batch), k)
    expected, expected_rows = by_force(queries, real, k)
    assert (distances.numpy() == expected).all()
    assert (rows.numpy() == expected_rows).all()
    assert distances[3, 0] == 0 and rows[3, 0] == 250


@pytest.mark.parametrize("batch", [3, 50, 200])
def test_equally_near_images_come_in_the_order_of_the_dataset(batch: int) -> None:
    real = np.concatenate([pixels(25, 4, 4, 1)] * 8)  # each image eight times
    _, rows = nearest(torch.from_numpy(real[:25]), cut(real, batch), 3)
    assert (rows.numpy() == np.arange(25)[:, None] + [0, 25, 50]).all()


@pytest.mark.parametrize("batch", [10, 60])
def test_images_that_differ_by_less_than_float32_can_tell_are_told_apart(batch: int) -> None:
    """Squared distances of 1 to 60, where products of float32 are rounded by about as much."""
    query = pixels(1, 64, 64, 3)
    real = query.repeat(60, 0)
    for image, count in zip(real, np.random.default_rng(0).permutation(60) + 1, strict=True):
        image.reshape(-1)[:count] ^= 1  # one grey level up or down
    distances, rows = nearest(torch.from_numpy(query), cut(real, batch), 5)
    expected, expected_rows = by_force(query, real, 5)
    assert (distances.numpy() == expected).all() and (rows.numpy() == expected_rows).all()


def test_each_batch_is_let_go() -> None:
    """The stream may use one buffer again and again."""
    real, queries = pixels(60, 4, 4, 1), torch.from_numpy(pixels(5, 4, 4, 1, seed=1))
    buffer = np.empty((10, 4, 4, 1), np.uint8)

    def stream() -> Iterator[np.ndarray]:
        for part in cut(real, 10):
            buffer[:] = part
            yield buffer
        buffer[:] = 0

    distances, rows = nearest(queries, stream(), 2)
    expected, expected_rows = nearest(queries, [real], 2)
    assert torch.equal(distances, expected) and torch.equal(rows, expected_rows)


def test_too_few_or_other_images_are_a_users_error() -> None:
    queries = torch.from_numpy(pixels(2, 8, 8, 1))
    with pytest.raises(UserError, match="at least 3 of them, here are 2"):
        nearest(queries, [pixels(2, 8, 8, 1)], 3)
    with pytest.raises(UserError, match="8 x 8 x 1, those of the dataset 16 x 16 x 3"):
        nearest(queries, [pixels(2, 16, 16, 3)], 1)


def test_a_copy_has_ratio_zero_even_of_an_image_that_is_there_twice() -> None:
    distances = torch.tensor([[0.0, 0.0], [0.0, 5.0], [1.0, 4.0], [3.0, 4.0], [2.0, 2.0]], dtype=torch.float64)
    assert ratios(distances).tolist() == [0, 0, 0.25, 0.75, 1]
    real = pixels(10, 4, 4, 1)
    of_copy, _ = nearest(torch.from_numpy(real[:1]), [real, real], 2)
    assert of_copy.tolist() == [[0, 0]] and ratios(of_copy).tolist() == [0]


def test_planted_copies_of_digits_count_as_memorised_and_unseen_digits_do_not() -> None:
    digits, _ = load()
    train, unseen = digits[:1500], digits[1500:1560]
    copies = np.clip(train[:20] + np.random.default_rng(0).normal(0, 3, (20, 8, 8, 1)), 0, 255).astype(np.uint8)
    distances, rows = nearest(torch.from_numpy(np.concatenate([copies, unseen])), cut(train, 256), 2)
    memorised = ratios(distances) < MEMORISED
    assert memorised[:20].all() and rows[:20, 0].tolist() == list(range(20))
    assert not memorised[20:].any()


# --- the script ---------------------------------------------------------------------------------------------


def store(path: Path, n: int = 300) -> Path:
    """Digits: the last 60 are test, the 40 before them select."""
    split = np.repeat(np.array([0, 1, 2], np.uint8), [n - 100, 40, 60])
    digits, labels = load()
    images.write(path, digits[:n], labels[:n], split, source="digits", classes=list("0123456789"), split_rule={})
    return path


def call(folder: Path, inputs: dict[str, Path], **config: object) -> subprocess.CompletedProcess:
    command = [sys.executable, str(SCRIPT), json.dumps(CONFIG | config), "--log", str(folder / "logs" / "nearest.log")]
    (folder / "logs").mkdir(exist_ok=True)
    outputs = {name: folder / name for name in ("rows.json", "pairs.npz", "receipt.json")}
    command += ["--in", *(f"{name}={path}" for name, path in inputs.items())]
    command += ["--out", *(f"{path.stem}={path}" for path in outputs.values())]
    return subprocess.run([*command, "--with", "autosave=60", "--threads", "1"], capture_output=True, text=True)


def test_script_finds_the_planted_copies_among_samples(tmp_path: Path) -> None:
    """Of 50 samples 40 are requested, the first 10 of which are copies of images of train and select."""
    path = store(tmp_path / "images.h5")
    digits, _ = load()
    drawn = np.concatenate([digits[195:205], digits[1000:1040]])
    samples.fill(tmp_path / "samples.zarr", 50, (8, 8, 1), {}, lambda start, stop: drawn[start:stop], lambda done: None)
    done = call(tmp_path, {"images": path, "samples": tmp_path / "samples.zarr" / samples.ROOT})
    assert done.returncode == 0, done.stderr
    median, share = read_json(tmp_path / "rows.json")["rows"]
    assert (median["evaluator"], share["evaluator"]) == ("nearest_ratio40_pixels", "memorised40_pixels")
    assert share["value"] == 0.25 and 0.5 < median["value"] < 1
    for row in (median, share):
        assert (row["dataset"], row["split"], row["images"]) == ("digits", "train+select", 40)
    pairs = np.load(tmp_path / "pairs.npz")
    assert pairs["queries"].shape == (8, 8, 8, 1) and pairs["found"].shape == (8, 4, 8, 8, 1)
    assert (pairs["queries"] == digits[195:203]).all() and (pairs["found"][:, 0] == digits[195:203]).all()
    assert (pairs["ratios"] == 0).all() and str(pairs["kind"]) == "generated"
    rms = np.sqrt(((pairs["found"] - pairs["queries"][:, None].astype(float)) ** 2).mean((2, 3, 4)))
    assert np.allclose(pairs["distances"], rms)
    receipt = read_json(tmp_path / "receipt.json")
    assert (receipt["images"], receipt["training_images"]) == (40, 240)
    progress = read_json(tmp_path / "logs" / "nearest.json")
    assert (progress["done"], progress["total"]) == (240, 240)


def test_script_compares_with_the_few_images_that_were_trained_on(tmp_path: Path) -> None:
    """Samples that copy all images of train and select: only those of the few count as memorised."""
    path = store(tmp_path / "images.h5")
    copies = load()[0][:240]
    samples.fill(tmp_path / "s.zarr", 240, (8, 8, 1), {}, lambda start, stop: copies[start:stop], lambda done: None)
    done = call(tmp_path, {"images": path, "samples": tmp_path / "s.zarr" / samples.ROOT}, images=240, few=[60, 5])
    assert done.returncode == 0, done.stderr
    assert read_json(tmp_path / "receipt.json")["training_images"] == 60
    few = images.Few(60, 5).picked(240)
    expected = ratios(nearest(torch.from_numpy(copies), [copies[few]], 2)[0]).numpy()
    assert (expected[few] == 0).all()
    assert read_json(tmp_path / "rows.json")["rows"][1]["value"] == np.mean(expected < MEMORISED) < 0.5


def test_script_without_samples_takes_the_datasets_own_test_images(tmp_path: Path) -> None:
    path = store(tmp_path / "images.h5")
    done = call(tmp_path, {"images": path}, images=1000)
    assert done.returncode == 0, done.stderr
    median, share = read_json(tmp_path / "rows.json")["rows"]
    assert (median["evaluator"], share["images"], share["value"]) == ("nearest_ratio60_pixels", 60, 0)
    pairs = np.load(tmp_path / "pairs.npz")
    assert str(pairs["kind"]) == "test images"
    expected = ratios(nearest(torch.from_numpy(load()[0][240:300]), [load()[0][:240]], 2)[0]).numpy()
    assert (pairs["ratios"] == np.sort(expected)[:8]).all() and median["value"] == np.median(expected)


def test_script_with_fewer_than_two_training_images_is_a_users_error(tmp_path: Path) -> None:
    path = tmp_path / "images.h5"
    digits, labels = load()
    images.write(path, digits[:2], labels[:2], np.array([0, 2]), source="digits", classes=["0", "1"], split_rule={})
    done = call(tmp_path, {"images": path})
    assert done.returncode == 1 and not (tmp_path / "rows.json").exists()
    assert (
        "expected at least 2 images to compare with, but there is 1; add images" in done.stderr
        and "Traceback" not in done.stderr
    )
