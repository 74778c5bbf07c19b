"""Evaluators where float32 is not enough, against float64 or scikit-learn; and heads that have diverged."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import RidgeClassifier
from torch import Tensor

from diffprobe.config.evaluators.dense import Dense
from diffprobe.config.evaluators.knn import KNN
from diffprobe.config.evaluators.ridge import Ridge
from diffprobe.evaluation.representation import dense
from diffprobe.evaluation.representation.evaluators import ProbeScores, fit, summed_scores
from diffprobe.evaluation.representation.grid import best_cell, best_setting, evaluations
from diffprobe.evaluation.representation.table import Table, table_of
from diffprobe.runtime.errors import UserError

CPU = torch.device("cpu")


def predicted(settings: KNN | Ridge, bank: Table, queries: Tensor, classes: int) -> np.ndarray:
    """The likeliest classes (n,) of queries (n, D)."""
    predictor = fit(settings, [bank], [0], classes, 2**28, CPU)
    return predictor.probabilities(queries[None])[0, 0, 0].argmax(-1).numpy()


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("offset", [0, 300])
def test_neighbours_are_the_nearest_however_far_from_the_origin(metric: str, offset: float) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(700, 64, generator=generator) + offset
    labels = torch.arange(500) % 9
    bank, queries = x[:500].double(), x[500:].double()
    if metric == "cosine":
        bank, queries = (rows / rows.norm(dim=1, keepdim=True) for rows in (bank, queries))
    nearest = (queries[:, None] - bank).square().sum(-1).argmin(1)
    settings = KNN(kind="knn", k=[1], metric=metric)
    assert np.array_equal(predicted(settings, table_of(x[None, :500], labels), x[500:], 9), labels[nearest].numpy())


def test_joined_cells_are_normalised_each_by_itself() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.cat([torch.randn(20, 3, generator=generator), 1000 * torch.randn(20, 5, generator=generator)], 1)[None]
    table = table_of(x, torch.zeros(20, dtype=torch.int64), [3, 5]).normalised().joined()
    norms = [part.norm(dim=1) for part in table.read(0, 0).split([3, 5], dim=1)]
    assert table.widths == [8] and all(torch.allclose(norm, torch.ones(20)) for norm in norms)


@pytest.mark.parametrize("strength", [1e-8, 1e-6, 1e-3])
def test_ridge_on_fewer_images_than_features_is_scikit_learns(strength: float) -> None:
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(900, 8))
    labels = (hidden @ rng.normal(size=(8, 3))).argmax(1)
    x = np.maximum(hidden @ rng.normal(size=(8, 400)), 0).astype(np.float32)
    mean, std = x[:100].mean(0), x[:100].std(0)
    reference = RidgeClassifier(alpha=100 * strength).fit((x[:100] - mean) / std, labels[:100])
    settings = Ridge(kind="ridge", strength=[strength])
    bank = table_of(torch.from_numpy(x[None, :100]), torch.from_numpy(labels[:100]))
    own = predicted(settings, bank, torch.from_numpy(x[100:]), 3)
    assert (own == reference.predict((x[100:] - mean) / std)).mean() > 0.99


def test_moments_of_pixels_are_not_those_of_one_column(monkeypatch: pytest.MonkeyPatch) -> None:
    """16 images whose side divides the stride of evenly spread places."""
    side = 16

    class Columns:
        def at(self, places: Tensor) -> Tensor:
            return (places % side).float()[..., None]

    monkeypatch.setattr(dense, "MOMENTS", 256)
    settings = Dense(kind="dense", images=2, networks=2, hidden=[4, 4], steps=1)
    segmenter = dense.fit(settings, Columns(), torch.arange(16 * side * side).view(16, side, side) % 2, 2, 0)
    assert segmenter.mean.item() == pytest.approx((side - 1) / 2, abs=1)
    assert segmenter.std.item() == pytest.approx(math.sqrt((side**2 - 1) / 12), rel=0.1)


# --- heads that have diverged


def scores(accuracy: list[float], nll: list[float]) -> ProbeScores:
    """Of one seed, copy and cell."""
    tables = (torch.tensor(values).view(1, 1, 1, -1) for values in (accuracy, accuracy, nll))
    return ProbeScores(*tables, torch.zeros(1, len(nll), 2, 2, dtype=torch.int64))


def test_what_is_not_a_number_is_never_right() -> None:
    p = torch.stack([torch.full((4, 30), torch.nan), torch.eye(30)[:4]])  # (2, n, K)
    correct, top5, loss = summed_scores(p, torch.arange(4))
    assert correct.tolist() == top5.tolist() == [0, 4] and loss[0].isnan()


def test_a_diverged_head_is_never_the_best() -> None:
    assert best_setting(scores([0.9, 0.1, 0.2], [math.nan, 0.5, math.inf])) == 1
    with pytest.raises(UserError, match="heads have diverged at lr 10; lower its `lr`"):
        evaluations(scores([0.9], [math.nan]), [{"lr": 10.0}], 2)
    grid = pd.DataFrame({"tap": ["a", "b"], "level": "1", "lr": 1.0, "accuracy": [0.6, 0.2], "nll": [math.nan, 2.0]})
    assert best_cell(grid)["tap"] == "b"
    with pytest.raises(UserError, match="every head has diverged; lower its `lr`"):
        best_cell(grid[:1])
