"""CKA and CKNNA against their definitions, written out over whole n x n kernels."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from diffprobe.evaluation.representation.similarity import cka, cknna


def related(seed: int, n: int = 60, shared: int = 3, width: int = 8) -> torch.Tensor:
    """Features (n, width), far from the origin, whose images share a few directions with those of other seeds."""
    common = np.random.default_rng(99).normal(size=(n, shared))
    rng = np.random.default_rng(seed)
    x = common @ rng.normal(size=(shared, width)) + 0.5 * rng.normal(size=(n, width)) + 5
    return torch.tensor(x, dtype=torch.float32)


def gram(x: torch.Tensor) -> np.ndarray:
    return x.double().numpy() @ x.double().numpy().T


def biased(k: np.ndarray, m: np.ndarray) -> float:
    """HSIC by Kornblith et al. 2019, eq. 3, without its factor."""
    h = np.eye(len(k)) - 1 / len(k)
    return np.trace(k @ h @ m @ h)


def unbiased(k: np.ndarray, m: np.ndarray) -> float:
    """HSIC by Song et al. 2012, eq. 5."""
    n, one = len(k), np.ones(len(k))
    k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
    between = one @ k @ one * (one @ m @ one) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (one @ k @ m @ one)
    return (np.trace(k @ m) + between) / (n * (n - 3))


@pytest.mark.parametrize("n", [6, 60])
@pytest.mark.parametrize("hsic", [biased, unbiased])
def test_cka_equals_its_definition_however_it_is_divided(hsic, n: int) -> None:
    xs, ys = [related(0, n), related(1, n, width=70)], [related(2, n), related(3, n, shared=1), 1e-3 * related(4, n)]
    expected = [
        [hsic(gram(x), gram(y)) / np.sqrt(hsic(gram(x), gram(x)) * hsic(gram(y), gram(y))) for y in ys] for x in xs
    ]
    assert np.ptp(expected) > 0.2
    for memory in (0, 20_000, 2**28):  # a row at a time, several, all
        values = cka(xs, ys, hsic is unbiased, memory)
        np.testing.assert_allclose(values, expected, atol=2e-6)


def test_cka_is_one_with_itself_turned_scaled_and_shifted_and_zero_with_noise() -> None:
    x, generator = related(0), torch.Generator().manual_seed(1)
    turn = torch.linalg.qr(torch.randn(8, 8, generator=generator))[0]
    same = [x, x @ turn, 1000 * x, x + 100]
    assert cka([x], same).tolist()[0] == pytest.approx([1, 1, 1, 1], abs=1e-5)
    many = torch.randn(3000, 8, generator=generator)  # 9 million products
    assert cka([many], [many]).item() == pytest.approx(1, abs=1e-6)
    stretched = x * torch.tensor([9.0, *[1] * 7])  # no isotropic scaling, so another representation
    assert cka([x], [stretched]).item() < 0.9
    noise = [torch.randn(60, 500, generator=generator) for _ in range(20)]
    values = cka([x], noise)
    assert values.mean().item() == pytest.approx(0, abs=3 * values.std().item() / 20**0.5)
    assert cka([x], noise, unbiased=False).mean() > 0.15  # what the unbiased estimate is for
    assert cka([x], [torch.ones(60, 4)]).isnan().all()


def plain_cknna(x: torch.Tensor, y: torch.Tensor, k: int) -> float:
    """Huh et al. 2024, appendix A: centred kernels, summed over the mutual nearest neighbours."""
    h = np.eye(len(x)) - 1 / len(x)
    units = [z.double().numpy() / np.linalg.norm(z.double().numpy(), axis=1, keepdims=True) for z in (x, y)]
    kernels = [h @ u @ u.T @ h for u in units]
    near = []
    for u in units:
        indices = NearestNeighbors(n_neighbors=k, metric="cosine").fit(u).kneighbors(return_distance=False)
        near.append(np.zeros((len(x), len(x))))
        np.put_along_axis(near[-1], indices, 1, axis=1)

    def align(i: int, j: int) -> float:
        return (near[i] * near[j] * kernels[i] * kernels[j]).sum()

    return align(0, 1) / np.sqrt(align(0, 0) * align(1, 1))


@pytest.mark.parametrize("k", [3, 10, 59])
def test_cknna_equals_its_definition(k: int) -> None:
    xs, ys = [related(0), related(1, width=70)], [related(2), related(3, shared=1)]
    expected = [[plain_cknna(x, y, k) for y in ys] for x in xs]
    assert np.ptp(expected) > 0.1
    for memory in (0, 2**28):
        np.testing.assert_allclose(cknna(xs, ys, k, memory), expected, atol=1e-6)


def test_cknna_is_one_with_itself_and_by_chance_near_zero() -> None:
    x, generator = related(0, n=300), torch.Generator().manual_seed(2)
    turn = torch.linalg.qr(torch.randn(8, 8, generator=generator))[0]
    assert cknna([x], [x, 7 * x @ turn], 10).tolist()[0] == pytest.approx([1, 1], abs=1e-6)
    assert abs(cknna([x], [torch.randn(300, 64, generator=generator)], 10).item()) < 0.1
