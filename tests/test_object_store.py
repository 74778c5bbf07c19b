"""The object store on loopback of benchmarks/ranges.py: the rows of local files, in the same order."""

import importlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from diffprobe.config.latents import Crop
from diffprobe.data import views
from diffprobe.data.window import Share
from diffprobe.latents.completion import finish
from diffprobe.latents.parts import CHUNK, StorePlan, write_part
from diffprobe.latents.store import LatentStore, open_store
from diffprobe.runtime.errors import UserError
from diffprobe.training.latentstream import Budget, open_source

BENCHMARKS = str(Path(__file__).parents[1] / "benchmarks")
N, BATCH = 1100, 64  # five chunks, the last one short, in three shards


@pytest.fixture
def latents(tmp_path: Path) -> LatentStore:
    path, kinds = tmp_path / "latents.zarr", views.expand([Crop(kind="crop", count=2)])
    plan, rng = StorePlan(path, {}, 0, {"train": N}, {"train": kinds}, shard_chunks=2), np.random.default_rng(0)
    for part in plan.parts:
        write_part(plan, part, rng.standard_normal((part.stop - part.start, 4, 4, 4)).astype(np.float16))
    finish(plan, {"train": rng.integers(0, 10, N)}, {"train": np.arange(N)}, "own", {"scale": 1.0, "shift": 0.0})
    return open_store(path)


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Iterator:
    """Imports a module of benchmarks/."""
    monkeypatch.setattr(sys, "path", [BENCHMARKS, *sys.path])
    yield importlib.import_module
    for name in ("object_store", "ranges", "latents"):
        sys.modules.pop(name, None)


def test_rows_by_range_requests_are_those_of_local_files_in_the_same_order(latents, benchmark) -> None:
    """Over three epochs of two views, whole and in the shares of two processes."""
    ranges, window = benchmark("ranges"), 2 * CHUNK * latents.row_bytes
    local, _ = open_source(latents, ["train"], 0, torch.device("cpu"), window, Budget(0, 0), BATCH)
    with ranges.served(latents.path) as port:
        arguments = (latents, latents.path, port, 3, window / 2**20)
        whole = ranges.remote_source(*arguments)
        halves = [ranges.remote_source(*arguments, Share(rank, 2, BATCH)) for rank in range(2)]
        for start in range(0, 3 * N, BATCH):
            expected = local.read(start, start + BATCH)
            assert all(map(torch.equal, whole.read(start, start + BATCH), expected))
            for rank, half in enumerate(halves):
                first = start + rank * BATCH // 2
                rows = half.read(first, first + BATCH // 2)
                assert all(map(torch.equal, rows, local.read(first, first + BATCH // 2)))


def test_a_changed_byte_is_refused(latents, benchmark) -> None:
    ranges = benchmark("ranges")
    shard = next(path for path in (latents.path / "train/moments/c/0").rglob("*") if path.is_file())
    shard.write_bytes(b"\xff" + shard.read_bytes()[1:])
    with ranges.served(latents.path) as port:
        source = ranges.remote_source(latents, latents.path, port, 2)
        with pytest.raises(UserError, match="checksum"):
            for start in range(0, 2 * N, BATCH):
                source.read(start, start + BATCH)


def test_buckets_let_rows_pass_at_their_rate(benchmark) -> None:
    """And nothing is lost where rows are there at once."""
    consume = benchmark("object_store").consume
    consumed = consume(lambda start, stop: None, 32, 8, 40_000 / 8, 0.5)
    assert consumed.rate < 40_000 * 1.1
    slow = consume(lambda start, stop: time.sleep(0.05), 32, 8, 40_000 / 8, 0.5)
    assert slow.rate < 256 / 0.05
    assert slow.stalled > 0.3
