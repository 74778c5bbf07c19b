"""Keyed draws: published vectors of the generator, independence of batches, distribution."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from diffprobe.runtime import keyed
from diffprobe.runtime.keyed import MASK, Key, bits, normal, permutation, philox, uniform


def words(*values: int) -> tuple[torch.Tensor, ...]:
    return tuple(torch.tensor([value]) for value in values)


def test_philox_known_answers():
    """The published vectors of philox4x32-10 (Random123, kat_vectors)."""
    cases = [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((MASK,) * 4, (MASK, MASK), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ]
    for counter, key, expected in cases:
        assert tuple(int(word) for word in philox(words(*counter), key)) == expected


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(st.integers(0, 2**62), min_size=1, max_size=20),
    cut=st.integers(0, 20),
    seed=st.integers(0, 2**40),
    count=st.integers(1, 9),
)
def test_a_row_draws_the_same_in_any_batch(rows, cut, seed, count):
    key, all_rows = Key(seed, "test"), torch.tensor(rows)
    whole = normal(key, all_rows, (count,))
    parts = [normal(key, part, (count,)) for part in (all_rows[:cut], all_rows[cut:]) if len(part)]
    assert torch.equal(whole, torch.cat(parts))


def test_few_draws_are_those_of_many(monkeypatch):
    """numpy draws where they are few, torch where they are many, or on a GPU; each row may have a draw of its own."""
    rows, draws = torch.arange(40) * 2**40, torch.arange(40) * 2**20
    few = bits(Key(7, "test"), rows, 9, draws)
    monkeypatch.setattr(keyed, "SMALL", -1)
    assert torch.equal(few, bits(Key(7, "test"), rows, 9, draws))
    one_by_one = [bits(Key(7, "test"), rows[i : i + 1], 9, int(draws[i])) for i in range(40)]
    assert torch.equal(few, torch.cat(one_by_one))


def test_torchs_fused_generator_makes_the_numbers_of_this_one(monkeypatch):
    """So a torch without it, or with another, changes no result; rows beyond 32 bits and all keys included."""
    rows = torch.tensor([0, 1, 2**31, 2**32 - 1, 2**32, 2**40 + 3, 2**62])
    keys = [Key(seed, "test") for seed in range(20)]
    drawn = [normal(key, rows, (3, 5), draw) for key in keys for draw in (0, 3)]
    assert keyed.has_fused("cpu") == hasattr(torch.ops.aten, "_philox_uniform_")
    monkeypatch.setattr(keyed, "has_fused", lambda device: False)
    assert all(map(torch.equal, drawn, [normal(key, rows, (3, 5), draw) for key in keys for draw in (0, 3)]))


def test_numbers_are_those_of_version_2():
    """Golden values: other numbers need another `config.names.DRAWS`, since a begun run must not mix them."""
    rows = torch.tensor([0, 7, 2**33])
    words = uniform(Key(3, "t"), rows) * 2**24
    assert words.tolist() == [12144718, 908898, 9854387]
    expected = torch.tensor(
        [[0.081674, -0.820296, 0.54008], [0.705865, 0.102522, 1.182899], [0.699322, 0.174074, 2.129889]]
    )
    torch.testing.assert_close(normal(Key(3, "noise"), rows, (3,), draw=2), expected, rtol=1e-6, atol=1e-6)


def test_draws_are_independent_across_keys_rows_and_counters():
    rows = torch.arange(64)
    streams = [
        bits(Key(0, "a"), rows, 64),
        bits(Key(1, "a"), rows, 64),
        bits(Key(0, "b"), rows, 64),
        bits(Key(0, "a"), rows, 64, draw=1),
        bits(Key(0, "a"), rows + 64, 64),
        bits(Key(0, "a"), rows + 2**32, 64),
    ]
    seen = torch.cat([stream.flatten() for stream in streams])
    # 24,576 words of 32 bits: about 0.07 coincidences are expected, hundreds if any two streams were one.
    assert len(seen.unique()) > len(seen) - 4


def test_distributions():
    rows = torch.arange(2000)
    flat = uniform(Key(3, "u"), rows, (50,)).flatten().numpy()
    bell = normal(Key(3, "n"), rows, (49,)).flatten().numpy()
    assert flat.min() >= 0 and flat.max() < 1
    assert stats.kstest(flat, "uniform").pvalue > 1e-3
    assert stats.kstest(bell, "norm").pvalue > 1e-3
    assert abs(np.corrcoef(bell[:-1], bell[1:])[0, 1]) < 0.02


def test_permutations_differ_by_epoch_and_hold_every_image():
    orders = [permutation(Key(0, "order"), 1000, draw=epoch) for epoch in range(3)]
    for order in orders:
        assert torch.equal(order.sort().values, torch.arange(1000))
    assert not torch.equal(orders[0], orders[1])
    # About one fixed point is expected of a random permutation.
    assert (orders[0] == orders[1]).sum() < 10
