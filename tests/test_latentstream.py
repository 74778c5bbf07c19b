"""The stream of latents: permutations, views in turn, noise by position, any part directly."""

import errno
import hashlib
import itertools
import multiprocessing
import os
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffprobe.config.latents import Crop, Identity
from diffprobe.data import views
from diffprobe.data.window import Share
from diffprobe.data.window_stream import WindowStream
from diffprobe.latents.chunks import LatentChunks
from diffprobe.latents.completion import finish
from diffprobe.latents.parts import CHUNK, StorePlan, write_part
from diffprobe.latents.store import LatentStore, open_store
from diffprobe.latents.verify import verify
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.keyed import Key, normal
from diffprobe.training import resident
from diffprobe.training.latentstream import Budget, LatentStream, open_source
from diffprobe.training.world import World

CPU = torch.device("cpu")
COUNTS = {"train": 700, "select": 300, "test": 10}
SPLITS = ("train", "select")
N, CHUNKS, VIEWS = 1000, 5, 3  # of train (3 chunks, 3 views) and select (2 chunks, 1 view)


@pytest.fixture(scope="module")
def latents(tmp_path_factory: pytest.TempPathFactory) -> LatentStore:
    """Latents that name themselves: channel 0 of the mean is the row, train before select, channel 1 the view."""
    numbers = {"train": VIEWS, "select": 1, "test": 1}
    kinds = {split: views.expand([Crop(kind="crop", count=n)]) for split, n in numbers.items()}
    store = StorePlan(tmp_path_factory.mktemp("stream") / "latents.zarr", {}, 0, COUNTS, kinds, shard_chunks=2)
    first = {"train": 0, "select": 700, "test": 1000}
    for part in store.parts:
        moments = np.zeros((part.stop - part.start, 4, 1, 1), np.float16)
        moments[:, 0, 0, 0] = first[part.split] + np.arange(part.start, part.stop)
        moments[:, 1] = part.view
        moments[:, 2:] = -4  # a standard deviation of exp(-2)
        write_part(store, part, moments)
    labels = {split: first[split] + np.arange(n) for split, n in COUNTS.items()}
    finish(store, labels, labels, "own", {"scale": [1.0, 0.5], "shift": [0.0, 1.0]})
    return open_store(store.path)


STREAMED, HELD = Budget(0, 0), Budget(0, 1e9)


def stream(
    latents: LatentStore, seed: int, window: int, latents_as: str = "mean", budget: Budget = STREAMED
) -> LatentStream:
    chunk = CHUNK * latents.row_bytes
    source, _ = open_source(latents, SPLITS, seed, CPU, window * chunk, budget, batch=64)
    return LatentStream(latents, source, seed, latents_as)


def read(source: LatentStream, start: int, stop: int, batch: int = 1000) -> tuple[np.ndarray, np.ndarray]:
    """Rows and views at the positions, both int64."""
    batches = [source.read(at, min(at + batch, stop)) for at in range(start, stop, batch)]
    x = torch.cat([batch.images for batch in batches])[:, :, 0, 0]  # (n, 2)
    assert torch.equal(torch.cat([batch.labels for batch in batches]), x[:, 0].long())
    assert torch.equal(torch.cat([batch.positions for batch in batches]), torch.arange(start, stop))
    return x[:, 0].long().numpy(), (x[:, 1] / 0.5 + 1).long().numpy()


seeds, windows, batches = st.integers(0, 2**31), st.integers(1, 7), st.integers(1, 1500)


@settings(max_examples=25, deadline=None)
@given(seed=seeds, window=windows, batch=batches, budget=st.sampled_from([STREAMED, HELD]))
def test_an_epoch_holds_every_row_once_and_its_views_take_turns(latents, seed, window, batch, budget):
    source = stream(latents, seed, window, budget=budget)
    seen = []
    for epoch in range(VIEWS):
        rows, number = read(source, epoch * N, (epoch + 1) * N, batch)
        assert np.array_equal(np.sort(rows), np.arange(N))
        by_row = number[np.argsort(rows)]
        assert all(len(set(by_row[start : min(start + CHUNK, 700)])) == 1 for start in range(0, 700, CHUNK))
        seen.append(by_row)
    assert np.array_equal(np.sort(np.stack(seen)[:, :700], axis=0), np.repeat([[0], [1], [2]], 700, axis=1))
    assert not np.stack(seen)[:, 700:].any()


def test_the_order_is_the_one_that_runs_were_trained_with(latents):
    both = np.stack(read(stream(latents, 5, 2), 0, 3000))
    assert both[:, :5].T.tolist() == [[996, 0], [985, 0], [209, 1], [197, 1], [968, 0]]
    assert hashlib.sha256(both).hexdigest() == "d3c3faf997899be7232eacd89d87fada8409c3f956c582831aff8197bb52e02e"


def test_what_a_view_has_done_comes_along(latents):
    """The label of each row's view."""
    rows, number = read(stream(latents, 0, 3), 0, VIEWS * N)
    labels = stream(latents, 0, 3).read(0, VIEWS * N).augment
    for view in range(VIEWS):
        here = (number == view) & (rows < 700)
        kind = views.view_table(latents.views["train"])[view].expand(here.sum(), -1)
        expected = views.augment_labels(kind, torch.from_numpy(rows[here]), 0)
        assert torch.equal(labels[here], expected) and expected.any()


def test_damage_surfaces_where_it_is_read(latents, tmp_path):
    copy = tmp_path / "latents.zarr"
    shutil.copytree(latents.path, copy)
    shard = next(path for path in sorted((copy / "select" / "moments" / "c").rglob("*")) if path.is_file())
    data = shard.read_bytes()
    shard.write_bytes(data[:100] + bytes([data[100] ^ 1]) + data[101:])
    with pytest.raises(UserError, match=r"select/moments/c/.*: rows 0 to 255 cannot be read whole"):
        read(stream(open_store(copy), 0, 1), 0, N)


def test_the_order_is_shuffled_and_differs_by_epoch_and_seed(latents):
    """With a window of all chunks: no more fixed points and no more neighbours than of random permutations."""
    source = stream(latents, 0, CHUNKS)
    orders = [read(source, epoch * N, (epoch + 1) * N)[0] for epoch in range(2)]
    orders.append(read(stream(latents, 1, CHUNKS), 0, N)[0])
    for i, order in enumerate(orders):
        assert (np.diff(order) == 1).sum() < 8
        assert abs(np.corrcoef(order, np.arange(N))[0, 1]) < 0.12
        assert all((order == other).sum() < 8 for other in orders[:i])


def test_chunks_come_in_another_order_in_every_epoch(latents):
    """Of 5! orders, 20 epochs show about 18.5 different ones."""
    source = stream(latents, 0, 1)
    orders = []
    for epoch in range(20):
        rows, _ = read(source, epoch * N, (epoch + 1) * N)
        orders.append(tuple(dict.fromkeys(np.where(rows < 700, rows // CHUNK, 3 + (rows - 700) // CHUNK).tolist())))
    assert all(len(order) == CHUNKS for order in orders)
    assert len(set(orders)) > 12


def test_samples_are_of_the_posterior_in_model_scale_and_keyed_by_position(latents):
    """(mean + exp(logvar / 2) eps - shift) * scale: channel 1 of train's rows is (view + exp(-2) eps - 1) / 2."""
    mean, sample = (stream(latents, 7, 2, kind) for kind in ("mean", "sample"))
    for start in (0, 800, 1000):
        samples, means = sample.read(start, start + 200), mean.read(start, start + 200)
        noise = (samples.images - means.images) / torch.tensor([1, 0.5])[:, None, None] * np.exp(2)
        expected = normal(Key(7, "posterior"), means.positions, (2, 1, 1))
        assert torch.allclose(noise, expected, atol=2e-3)  # rows to 1000 leave five decimals of a float32


@settings(max_examples=25, deadline=None)
@given(
    seed=seeds,
    window=windows,
    cuts=st.lists(st.integers(1, 2499), max_size=6, unique=True),
    budget=st.sampled_from([STREAMED, HELD]),
)
def test_samples_are_the_same_however_positions_are_cut_and_rows_are_held(latents, seed, window, cuts, budget):
    whole = stream(latents, seed, window, "sample").read(0, 2500)
    borders = [0, *sorted(cuts), 2500]
    source = stream(latents, seed, window, "sample", budget)
    parts = [source.read(*border) for border in reversed(list(itertools.pairwise(borders)))]
    for expected, *pieces in zip(whole[:4], *(part[:4] for part in reversed(parts)), strict=True):  # without a second
        assert torch.equal(expected, torch.cat(pieces))


def test_a_position_far_away_costs_no_walk(latents):
    """Position 10^12: a stream that has run for years."""
    batch = stream(latents, 0, 2, "sample").read(10**12, 10**12 + 100)
    assert int(batch.positions[0]) == 10**12
    assert len(set(batch.labels.tolist())) == 100
    assert torch.isfinite(batch.images).all()


@settings(max_examples=25, deadline=None)
@given(seed=seeds, window=windows, batch=st.integers(1, 600), size=st.integers(1, 4))
def test_a_process_reads_its_part_of_every_batch_and_holds_no_other(latents, seed, window, batch, size):
    whole = stream(latents, seed, window)
    chunks = LatentChunks(latents, SPLITS, seed)
    for rank in range(min(size, batch)):
        world = World(rank, size)
        part = WindowStream(chunks, seed, window, CPU, Share(rank, size, batch))
        for step in (0, 1, 7, 2 * N // batch):
            begin, end = world.share(step * batch, (step + 1) * batch)
            if begin < end:
                assert torch.equal(part.read(begin, end)[1], whole.read(begin, end).labels)
        held = sum(len(load.result().rows[0]) for load in part.loads.values())
        positions = sum(len(load.result().before) - 1 for load in part.loads.values()) if size > 1 else held
        share = -(-batch // size)
        borders = 2 * (len(part.loads) + 1)  # a window may begin and end within a batch
        assert held <= share * (positions / batch + borders)


def test_a_store_of_latents_gives_them_as_they_are(tmp_path):
    views_of = {"train": views.expand([Identity(kind="identity")])}
    store = StorePlan(tmp_path / "latents.zarr", {}, 0, {"train": 300}, views_of, 1, holds="latents")
    z = np.random.default_rng(0).normal(2, 3, (300, 2, 3, 3)).astype(np.float16)
    for part in store.parts:
        write_part(store, part, z[part.start : part.stop])
    rows = {"train": np.arange(300)}
    finish(store, rows, rows, "measured", None)
    assert verify(store.path) == []
    latents = open_store(store.path)
    source, _ = open_source(latents, ["train"], 0, CPU, 1e9, STREAMED, batch=10)
    batch = LatentStream(latents, source, 0).read(0, 300)
    assert batch.images.shape == (300, 2, 3, 3)
    assert torch.allclose(batch.images.mean((0, 2, 3)), torch.zeros(2), atol=1e-2)
    assert torch.allclose(batch.images.std((0, 2, 3)), torch.ones(2), atol=1e-2)
    back = batch.images[torch.argsort(batch.labels)] / torch.tensor(latents.scale)[:, None, None]
    assert torch.allclose(back + torch.tensor(latents.shift)[:, None, None], torch.from_numpy(z).float(), atol=1e-2)


def one_of_two(rank: int, port: int, path: Path, reports: multiprocessing.Queue, old: bool) -> None:
    if old:
        del os.memfd_create
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    world = World.join(CPU)
    source, how = open_source(open_store(path), SPLITS, 3, CPU, 2 * CHUNK * 8, HELD, batch=64, world=world)
    labels = [source.read(*world.share(64 * step, 64 * (step + 1)))[1].tolist() for step in range(40)]
    world.wait()
    if rank == 0:
        source.rows[1].fill_(-7)
    world.wait()
    held = [str(file.readlink()) for file in Path("/proc/self/fd").iterdir() if file.is_symlink()]
    held_open = any("diffprobe" in file or "/dev/shm/#" in file for file in held)
    reports.put((rank, how, labels, int(source.rows[1].min()), held_open))
    world.leave()


@pytest.mark.parametrize("old", [False, True], ids=["memfd", "without memfd"])
def test_two_processes_hold_one_store_between_them(latents, old):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawn = multiprocessing.get_context("spawn")
    reports = spawn.Queue()
    both = [spawn.Process(target=one_of_two, args=(rank, port, latents.path, reports, old)) for rank in range(2)]
    for process in both:
        process.start()
    by_rank = {rank: rest for rank, *rest in (reports.get(timeout=60) for _ in both)}
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    source, _ = open_source(latents, SPLITS, 3, CPU, 2 * CHUNK * 8, STREAMED, batch=64)
    for step in range(40):
        expected = source.read(64 * step, 64 * (step + 1))[1].tolist()
        assert by_rank[0][1][step] + by_rank[1][1][step] == expected
    assert all("in memory, once for all" in how and lowest == -7 for how, _, lowest, _ in by_rank.values())
    assert not any(open_still for *_, open_still in by_rank.values())


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_system_without_linuxs_calls_reads_the_same(latents, monkeypatch):
    source, _ = open_source(latents, SPLITS, 3, CPU, 2 * CHUNK * 8, STREAMED, batch=64)
    expected, world = source.read(*World(0, 2).share(0, 64)), World(0, 2)
    for name in ("posix_fadvise", "posix_fallocate", "memfd_create", "RWF_NOWAIT", "sched_getaffinity"):
        monkeypatch.delattr(os, name)
    monkeypatch.setattr(World, "broadcast", lambda self, value: value)
    source, how = open_source(latents, SPLITS, 3, CPU, 2 * CHUNK * 8, HELD, batch=64, world=world)
    assert "streamed" in how  # nothing can be shared between two processes
    assert all(torch.equal(a, b) for a, b in zip(source.read(*world.share(0, 64)), expected, strict=True))


def test_what_does_not_fit_into_shared_memory_is_streamed(latents, monkeypatch):
    monkeypatch.setattr(resident.os, "posix_fallocate", full)
    world = World(0, 2)
    monkeypatch.setattr(World, "broadcast", lambda self, value: value)
    source, how = open_source(latents, SPLITS, 3, CPU, 1e6, HELD, batch=64, world=world)
    assert isinstance(source, WindowStream) and "streamed" in how
