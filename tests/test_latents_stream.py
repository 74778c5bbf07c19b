"""The stream of latents: permutations, views in turn, any step directly, bounded memory."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffprobe.data import views
from diffprobe.latents.parts import CHUNK, Store, write_part
from diffprobe.latents.store import Latents, finish, open_store
from diffprobe.latents.stream import LatentStream
from diffprobe.runtime.keyed import Key, normal

CPU = torch.device("cpu")
COUNTS = {"train": 700, "select": 300, "test": 10}
SPLITS = ("train", "select")
N, CHUNKS, VIEWS = 1000, 5, 3  # of train (3 chunks, 3 views) and select (2 chunks, 1 view)


@pytest.fixture(scope="module")
def latents(tmp_path_factory: pytest.TempPathFactory) -> Latents:
    """Latents that name themselves: channel 0 of the mean is the row, train before select, channel 1 the view."""
    numbers = {"train": VIEWS, "select": 1, "test": 1}
    kinds = {split: views.expand([{"kind": "crop", "count": n}]) for split, n in numbers.items()}
    store = Store(tmp_path_factory.mktemp("stream") / "latents.zarr", {}, 0, COUNTS, kinds, shard_chunks=2)
    first = {"train": 0, "select": 700, "test": 1000}
    for part in store.parts:
        moments = np.zeros((part.stop - part.start, 4, 1, 1), np.float16)
        moments[:, 0, 0, 0] = first[part.split] + np.arange(part.start, part.stop)
        moments[:, 1] = part.view
        moments[:, 2:] = -4  # a standard deviation of exp(-2)
        write_part(store, part, moments)
    labels = {split: first[split] + np.arange(n) for split, n in COUNTS.items()}
    finish(store, labels, labels, {"scale": [1.0, 0.5], "shift": [0.0, 1.0]})
    return open_store(store.path)


def stream(latents: Latents, batch: int, seed: int, window: int, latents_as: str = "mean") -> LatentStream:
    return LatentStream(latents, SPLITS, batch, seed, CPU, window, latents_as)


def read(source: LatentStream, positions: range) -> tuple[np.ndarray, np.ndarray]:
    """Rows and views at the positions, both int64."""
    batches = [source[step] for step in range(positions.start // source.batch, -(-positions.stop // source.batch))]
    x = torch.cat([batch.images for batch in batches])[:, :, 0, 0]  # (n, 2)
    here = slice(positions.start % source.batch, positions.start % source.batch + len(positions))
    assert torch.equal(torch.cat([batch.labels for batch in batches]), x[:, 0].long())
    return x[here, 0].long().numpy(), (x[here, 1] / 0.5 + 1).long().numpy()


seeds, windows, batches = st.integers(0, 2**31), st.integers(1, 7), st.integers(1, 1500)


@settings(max_examples=25, deadline=None)
@given(seed=seeds, window=windows, batch=batches)
def test_an_epoch_holds_every_row_once_and_its_views_take_turns(latents, seed, window, batch):
    source = stream(latents, batch, seed, window)
    seen = []
    for epoch in range(VIEWS):
        rows, number = read(source, range(epoch * N, (epoch + 1) * N))
        assert np.array_equal(np.sort(rows), np.arange(N))
        by_row = number[np.argsort(rows)]
        assert all(len(set(by_row[start : min(start + CHUNK, 700)])) == 1 for start in range(0, 700, CHUNK))
        seen.append(by_row)
    assert np.array_equal(np.sort(np.stack(seen)[:, :700], axis=0), np.repeat([[0], [1], [2]], 700, axis=1))
    assert not np.stack(seen)[:, 700:].any()


@settings(max_examples=25, deadline=None)
@given(seed=seeds, window=windows, batch=batches, steps=st.lists(st.integers(0, 9), min_size=1, max_size=4))
def test_any_step_is_reached_directly_by_any_batch(latents, seed, window, batch, steps):
    whole, _ = read(stream(latents, 500, seed, window), range(10 * 1500))
    source = stream(latents, batch, seed, window)
    for step in steps:
        found = source[step]
        assert torch.equal(found.positions, torch.arange(step * batch, (step + 1) * batch))
        assert found.images.shape == (batch, 2, 1, 1)
        assert np.array_equal(found.labels.numpy(), whole[step * batch : (step + 1) * batch])


@settings(max_examples=20, deadline=None)
@given(seed=seeds, window=windows, batch=batches)
def test_two_windows_at_most_are_in_memory_and_a_window_is_of_few_chunks(latents, seed, window, batch):
    source = stream(latents, batch, seed, window)
    plain, held = latents.moments, []

    class Counted:
        """The store, which notes what the stream holds whenever it asks for a chunk."""

        def __getattr__(self, name):
            return getattr(latents, name)

        def moments(self, split, view, start, stop):
            held.append(sum(len(kept.labels) for kept in source.windows.values()))
            assert start % CHUNK == 0 and stop - start <= CHUNK
            return plain(split, view, start, stop)

    source.latents = Counted()
    rows, _ = read(source, range(2 * N))
    assert max(held) <= window * CHUNK, "more than one window is held beside the one that is read"
    assert len(source.windows) <= 2
    chunk_of = np.where(rows < 700, rows // CHUNK, 3 + (rows - 700) // CHUNK)
    begin = 0
    for _ in range(-(-CHUNKS // window)):
        chunks = list(dict.fromkeys(chunk_of[begin:N]))[:window]
        size = sum(int((chunk_of[:N] == chunk).sum()) for chunk in chunks)
        assert set(chunk_of[begin : begin + size]) == set(chunks)
        begin += size
    assert begin == N


def test_the_order_is_shuffled_and_differs_by_epoch_and_seed(latents):
    """With a window of all chunks: no more fixed points and no more neighbours than of random permutations."""
    source = stream(latents, 250, 0, CHUNKS)
    orders = [read(source, range(epoch * N, (epoch + 1) * N))[0] for epoch in range(2)]
    orders.append(read(stream(latents, 250, 1, CHUNKS), range(N))[0])
    for i, order in enumerate(orders):
        assert (np.diff(order) == 1).sum() < 8
        assert abs(np.corrcoef(order, np.arange(N))[0, 1]) < 0.12
        assert all((order == other).sum() < 8 for other in orders[:i])


def test_chunks_come_in_another_order_in_every_epoch(latents):
    """Of 5! orders, 20 epochs show about 18.5 different ones."""
    source = stream(latents, 1000, 0, 1)
    orders = []
    for epoch in range(20):
        rows, _ = read(source, range(epoch * N, (epoch + 1) * N))
        orders.append(tuple(dict.fromkeys(np.where(rows < 700, rows // CHUNK, 3 + (rows - 700) // CHUNK).tolist())))
    assert all(len(order) == CHUNKS for order in orders)
    assert len(set(orders)) > 12


def test_samples_are_of_the_posterior_in_model_scale_and_keyed_by_position(latents):
    """(mean + exp(logvar / 2) eps - shift) * scale: channel 1 of train's rows is (view + exp(-2) eps - 1) / 2."""
    mean, sample = (stream(latents, 200, 7, 2, kind) for kind in ("mean", "sample"))
    for step in (0, 4, 5):
        noise = (sample[step].images - mean[step].images) / torch.tensor([1, 0.5])[:, None, None] * np.exp(2)
        expected = normal(Key(7, "posterior"), mean[step].positions, (2, 1, 1))
        assert torch.allclose(noise, expected, atol=2e-3)  # rows to 1000 leave five decimals of a float32
    other = stream(latents, 500, 7, 2, "sample")
    assert torch.equal(
        torch.cat([sample[step].images for step in range(5)]), torch.cat([other[0].images, other[1].images])
    )


def test_a_step_far_away_costs_no_walk(latents):
    """Position 10^12: a stream that has run for years."""
    found = stream(latents, 100, 0, 2, "sample")[10**10]
    assert int(found.positions[0]) == 10**12
    assert len(set(found.labels.tolist())) == 100
    assert torch.isfinite(found.images).all()
