"""Probe heads and neighbours against scikit-learn, and against themselves alone."""

import math

import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from diffprobe.evaluation.heads import EPS, Heads, accuracy, fit_linear, standardise
from diffprobe.evaluation.neighbours import knn
from diffprobe.runtime.errors import UserError

SETTINGS = {"classes": 10, "epochs": 40, "batch": 128, "lr": 0.01, "weight_decay": 0.0}


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Train rows (1200, 64) and labels, test rows (597, 64) and labels."""
    x, y = (torch.from_numpy(array) for array in load_digits(return_X_y=True))
    return x[:1200].float(), y[:1200], x[1200:].float(), y[1200:]


def noisy(x: Tensor, draws: int, seed: int) -> Tensor:
    """(N, D) to (1, V, N, D): noisy copies, as a diffusion network's features are."""
    noise = torch.randn(draws, *x.shape, generator=torch.Generator().manual_seed(seed))
    return (x + 2 * noise)[None]


def test_stacked_heads_equal_heads_alone(digits: tuple[Tensor, ...]) -> None:
    train, labels, test, _ = digits
    cells = torch.cat([noisy(train, 3, 0), 100 * noisy(train, 3, 0), noisy(train, 3, 1) + 5])  # (3, V, N, D)
    features, seeds = cells[[0, 1, 2, 0, 0]], [0, 0, 1, 7, 0]
    options = SETTINGS | {"epochs": 8, "weight_decay": 1e-3}
    stacked = fit_linear(features, labels, seeds=seeds, **options)
    queries = noisy(test, 2, 2).expand(5, -1, -1, -1)
    logits = stacked.logits(queries)  # (K, N, classes)
    for i, seed in enumerate(seeds):
        alone = fit_linear(features[i : i + 1], labels, seeds=[seed], **options)
        torch.testing.assert_close(stacked.weight[i], alone.weight[0], rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(logits[i], alone.logits(queries[i : i + 1])[0], rtol=1e-3, atol=1e-3)
    assert torch.equal(stacked.weight[0], stacked.weight[4])  # the same seed and features
    assert not torch.allclose(stacked.weight[0], stacked.weight[3], atol=1e-3)  # another seed
    torch.testing.assert_close(stacked.weight[0], stacked.weight[1], rtol=1e-2, atol=1e-3)  # units do not matter


def test_each_draw_is_seen(digits: tuple[Tensor, ...]) -> None:
    """Two draws that need different weights: a head fitted on both fits both, on the first the first."""
    train, labels, *_ = digits
    features = torch.stack([train, train.flip(1)])[None]  # (1, 2, N, D)
    heads = fit_linear(features, labels, seeds=[0], **SETTINGS)
    only_first = fit_linear(features[:, :1], labels, seeds=[0], **SETTINGS)
    assert accuracy(heads.logits(features[:, 1:]), labels) > 0.9
    assert accuracy(only_first.logits(features[:, 1:]), labels) < 0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_linear_head_equals_logistic_regression(digits: tuple[Tensor, ...], dtype: torch.dtype) -> None:
    train, labels, test, test_labels = digits
    mean, std = standardise(train)
    reference = LogisticRegression(C=1.0, max_iter=2000).fit((train - mean) / std, labels)
    expected = reference.score((test - mean) / std, test_labels)
    heads = fit_linear(train.to(dtype)[None, None].expand(2, -1, -1, -1), labels, seeds=[0, 1], **SETTINGS)
    found = accuracy(heads.logits(test.to(dtype)[None, None].expand(2, -1, -1, -1)), test_labels)
    assert expected > 0.9
    torch.testing.assert_close(found, torch.full((2,), expected, dtype=torch.float64), rtol=0, atol=0.015)


def test_standardise_leaves_constant_features_finite() -> None:
    rows = torch.cat([torch.full((50, 1), 3.3), torch.randn(50, 1)], dim=1)
    mean, std = standardise(rows)
    assert std[0] == EPS
    assert torch.equal((rows[:, 0] - mean[0]) / std[0], torch.zeros(50))


def test_logits_average_probabilities_over_draws() -> None:
    heads = Heads(torch.eye(2)[None], torch.zeros(1, 2), torch.zeros(1, 2), torch.ones(1, 2))
    features = torch.tensor([[math.log(9.0), 0.0], [0.0, math.log(4.0)]])[None, :, None]  # (1, 2, 1, 2)
    expected = torch.tensor([[[(0.9 + 0.2) / 2, (0.1 + 0.8) / 2]]])
    torch.testing.assert_close(heads.logits(features).exp(), expected)


@pytest.mark.parametrize("k", [1, 5, 20])
def test_knn_equals_scikit_learn_where_votes_do_not_tie(digits: tuple[Tensor, ...], k: int) -> None:
    train, labels, test, _ = digits
    reference = KNeighborsClassifier(n_neighbors=k, metric="cosine").fit(train, labels)
    votes = torch.from_numpy(reference.predict_proba(test)).sort(1, descending=True).values
    clear = votes[:, 0] > votes[:, 1]
    expected = torch.from_numpy(reference.predict(test))
    assert clear.float().mean() > 0.95
    for chunk in (50, 1000):
        assert torch.equal(knn(train, labels, test, 10, k, chunk)[clear], expected[clear])


def test_knn_ties_go_to_the_nearer_neighbour() -> None:
    angles = torch.tensor([0.1, 0.2, 0.3, 0.4, 3.0])
    train = 7 * torch.stack([angles.cos(), angles.sin()], dim=1)
    query = torch.tensor([[0.01, 0.0]])
    assert knn(train, torch.tensor([2, 1, 1, 2, 0]), query, classes=3, k=4).tolist() == [2]
    assert knn(train, torch.tensor([1, 2, 2, 1, 0]), query, classes=3, k=4).tolist() == [1]
    assert knn(train, torch.tensor([0, 1, 1, 2, 0]), query, classes=3, k=4).tolist() == [1]
    with pytest.raises(UserError, match="6 nearest neighbours need at least 6 labelled images, here are 5"):
        knn(train, torch.zeros(5, dtype=torch.int64), query, classes=3, k=6)
