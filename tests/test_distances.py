"""The distances against references that share no code with them."""

import warnings

import numpy as np
import pytest
import scipy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from diffprobe.evaluation.frechet import frechet_distance
from diffprobe.evaluation.manifold import precision_recall
from diffprobe.evaluation.statistics import Moments
from diffprobe.runtime.errors import UserError


def moments(rows: torch.Tensor, batch: int) -> Moments:
    result = Moments(rows.shape[1])
    for part in rows.split(batch):
        result.update(part)
    return result


def gaussian(rng: np.random.Generator, rows: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of `rows` correlated draws: of rank rows - 1 if that is below dim."""
    x = rng.normal(size=(rows, dim)) @ rng.normal(size=(dim, dim)) / dim**0.5 + rng.normal(size=dim)
    return x.mean(0), np.cov(x, rowvar=False)


# Features far from zero: a raw sum of squares would lose 12 digits at an offset of 1e6.
@settings(max_examples=40, deadline=None)
@given(
    cuts=st.lists(st.integers(0, 90), max_size=6),
    split=st.integers(0, 90),
    offset=st.sampled_from([0.0, 3.0, 1e6]),
    seed=st.integers(0, 2**20),
)
def test_moments_do_not_depend_on_batches_or_merging(cuts: list[int], split: int, offset: float, seed: int) -> None:
    rows = np.random.default_rng(seed).normal(size=(90, 5)) + offset
    left, right = Moments(5), Moments(5)
    edges = sorted({0, split, 90, *cuts})
    for start, stop in zip([0, *edges], edges, strict=False):
        (left if stop <= split else right).update(torch.from_numpy(rows[start:stop]))
    left.merge(right)
    assert left.n == 90
    assert_allclose(left.mu, rows.mean(0), rtol=1e-10, atol=1e-12)
    assert_allclose(left.sigma, np.cov(rows, rowvar=False), rtol=1e-9, atol=1e-10)


def test_moments_of_batches_of_1_7_and_64_agree() -> None:
    rows = torch.rand(200, 16, generator=torch.Generator().manual_seed(0))  # float32, as features are
    whole = moments(rows, 200)
    assert whole.mu.dtype == whole.sigma.dtype == np.float64
    assert_allclose(whole.sigma, np.cov(rows.numpy().astype(np.float64), rowvar=False), rtol=1e-10)
    for batch in (1, 7, 64):
        assert_allclose(moments(rows, batch).mu, whole.mu, rtol=1e-10)
        assert_allclose(moments(rows, batch).sigma, whole.sigma, rtol=1e-10)


def test_moments_of_one_row_are_refused() -> None:
    with pytest.raises(UserError, match="at least 2 images, here are 1") as error:
        _ = moments(torch.ones(1, 3), 1).sigma
    assert "\n" not in str(error.value)


def test_frechet_closed_forms() -> None:
    a, b = np.array([1.0, 4.0, 0.25]), np.array([9.0, 1.0, 0.0])
    mu = np.array([3.0, 0.0, -4.0])
    expected = 25 + np.square(np.sqrt(a) - np.sqrt(b)).sum()
    turn = scipy.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]  # commuting, but not diagonal
    found = frechet_distance(turn @ mu, turn * a @ turn.T, np.zeros(3), turn * b @ turn.T)
    assert found == pytest.approx(expected, rel=1e-12)
    assert frechet_distance(mu, np.zeros((3, 3)), mu, np.diag(b)) == pytest.approx(10, rel=1e-12)


@pytest.mark.skipif(scipy.__version__ >= "1.18", reason="pytorch-fid 0.3.0 needs scipy < 1.18")
def test_frechet_equals_pytorch_fid() -> None:
    from pytorch_fid.fid_score import calculate_frechet_distance

    rng = np.random.default_rng(1)
    one, two = gaussian(rng, 500, 64), gaussian(rng, 300, 64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = calculate_frechet_distance(*one, *two)
    assert expected > 1
    assert frechet_distance(*one, *two) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(*two, *one) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("rows", [20, 500])
def test_frechet_of_equals_is_zero_at_any_rank(rows: int) -> None:
    mu, sigma = gaussian(np.random.default_rng(2), rows, 64)
    assert frechet_distance(mu, sigma, mu, sigma) == pytest.approx(0, abs=1e-12 * np.trace(sigma))
    assert frechet_distance(mu, sigma, mu + 1, sigma) == pytest.approx(64, rel=1e-9)


def brute_precision(real: np.ndarray, fake: np.ndarray, k: int) -> float:
    """The definition, a point at a time: is it in reach of a real one, as that one's k-th neighbour is?"""
    hits = 0
    for point in fake:
        hits += any(
            np.linalg.norm(point - centre) <= np.sort(np.linalg.norm(np.delete(real, i, 0) - centre, axis=1))[k - 1]
            for i, centre in enumerate(real)
        )
    return hits / len(fake)


@pytest.mark.parametrize("k", [1, 3])
def test_precision_recall_equals_the_definition(k: int) -> None:
    rng = np.random.default_rng(3)
    real, fake = 50 + rng.normal(size=(60, 4)), 50.7 + 0.8 * rng.normal(size=(45, 4))
    expected = brute_precision(real, fake, k), brute_precision(fake, real, k)
    assert 0.1 < min(expected) < max(expected) < 1
    for chunk in (1, 13, 1000):
        assert precision_recall(torch.tensor(real), torch.tensor(fake), k, chunk) == pytest.approx(expected)


def test_precision_recall_extremes() -> None:
    real = torch.randn(100, 8, generator=torch.Generator().manual_seed(4))
    assert precision_recall(real, real) == (1.0, 1.0)
    assert precision_recall(real, real + 1000) == (0.0, 0.0)
    # Collapse to one real image: everything is right, and but one image is covered.
    assert precision_recall(real, real[:1].repeat(50, 1)) == (1.0, 0.01)
    with pytest.raises(UserError, match="k = 3 need more than 3 images, here are 100 real and 3 generated"):
        precision_recall(real, real[:3])
