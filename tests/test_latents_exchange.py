"""Latents of other systems: every image gets its own, in the autoencoder's scale; what does not fit is named."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toy_latents import MEASURED, one_line, shards, write_images
from toy_peers import (
    import_job,
    imported,
    latents_of,
    listing,
    write_files,
    write_npy,
    write_shards,
    write_shuffled_images,
)

from diffprobe.config.latents import labels_folder
from diffprobe.data.splits import SPLITS, TEST
from diffprobe.interop.latents.importing import open_placed, plan_import, write
from diffprobe.interop.latents.shards import PeerShard, RankOrder, open_shards
from diffprobe.latents.store import LatentStore
from diffprobe.latents.verify import repair, verify
from diffprobe.runtime.errors import UserError


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shuffled_images(tmp_path_factory.mktemp("images") / "images.h5")


@pytest.fixture
def npy(pictures: Path, tmp_path: Path) -> Path:
    return write_npy(tmp_path / "peer", pictures)


def assert_each_image_has_its_own(latents: LatentStore, views: int) -> None:
    assert verify(latents.path) == []
    assert latents.holds == "latents" and latents.shape == (2, 2, 2)
    for split in latents.splits:
        rows = latents.rows(split)
        assert len(latents.views[split]) == (views if split == "train" else 1)
        for view in range(len(latents.views[split])):
            moments = latents.moments(split, view, 0, len(rows))
            assert np.array_equal(moments, latents_of(rows, view).astype(np.float16)), (split, view)


@pytest.mark.parametrize("scaled", [1.0, 0.25])
def test_arrays_of_versions_become_views_in_the_autoencoders_scale(pictures: Path, tmp_path: Path, scaled: float):
    path = write_npy(tmp_path / "peer", pictures, versions=3, scaled=scaled)
    latents = imported(tmp_path, pictures, import_job("npy", path, scaled=scaled))
    assert latents.splits == SPLITS
    assert_each_image_has_its_own(latents, views=3)
    z = latents.draw(torch.from_numpy(latents.moments("train", 0, 0, 700)), None)
    assert abs(float(z.mean())) < 1e-3 and abs(float(z.std()) - 1) < 1e-3  # to measured scale


@pytest.mark.parametrize("batched", [True, False])
def test_a_file_per_image_may_cover_the_whole_set(pictures: Path, tmp_path: Path, batched: bool):
    path = write_files(tmp_path / "toy256_features", pictures, batched)
    latents = imported(tmp_path, pictures, import_job("files", path))
    assert latents.splits == SPLITS
    assert_each_image_has_its_own(latents, views=1)


@pytest.mark.parametrize("ranks", [1, 3, 8])
def test_shards_of_ranks_are_put_back_in_order(pictures: Path, tmp_path: Path, ranks: int):
    rows, split, labels = listing(pictures)
    train, test = split != TEST, split == TEST
    path = write_shards(tmp_path / "train", rows[train], labels[train], ranks)
    apart = write_shards(tmp_path / "test", rows[test], labels[test], 2)
    job = import_job("safetensors", path, test=apart)
    latents = imported(tmp_path, pictures, job)
    assert latents.splits == SPLITS
    assert [view["kind"] for view in latents.views["train"]] == ["identity", "mirror"]
    assert_each_image_has_its_own(latents, views=2)
    without = imported(tmp_path / "without", pictures, import_job("safetensors", path))
    assert without.splits == ("train", "select")


@given(st.integers(1, 40), st.integers(1, 6), st.integers(1, 5))
def test_any_image_of_any_ranks_is_found(count: int, ranks: int, size: int):
    each = -(-count // ranks)
    parts = [
        PeerShard(Path(f"{rank}/{start}"), rank, start // size, min(size, each - start))
        for rank in range(ranks)
        for start in range(0, each, size)
    ]
    shares = {rank: [i * ranks + rank for i in range(each)] for rank in range(ranks)}

    def read_rows(path: Path, name: str, rows: np.ndarray) -> np.ndarray:
        rank, start = map(int, str(path).split("/"))
        assert (np.diff(rows) > 0).all()
        return np.array([shares[rank][start + row] for row in rows], np.float32)

    positions = np.random.default_rng(count).permutation(count)
    assert np.array_equal(RankOrder(parts, read_rows).gather(positions, "latents", ()), positions)


def test_means_and_log_variances_are_told_by_their_channels_and_unscaled(pictures: Path, tmp_path: Path):
    path = write_npy(tmp_path / "peer", pictures, versions=1, channels=4)
    latents = imported(tmp_path, pictures, import_job("npy", path, scaled=0.5))
    assert latents.holds == "moments" and verify(latents.path) == []
    mean, logvar = np.split(latents_of(latents.rows("test"), 0, 4), 2, axis=1)
    unscaled = np.concatenate([mean / 0.5, np.clip(logvar - 2 * math.log(0.5), -30, 20)], axis=1)
    assert np.array_equal(latents.moments("test", 0, 0, 20), unscaled.astype(np.float16))


def relabel(path: Path, at: int) -> str:
    labels = np.load(path / "train_label.npy")
    labels[at:] += 1
    np.save(path / "train_label.npy", labels)
    return rf"image {at} has label {labels[at]}, but {labels[at] - 1} in the dataset"


def cut(path: Path) -> None:
    whole = (path / "train_code_1.npy").read_bytes()
    (path / "train_code_1.npy").write_bytes(whole[:-100])


def shorten(path: Path) -> None:
    for name in ("train_code_0", "train_code_1", "train_label"):
        np.save(path / f"{name}.npy", np.load(path / f"{name}.npy")[:-1])


def overflow(path: Path) -> None:
    values = np.load(path / "train_code_0.npy")
    values[333] = 1e6
    np.save(path / "train_code_0.npy", values)


MISTAKES = {
    "labels": (lambda path: relabel(path, 17), "train_code_0.npy: image 17 has label .* in the dataset"),
    "truncated": (cut, "train_code_1.npy: cannot be read"),
    "too few": (shorten, r"train_code_0.npy: holds 999 latents, but the dataset's images are 1,020 \(700 in train"),
    "a gap": (lambda path: (path / "train_code_0.npy").unlink(), "train_code_0.npy: no such file, but"),
    "pickles": (
        lambda path: np.save(path / "train_code_0.npy", np.array([{}], object), allow_pickle=True),
        "train_code_0.npy: cannot be read .*Python objects",
    ),
    "whole numbers": (
        lambda path: np.save(path / "test_code_0.npy", np.zeros((20, 2, 2, 2), int)),
        "test_code_0.npy: holds int64",
    ),
    "another shape": (
        lambda path: np.save(path / "test_code_0.npy", np.zeros((20, 3, 2, 2), np.float32)),
        r"test_code_0.npy: holds \(3, 2, 2\) for each image, but latents of this autoencoder are \(2, 2, 2\)",
    ),
    "not finite": (overflow, "image 333 has values that are not finite, or beyond 65504"),
    "no folder": (lambda path: path.rename(path.with_name("moved")), "no such folder"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_does_not_fit_is_named_in_one_line(pictures: Path, npy: Path, tmp_path: Path, mistake: str):
    change, said = MISTAKES[mistake]
    change(npy)
    with pytest.raises(UserError, match=said) as error:
        imported(tmp_path, pictures, import_job("npy", npy))
    one_line(error)


def test_labels_lie_in_the_folder_beside():
    assert [labels_folder(path) for path in ("a/x_features", "a/x", ".", "..")] == ["a/x_labels", "a/x", ".", ".."]


def test_files_that_are_missing_or_cut_are_named(pictures: Path, tmp_path: Path):
    path = write_files(tmp_path / "toy_features", pictures)
    (path / "400.npy").write_bytes((path / "400.npy").read_bytes()[:-8])
    with pytest.raises(UserError, match=r"toy_features/400.npy: cannot be read"):
        imported(tmp_path, pictures, import_job("files", path))
    (path / "400.npy").unlink()
    with pytest.raises(UserError, match=r"toy_features/400.npy: no such file, but others"):
        imported(tmp_path, pictures, import_job("files", path))
    rows, _, labels = listing(pictures)
    path = write_shards(tmp_path / "shards", rows, labels, ranks=2)
    far = path / "latents_rank999999999_shard000.safetensors"
    far.write_bytes((path / "latents_rank00_shard000.safetensors").read_bytes())
    with pytest.raises(UserError, match="17 shards, but one of rank 999999999") as error:
        open_shards(import_job("safetensors", path).peers)
    far.unlink()
    (path / "latents_rank01_shard002.safetensors").unlink()
    with pytest.raises(UserError, match=r"shards: of rank 1 a shard before latents_rank01_shard007.safe.* is missing"):
        open_shards(import_job("safetensors", path).peers)
    whole = (path / "latents_rank00_shard003.safetensors").read_bytes()
    (path / "latents_rank00_shard003.safetensors").write_bytes(whole[:-4])
    with pytest.raises(UserError, match=r"latents_rank00_shard003.safetensors: cannot be read") as error:
        open_shards(import_job("safetensors", path).peers)
    one_line(error)


def test_a_stopped_import_goes_on_and_holds_one_chunk(pictures: Path, npy: Path, tmp_path: Path, monkeypatch):
    job, read = import_job("npy", npy), []
    placed = open_placed(job.peers, pictures, job.settings.shape)
    plan = plan_import(job.settings, tmp_path / "latents.zarr", pictures, placed)

    def counted(view: int, positions: np.ndarray) -> np.ndarray:
        read.append(len(positions))
        if len(read) == 4:
            raise KeyboardInterrupt
        return encoded.read(view, positions)

    encoded = placed["train"].encoded
    dying = {split: placed[split]._replace(encoded=encoded._replace(read=counted)) for split in ("train", "select")}
    with pytest.raises(KeyboardInterrupt):
        write(plan, placed | dying, 1.0)
    kept = shards(plan.path)
    assert len(kept) == 3 and max(read) <= 256
    latents = imported(tmp_path, pictures, job)
    assert {key: mark for key, mark in shards(plan.path).items() if key in kept} == kept
    assert_each_image_has_its_own(latents, views=2)
    shard = plan.path / "train/moments/c/1/0/0/0/0"
    shard.write_bytes(shard.read_bytes()[::-1])
    problems = verify(plan.path)
    assert [problem.part.name for problem in problems] == ["train.1.0"]
    repair(plan.path, problems)
    assert_each_image_has_its_own(imported(tmp_path, pictures, job), views=2)


def test_rows_in_the_files_order_need_no_order(tmp_path: Path):
    pictures = write_images(tmp_path / "images.h5")
    path = write_npy(tmp_path / "peer", pictures, versions=1)
    job = import_job("npy", path, scale=0.5)
    latents = imported(tmp_path, pictures, job)
    assert job.settings.scale != MEASURED and latents.scale.tolist() == [0.5, 0.5]
    assert_each_image_has_its_own(latents, views=1)
