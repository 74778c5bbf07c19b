"""Streams of images: every image once per epoch, any part directly, few windows in memory, damage where it is read."""

import hashlib
import itertools
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from diffprobe.data import images, window_stream
from diffprobe.data.batch import Batch, Feed
from diffprobe.data.pixels import to_float
from diffprobe.data.rows import Rows
from diffprobe.data.window import Window
from diffprobe.data.window_stream import WindowStream
from diffprobe.runtime.errors import UserError
from diffprobe.training import imagestream
from diffprobe.training.imagestream import ImageStream
from diffprobe.training.stream import Stream, open_stream

CPU = torch.device("cpu")
N, TRAIN = 1500, 1300  # images in six chunks; the others are of select and test, here and there
SPLIT = np.random.default_rng(1).permutation(np.repeat([0, 1, 2], [TRAIN, 120, 80]))
PIXELS = np.random.default_rng(0).integers(0, 256, (N, 4, 4, 3), dtype=np.uint8)
PIXELS[:, 0, 0, 0], PIXELS[:, 0, 0, 1] = np.arange(N) // 256, np.arange(N) % 256  # an image tells its row

seeds, sizes = st.integers(0, 2**31), st.integers(1, 7)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store whose labels count the rows from the last."""
    path = tmp_path_factory.mktemp("streams") / "images.h5"
    images.write(path, PIXELS, N - 1 - np.arange(N), SPLIT, classes=[str(i) for i in range(N)])
    return path


@pytest.fixture(scope="module", params=["resident", "windows"])
def make(request: pytest.FixtureRequest, store: Path) -> Callable[..., Feed]:
    """A stream of the images of train, of one kind or the other, given a seed and a window."""

    if request.param == "resident":
        return lambda seed, window: open_stream(store, ["train"], seed, CPU, 1e9)
    return lambda seed, window: ImageStream(store, ["train"], seed, CPU, window)


def rows(batch: Batch) -> np.ndarray:
    """The rows of a batch's images, int64 (B,), after checking everything else in the batch."""
    assert torch.equal(batch.images, to_float(torch.from_numpy(PIXELS[N - 1 - batch.labels])))
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert batch.labels.dtype == batch.positions.dtype == torch.int64 and batch.augment is None
    return N - 1 - batch.labels.numpy()


@settings(max_examples=15, deadline=None)
@given(seed=seeds, window=sizes, epoch=st.integers(0, 10**9))
def test_an_epoch_holds_every_image_once(make, seed, window, epoch):
    order = rows(make(seed, window).read(epoch * TRAIN, (epoch + 1) * TRAIN))
    assert np.array_equal(np.sort(order), np.flatnonzero(SPLIT == 0))


@settings(max_examples=15, deadline=None)
@given(
    seed=seeds, window=sizes, cuts=st.lists(st.integers(1, 2999), max_size=8, unique=True), first=st.integers(0, 9**9)
)
def test_images_are_the_same_however_positions_are_cut(make, seed, window, cuts, first):
    """Over about three epochs from any position, read by one stream, and by a new stream for every part."""
    whole = make(seed, window).read(first, first + 3000)
    rows(whole)
    assert torch.equal(whole.positions, torch.arange(first, first + 3000))
    borders = list(itertools.pairwise([first, *(first + cut for cut in sorted(cuts)), first + 3000]))
    one = make(seed, window)
    for sources in (itertools.repeat(one), (make(seed, window) for _ in borders)):
        parts = [source.read(*border) for source, border in zip(sources, borders, strict=False)]
        for expected, pieces in zip(whole[:3], list(zip(*parts, strict=True))[:3], strict=True):
            assert torch.equal(expected, torch.cat(pieces))


def test_orders_differ_by_epoch_and_seed_and_show_no_trace_of_the_store(make):
    one, other = make(0, 6), make(1, 6)
    orders = [rows(one.read(0, TRAIN)), rows(one.read(TRAIN, 2 * TRAIN)), rows(other.read(0, TRAIN))]
    for i, order in enumerate(orders):
        assert (np.diff(order) == 1).sum() < 8
        assert abs(np.corrcoef(order, np.arange(TRAIN))[0, 1]) < 0.12
        assert all((order == earlier).sum() < 8 for earlier in orders[:i])


def test_a_batch_is_the_readers_own(make):
    source = make(0, 3)
    before = source.read(0, 50)
    for part in source.read(0, 50)[:3]:
        part.zero_()
    assert all(torch.equal(a, b) for a, b in zip(before[:3], source.read(0, 50)[:3], strict=True))


def test_the_order_in_memory_is_the_one_that_runs_were_trained_with():
    labels = Stream(torch.zeros(1000, 1, 1, 1, dtype=torch.uint8), torch.arange(1000), 5, CPU).read(0, 3000).labels
    assert labels[:5].tolist() == [914, 711, 17, 627, 700]
    assert hashlib.sha256(labels.numpy()).hexdigest() == (
        "0b7c11d9c4d7ae4d425eb41440fd35ef1edef27c4edb153845d25776064b5699"
    )


class Watched(TorchDispatchMode):
    """Refuses operations that would synchronise a GPU with its host, had the tensors been on one."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        assert name not in ("nonzero", "masked_select", "_local_scalar_dense", "is_nonzero", "equal"), name
        assert name != "index" or all(index is None or index.dtype == torch.int64 for index in args[1])
        assert name != "_to_copy" or "device" not in (kwargs or {}), "a copy from the host"
        return func(*args, **(kwargs or {}))


def test_no_read_within_an_epoch_makes_the_host_wait(store):
    source = open_stream(store, ["train"], 0, CPU, 1e9)
    source.read(0, 1)
    with Watched():
        source.read(100, 200)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_it_is_the_same_and_nothing_waits(store):
    gpu = torch.device("cuda")
    for kind in (
        lambda device: open_stream(store, ["train"], 0, device, 1e9),
        lambda device: ImageStream(store, ["train"], 0, device, 6),
    ):
        source, expected = kind(gpu), kind(CPU)
        source.read(0, 1)
        torch.cuda.set_sync_debug_mode("error")
        try:
            batches = [source.read(start, start + 100) for start in range(0, 1200, 100)]
        finally:
            torch.cuda.set_sync_debug_mode("default")
        for i, batch in enumerate(batches):
            other = expected.read(100 * i, 100 * i + 100)
            assert all(torch.equal(a.cpu(), b) for a, b in zip(batch[:3], other[:3], strict=True))
        late = [source.read(start, start + 100) for start in range(1200, 9000, 100)]  # past many windows, unwaited for
        for i, batch in enumerate(late):
            assert torch.equal(batch.images.cpu(), expected.read(1200 + 100 * i, 1300 + 100 * i).images)


def test_images_stay_in_memory_up_to_the_limit(store):
    """Of 1420 images of 48 bytes."""
    splits = ["train", "select"]
    resident = open_stream(store, splits, 0, CPU, 1420 * 48)
    windowed = open_stream(store, splits, 0, CPU, 1420 * 48 - 1)
    assert isinstance(resident, Stream) and isinstance(windowed, ImageStream)
    both = [rows(stream.read(0, 1420)) for stream in (resident, windowed)]
    assert np.array_equal(*map(np.sort, both)) and not np.array_equal(*both)


def test_few_images_are_the_same_however_they_are_held_and_more_contain_fewer(store):
    """An epoch is of them alone, in as random an order as all are; another seed has others."""

    def trained_on(n: int, seed: int, limit: float = 1e9) -> list[int]:
        stream = open_stream(store, ["train", "select"], 7, CPU, limit, images.Few(n, seed))
        first, second = rows(stream.read(0, n)), rows(stream.read(n, 2 * n))
        assert sorted(first) == sorted(second) and list(first) != sorted(first)
        return sorted(first)

    few = trained_on(64, 3)
    assert len(set(few)) == 64 and few == trained_on(64, 3, limit=64 * 48 - 1) and few[-1] > N - N // 4
    assert set(few) < set(trained_on(200, 3)) and few != trained_on(64, 4)
    with pytest.raises(UserError, match="asked for 1,421 images of train and select, which have 1,420"):
        open_stream(store, ["train", "select"], 0, CPU, 1e9, images.Few(1421, 0))


def test_a_window_is_of_as_many_chunks_as_its_bytes_hold(store, monkeypatch):
    """Chunks are of 256 x 48 bytes; the last one is shorter."""
    for limit, chunks in ((3 * 256 * 48, 3), (3 * 256 * 48 - 1, 2), (1, 1), (1e9, 6)):
        monkeypatch.setattr(imagestream, "WINDOW", int(limit))
        chunk_of = rows(ImageStream(store, ["train"], 0, CPU).read(0, TRAIN)) // 256
        assert len(set(chunk_of[:100])) == chunks


@pytest.mark.parametrize("damaged", range(6))
def test_damage_surfaces_where_it_is_read_and_not_before(store, tmp_path, damaged):
    path = tmp_path / "images.h5"
    data = store.read_bytes()
    at = data.index(PIXELS[256 * damaged].tobytes())
    path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    order = rows(ImageStream(store, ["train"], 0, CPU, 1).read(0, TRAIN)) // 256
    first = int(np.argmax(order == damaged))
    source = ImageStream(path, ["train"], 0, CPU, 1)
    if first:
        assert np.array_equal(rows(source.read(0, first)) // 256, order[:first])
    for _ in range(2):
        with pytest.raises(UserError, match=rf"{path}: images of rows {256 * damaged} to \d+ are damaged"):
            source.read(first, first + 1)
    with pytest.raises(UserError, match="damaged"):
        open_stream(path, ["train"], 0, CPU, 1e9)


class Numbers:
    """Chunks of the rows 0, 1, 2, ..., which record what is read."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self.sizes = sizes
        self.begins = [0, *itertools.accumulate(sizes)]
        self.reads: list[tuple[int, int]] = []  # epoch and number of each chunk

    def read(self, epoch: int, numbers: Sequence[int]) -> Iterator[Rows]:
        for number in numbers:
            self.reads.append((epoch, number))
            values = torch.arange(self.begins[number], self.begins[number + 1])
            yield values, values[:, None].half().expand(-1, 3)


@settings(max_examples=40, deadline=None)
@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=12), window=sizes, seed=seeds)
def test_windows_are_of_few_chunks_and_each_chunk_is_read_once_an_epoch(sizes, window, seed):
    chunks = Numbers(sizes)
    source = WindowStream(chunks, seed, window, CPU)
    values = torch.cat([source.read(at, at + 1)[0] for at in range(2 * sum(sizes))]).numpy()
    for epoch in range(2):
        order = [number for read_in, number in chunks.reads if read_in == epoch]
        assert sorted(order) == list(range(len(sizes)))
        rest = values[epoch * sum(sizes) : (epoch + 1) * sum(sizes)]
        for i in range(0, len(sizes), window):
            members = np.concatenate([np.arange(*chunks.begins[k : k + 2]) for k in order[i : i + window]])
            assert np.array_equal(np.sort(rest[: len(members)]), np.sort(members))
            rest = rest[len(members) :]


def test_a_window_is_freed_before_another_is_started(monkeypatch):
    """Two at most are in memory, however fast they load, where a read spans several windows or jumps ahead."""
    alive, plain = weakref.WeakSet(), window_stream.load_window

    def at_once(make: Callable[[Callable[[], bool]], Window]) -> Future[Window]:
        made: Future[Window] = Future()
        assert len(alive) < 2
        made.set_result(make(lambda: False))
        return made

    def load(*arguments: object) -> Window:
        made = plain(*arguments)
        alive.add(made.rows[0])
        return made

    monkeypatch.setattr(window_stream, "load_window", load)
    monkeypatch.setattr(window_stream.background, "start", at_once)
    source = WindowStream(Numbers([30] * 10), 0, 2, CPU)
    for start in range(0, 1500, 170):
        source.read(start, start + 170)
    source.read(10**6, 10**6 + 1)


def test_the_next_window_is_loaded_meanwhile():
    chunks = Numbers([10] * 4)
    source = WindowStream(chunks, 0, 2, CPU)
    source.read(0, 1)
    patience = time.monotonic() + 10
    while len(chunks.reads) < 4 and time.monotonic() < patience:
        time.sleep(0.001)
    assert len(chunks.reads) == 4, "the second window is loaded before it is read"


class Held(Numbers):
    """Reads of epoch 1 block until the gate is open."""

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__(sizes)
        self.gate = threading.Event()

    def read(self, epoch: int, numbers: Sequence[int]) -> Iterator[Rows]:
        for rows in super().read(epoch, numbers):
            if epoch == 1:
                self.gate.wait(60)
            yield rows


@pytest.mark.parametrize("elsewhere", [True, False])
def test_loading_stops_when_nobody_needs_the_window(elsewhere):
    """Because the reader has moved elsewhere, or the stream is gone."""
    before, chunks = set(threading.enumerate()), Held([1] * 50)
    source = WindowStream(chunks, 0, 50, CPU)
    source.read(0, 1)
    if elsewhere:
        source.read(50 * 10**6, 50 * 10**6 + 1)
    else:
        del source
    chunks.gate.set()
    for thread in set(threading.enumerate()) - before:
        thread.join(60)
        assert not thread.is_alive()
    assert [epoch for epoch, _ in chunks.reads].count(1) <= 1


def test_the_interpreter_exits_after_at_most_one_chunk():
    """Each chunk of the window that is being loaded takes a second, all of them minutes."""
    code = """if True:
        import time
        from test_streams import CPU, Numbers, WindowStream
        chunks = Numbers([1] * 300)
        source = WindowStream(chunks, 0, 300, CPU)
        slow = chunks.read
        chunks.read = lambda epoch, numbers: (time.sleep(epoch) or rows for rows in slow(epoch, numbers))
        source.read(0, 1)
    """
    child = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, timeout=100, capture_output=True)
    assert (child.returncode, child.stderr) == (0, b"")
