"""The latent store: the same bytes by any road, only what is missing is made, refusals in one line."""

import json
import multiprocessing
import os
import resource
import signal
import time
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from toy_latents import (
    IDENTITY,
    MEASURED,
    VIEWS,
    complete,
    one_line,
    planned,
    shards,
    toy_moments,
    tree,
)

from diffprobe.data import images, views
from diffprobe.data.splits import SPLITS
from diffprobe.latents.completion import finish
from diffprobe.latents.encoding import encode, share_of
from diffprobe.latents.parts import StorePart, missing_parts, plan_parts, receipts_folder, shard_path, write_part
from diffprobe.latents.store import open_store
from diffprobe.latents.verify import verify
from diffprobe.runtime.errors import UserError


def test_zarr_alone_reads_what_the_autoencoder_said(original: Path, pictures: Path):
    group = zarr.open_group(str(original), mode="r")
    with images.open_store(pictures) as file:
        pixels, labels, split = (torch.from_numpy(file[name][:]) for name in ("images", "labels", "split"))
    for index, name in enumerate(SPLITS):
        rows = torch.nonzero(split == index)[:, 0]
        assert np.array_equal(group[name]["rows"][:], rows)
        assert np.array_equal(group[name]["labels"][:], labels[rows])
        for number, view in enumerate(VIEWS[name]):
            expected = toy_moments(views.apply(view, pixels[rows], rows, seed=3))
            expected[:, 2:].clamp_(-30, 20)
            assert np.array_equal(group[name]["moments"][number], expected.half())
    moments = group["train"]["moments"]
    assert (moments.shape, moments.dtype, moments.chunks) == ((2, 700, 4, 2, 2), np.float16, (1, 256, 4, 2, 2))
    codecs = json.loads((original / "train/moments/zarr.json").read_text())["codecs"][0]["configuration"]
    assert [[codec["name"] for codec in codecs[which]] for which in ("codecs", "index_codecs")] == [
        ["bytes", "crc32c"]
    ] * 2


def test_measured_scale_gives_samples_of_mean_0_and_variance_1(original: Path):
    latents = open_store(original)
    moments = latents.moments("train", 0, 0, 700).astype(np.float64)
    eps = np.random.default_rng(1).standard_normal((200, 700, 2, 2, 2))
    z = moments[:, :2] + np.exp(moments[:, 2:] / 2) * eps
    z = (z - latents.shift[:, None, None]) * latents.scale[:, None, None]
    # 560,000 values per channel; those of one image are alike, so about 2,800 independent means
    assert np.abs(z.mean(axis=(0, 1, 3, 4))).max() < 0.01
    assert np.abs(z.std(axis=(0, 1, 3, 4)) - 1).max() < 0.01


def test_configured_scale_is_kept(copy: Path, pictures: Path):
    store = planned(copy.parent)
    assert complete(store, pictures, 0.18215) == []
    latents = open_store(copy, {"scale": 0.18215})
    assert np.array_equal(latents.scale, np.float32([0.18215, 0.18215])) and not latents.shift.any()
    complete(store, pictures, "published", {"scale": 2.0, "shift": [0.0, 1.0]})
    latents = open_store(copy, {"scale": "published"})
    assert np.array_equal(latents.scale, np.float32([2, 2])) and np.array_equal(latents.shift, np.float32([0, 1]))


@given(
    counts=st.dictionaries(st.sampled_from(SPLITS), st.integers(1, 3000), min_size=1),
    numbers=st.tuples(*[st.integers(1, 3)] * 3),
    shard_rows=st.integers(1, 5).map(lambda chunks: 256 * chunks),
)
def test_the_parts_cover_every_row_once(counts: dict[str, int], numbers: tuple[int, ...], shard_rows: int):
    number = dict(zip(SPLITS, numbers, strict=True))
    parts = plan_parts(counts, number, shard_rows)
    assert len({part.name for part in parts}) == len(parts)
    for split, n in counts.items():
        for view in range(number[split]):
            mine = [part for part in parts if (part.split, part.view) == (split, view)]
            assert [row for part in mine for row in range(part.start, part.stop)] == list(range(n))
            assert all(part.start == part.number * shard_rows for part in mine)


def write_and_die(folder: Path, pictures: Path, deaths: int) -> None:
    """A writer that is killed while it writes its shard number `deaths`, the file half there."""
    syncs = 0

    def dying(descriptor: int) -> None:
        nonlocal syncs
        syncs += Path(f"/proc/self/fd/{descriptor}").readlink().suffix == ".part"  # not receipts, nor folders
        if syncs == deaths:
            os.truncate(f"/proc/self/fd/{descriptor}", 100)
            os.kill(os.getpid(), signal.SIGKILL)

    os.fsync = dying
    encode(planned(folder), pictures, toy_moments, batch=64)


def test_a_killed_writer_loses_its_part_only(original: Path, pictures: Path, tmp_path: Path):
    writer = multiprocessing.get_context("spawn").Process(target=write_and_die, args=(tmp_path, pictures, 4))
    writer.start()
    writer.join()
    assert writer.exitcode == -signal.SIGKILL
    store = planned(tmp_path)
    done = shards(store.path)
    assert len(done) == 3 + 1  # three whole ones and what the killed writer left half-written
    with pytest.raises(UserError, match=r"latents.zarr: 6 parts are missing, the first is train.1.0; run again"):
        finish(store, {}, {}, MEASURED, None)
    with pytest.raises(UserError, match="no finished latent store"):
        open_store(store.path)
    assert len(complete(store, pictures)) == 6
    assert done.items() - shards(store.path).items() == {item for item in done.items() if item[0].endswith(".part")}
    assert tree(store.path) == tree(original)


def write_slowly(folder: Path, pictures: Path, begun: Event) -> None:
    """A tenth of a second's work."""
    begun.set()

    def moments(pixels: Tensor) -> Tensor:
        time.sleep(0.002)
        return toy_moments(pixels)

    encode(planned(folder), pictures, moments, batch=64)


def test_writers_killed_at_ten_moments_leave_nothing_wrong(original: Path, pictures: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setenv(
        "PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep
    )  # where the server finds what it is to load once
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["test_latents"])
    whole, store, killed = tree(original), planned(tmp_path), 0
    for delay in np.random.default_rng(0).uniform(0, 0.04, 10):
        begun = server.Event()
        writer = server.Process(target=write_slowly, args=(tmp_path, pictures, begun))
        writer.start()
        assert begun.wait(100)
        time.sleep(delay)
        writer.kill()
        writer.join()
        killed += writer.exitcode == -signal.SIGKILL
        for part in set(store.parts) - set(missing_parts(store)):
            key = str(shard_path(store.path, part).relative_to(store.path))
            assert shard_path(store.path, part).read_bytes() == whole[key]
    assert killed == 10 or not missing_parts(store)
    complete(store, pictures)
    assert tree(store.path) == whole


def test_jobs_that_share_the_work_write_the_same_bytes(original: Path, pictures: Path, tmp_path: Path):
    plan = planned(tmp_path)
    for job, batch in ((1, 64), (0, 256)):
        encode(plan, pictures, toy_moments, batch, parts=share_of(plan, job, 2))
    assert complete(plan, pictures) == []
    assert tree(plan.path) == tree(original)


@given(jobs=st.integers(1, 12))
def test_jobs_share_all_parts_and_none_twice(jobs: int):
    store = planned(Path("nowhere"))
    assert [part for job in range(jobs) for part in share_of(store, job, jobs)] == store.parts


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        ({"autoencoder": {"name": "sd", "sha256": "b" * 64}}, 'autoencoder.name is "toy", but "sd" is wanted'),
        ({"size": 4, "dataset": "e" * 64}, f'dataset is "{"d" * 64}", but "{"e" * 64}" is wanted'),
        ({"seed": 4}, "seed is 3, but 4 is wanted"),
        ({"views": {**VIEWS, "test": []}}, 'views.test is [{"draw":0,"kind":"identity"}], but [] is wanted'),
        ({"scale": 0.5}, 'scale is "measured", but 0.5 is wanted'),
        ({"crop": True}, "crop is null, but true is wanted"),
    ],
)
def test_another_identity_is_refused_by_its_first_key(expected: dict, message: str, original: Path):
    open_store(original, {**IDENTITY, "seed": 3, "views": VIEWS, "scale": MEASURED})
    with pytest.raises(UserError) as error:
        open_store(original, {"size": 4, **expected})
    assert one_line(error) == f"{original}: {message}; delete it and run again"


def test_a_foreign_store_is_refused(tmp_path: Path):
    zarr.create_group(str(tmp_path / "foreign.zarr"))
    for name, message in (
        ("foreign.zarr", "is damaged or no latent store"),
        ("none.zarr", "no finished latent store"),
    ):
        with pytest.raises(UserError, match=f"{name}.*{message}") as error:
            open_store(tmp_path / name)
        one_line(error)


def test_only_what_a_change_concerns_is_encoded_again(copy: Path, pictures: Path):
    more = {**VIEWS, "train": [*VIEWS["train"], {"kind": "mirror", "draw": 2}]}
    assert complete(planned(copy.parent, views=more), pictures) == [f"train/moments/c/2/{i}/0/0/0" for i in range(3)]
    assert complete(planned(copy.parent), pictures) == []  # a view fewer: its shards go, the others stay
    assert len(shards(copy)) == len(list(receipts_folder(copy).glob("*.json"))) == 9
    assert len(missing_parts(planned(copy.parent, identity={**IDENTITY, "size": 8}))) == 9
    assert len(missing_parts(planned(copy.parent, seed=4))) == 9
    assert len(complete(planned(copy.parent, shard_chunks=2), pictures)) == len(shards(copy)) == 6
    assert verify(copy) == []


def moments(n: int, mean: float = 0.0) -> np.ndarray:
    return np.full((n, 4, 2, 2), mean, np.float16)


@pytest.mark.parametrize("value", [70000.0, float("nan")])
def test_what_float16_cannot_hold_is_refused(value: float, pictures: Path, tmp_path: Path):
    def broken(pixels: Tensor) -> Tensor:
        return torch.full((len(pixels), 4, 2, 2), value)

    with pytest.raises(UserError, match=r"train.0.0 would hold moments .* beyond 65504") as error:
        encode(planned(tmp_path), pictures, broken, batch=256)
    one_line(error)
    assert not shards(tmp_path / "latents.zarr")
    assert len(missing_parts(planned(tmp_path))) == 9


def test_a_full_disk_ends_in_one_line_and_leaves_no_half_shard(pictures: Path, tmp_path: Path):
    store = planned(tmp_path)
    write_part(store, StorePart("train", 0, 0, 0, 256), moments(256))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))  # a shard has 8,212 bytes
    try:
        with pytest.raises(
            UserError, match=r"train/moments/c/0/1/0/0/0: cannot be written .*; free some space"
        ) as error:
            encode(store, pictures, toy_moments, batch=256)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    one_line(error)
    assert list(shards(store.path)) == ["train/moments/c/0/0/0/0/0"]
    assert len(missing_parts(store)) == 8


def test_batches_must_end_at_the_borders_of_chunks(pictures: Path, tmp_path: Path):
    with pytest.raises(UserError, match="batch 96 does not divide 256"):
        encode(planned(tmp_path), pictures, toy_moments, batch=96)
