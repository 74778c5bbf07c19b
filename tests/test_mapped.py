"""Rows from mapped shards: those of the other ways, in the same order; damage in one line; when a store is mapped."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffprobe.config.latents import Crop
from diffprobe.data import views
from diffprobe.data.window_stream import WindowStream
from diffprobe.latents import mapped
from diffprobe.latents.completion import finish
from diffprobe.latents.mapped import MappedReader
from diffprobe.latents.parts import CHUNK, StorePlan, write_part
from diffprobe.latents.shards import ShardReader
from diffprobe.latents.store import LatentStore, open_store
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.memory import available_memory
from diffprobe.training.latentstream import Budget, Source, open_source
from diffprobe.training.world import World

CPU = torch.device("cpu")
STREAMED, HELD, CHECKED, UNCHECKED = (
    Budget(0, 0),
    Budget(0, 1e9),
    Budget(0, 0, "checked"),
    Budget(0, 0, "unchecked"),
)
SHAPE = (4, 2, 2)


def write_store(path: Path, counts: dict[str, int], copies: int, shape: tuple[int, int, int], chunks: int) -> None:
    """A finished store of random moments in `copies` crop views."""
    kinds = {split: views.expand([Crop(kind="crop", count=copies)]) for split in counts}
    plan = StorePlan(path, {}, 0, counts, kinds, shard_chunks=chunks)
    rng = np.random.default_rng(0)
    for part in plan.parts:
        write_part(plan, part, rng.standard_normal((part.stop - part.start, *shape)).astype(np.float16))
    labels = {split: rng.integers(0, 10, n) for split, n in counts.items()}
    finish(plan, labels, {split: np.arange(n) for split, n in counts.items()}, "own", {"scale": 1.0, "shift": 0.0})


@contextmanager
def temporary_store(*facts: object) -> Iterator[LatentStore]:
    with TemporaryDirectory() as folder:
        write_store(Path(folder) / "latents.zarr", *facts)
        yield open_store(Path(folder) / "latents.zarr")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two chunks in a shard, three of them in two shards."""
    path = tmp_path_factory.mktemp("mapped") / "latents.zarr"
    write_store(path, {"train": 700}, 1, SHAPE, 2)
    return path


@pytest.fixture
def copy(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "latents.zarr"))


def opened(path: Path, budget: Budget = CHECKED) -> Source:
    latents = open_store(path)
    source, how = open_source(latents, ["train"], 0, CPU, CHUNK * latents.row_bytes, budget, batch=50)
    assert ("mapped" in how) == (budget.mapped != "never")
    return source


def change(file: Path, offset: int) -> None:
    """Flip a bit in place."""
    with file.open("r+b") as data:
        data.seek(offset, os.SEEK_END if offset < 0 else os.SEEK_SET)
        byte = data.read(1)[0]
        data.seek(-1, os.SEEK_CUR)
        data.write(bytes([byte ^ 1]))


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    train=st.integers(1, 900),
    select=st.integers(1, 300),
    copies=st.integers(1, 3),
    shape=st.tuples(st.sampled_from([2, 6]), st.integers(1, 3), st.integers(1, 3)),
    chunks=st.integers(1, 3),
    window=st.integers(1, 4),
    batch=st.integers(4, 400),
    size=st.integers(1, 4),
)
def test_all_ways_read_the_same_rows_in_the_same_order(seed, train, select, copies, shape, chunks, window, batch, size):
    """For any shape, splits and world size; over more epochs than there are views, so that chunks are read again."""
    with temporary_store({"train": train, "select": select}, copies, shape, chunks) as latents:
        splits, width = ("train", "select"), window * CHUNK * latents.row_bytes
        arguments = (latents, splits, seed, CPU, width)
        whole, _ = open_source(*arguments, STREAMED, batch)
        held, _ = open_source(*arguments, HELD, batch)
        parts = {
            budget: [open_source(*arguments, budget, batch, World(rank, size))[0] for rank in range(size)]
            for budget in (CHECKED, UNCHECKED)
        }
        for start in range(0, (copies + 2) * (train + select), batch):
            expected = whole.read(start, start + batch)
            assert all(map(torch.equal, held.read(start, start + batch), expected))
            for sources in parts.values():
                shares = [World(rank, size).share(start, start + batch) for rank in range(size)]
                rows = [source.read(*share) for source, share in zip(sources, shares, strict=True)]
                assert all(map(torch.equal, map(torch.cat, zip(*rows, strict=True)), expected))


def test_a_chunk_is_compared_once_and_then_read_from_the_mapping(original, monkeypatch):
    reads: list[tuple[int, int]] = []
    read = ShardReader.read
    monkeypatch.setattr(ShardReader, "read", lambda self, *args: (reads.append(args[:2]), read(self, *args))[1])
    source = opened(original)
    for epoch in range(4):
        source.read(epoch * 700, (epoch + 1) * 700)
    assert sorted(reads)[:3] == [(0, 0), (0, 1), (0, 2)] and len(reads) == 3


def test_what_the_kernel_has_dropped_is_read_and_compared_again(copy, monkeypatch):
    source = opened(copy)
    source.read(0, 700)
    change(copy / "train/moments/c/0/0/0/0/0", 10)
    source.read(700, 1400)  # not compared: it was before
    monkeypatch.setattr(mapped, "in_page_cache", lambda *_: False)
    with pytest.raises(UserError, match="the checksum is wrong"):
        source.read(2100, 2800)


def test_a_chunk_on_disk_is_not_in_the_page_cache(copy):
    shard = copy / "train/moments/c/0/0/0/0/0"
    size = shard.stat().st_size
    with shard.open("rb") as file:
        file.read()
        if not supported(file.fileno()):
            pytest.skip("this file system cannot say")
        assert mapped.in_page_cache(file.fileno(), 0, size)
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        assert not mapped.in_page_cache(file.fileno(), 0, size)
        assert not mapped.in_page_cache(file.fileno(), 0, 2 * size)  # beyond the end


def supported(file: int) -> bool:
    try:
        mapped.in_page_cache(file, 0, 1)
    except OSError:
        return False
    return True


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "chunk": (lambda shard: change(shard, 10), "rows 0 to 255 cannot be read whole .the checksum is wrong"),
    "index": (lambda shard: change(shard, -10), r"rows \d+ to \d+ cannot be read whole .the index is damaged"),
    "missing": (Path.unlink, r"rows \d+ to \d+ cannot be read whole .*No such file"),
    "truncated": (lambda shard: os.truncate(shard, 20), r"rows \d+ to \d+ cannot be read whole .the file is truncated"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_named_in_one_line_at_the_first_read(copy, damage):
    cause, words = DAMAGES[damage]
    cause(copy / "train/moments/c/0/0/0/0/0")
    source = opened(copy)
    with pytest.raises(UserError, match=f"train/moments/c/0/0/0/0/0: {words}") as error:
        source.read(0, 700)
    assert "\n" not in str(error.value) and "verify and repair" in str(error.value)


@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_a_shard_that_goes_away_is_named_too(copy, damage):
    cause, words = DAMAGES[damage]
    source = opened(copy)
    source.read(0, 700)
    cause(copy / "train/moments/c/0/0/0/0/0")
    with pytest.raises(UserError, match=words):
        source.read(2100, 2800)


def test_unchecked_reads_a_damaged_chunk_but_no_damaged_index(copy):
    change(copy / "train/moments/c/0/0/0/0/0", 10)
    opened(copy, UNCHECKED).read(0, 700)
    change(copy / "train/moments/c/0/0/0/0/0", -10)
    with pytest.raises(UserError, match="the index is damaged"):
        opened(copy, UNCHECKED).read(0, 700)


def test_a_store_that_does_not_fit_is_streamed(original, monkeypatch):
    monkeypatch.setattr(mapped, "available_memory", lambda: 1000.0)
    latents = open_store(original)
    source, how = open_source(latents, ["train"], 0, CPU, 1e6, CHECKED, batch=50)
    assert isinstance(source, WindowStream) and "streamed" in how
    assert not any(isinstance(reader, MappedReader) for reader in source.chunks.readers.values())


def test_the_least_of_machine_and_control_groups_is_available(tmp_path):
    def write(path: str, text: object) -> None:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(f"{text}\n")

    assert available_memory(tmp_path) == 0
    write("proc/meminfo", "MemTotal: 9000 kB\nMemAvailable:   5000 kB")
    assert available_memory(tmp_path) == 5000 * 1024
    write("proc/self/cgroup", "4:memory:/job\n0::/user/job")
    group = "sys/fs/cgroup/user"  # the limit is that of a group further out
    write(f"{group}/memory.max", 3_000_000)
    write(f"{group}/memory.current", 2_000_000)
    write(f"{group}/memory.stat", "anon 5\nactive_file 300000\ninactive_file 200000")
    write(f"{group}/job/memory.max", "max")
    assert available_memory(tmp_path) == 1_500_000  # the page cache counts as free
    old = "sys/fs/cgroup/memory"  # version 1; a container sees only its own group
    write(f"{old}/memory.limit_in_bytes", 1_000_000)
    write(f"{old}/memory.usage_in_bytes", 800_000)
    write(f"{old}/memory.stat", "total_active_file 100000\ntotal_inactive_file 0")
    assert available_memory(tmp_path) == 300_000
