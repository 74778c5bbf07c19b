"""Heads and neighbours against scikit-learn, against closed forms, and against themselves alone."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from diffprobe.config.evaluators import Evaluator
from diffprobe.config.evaluators.knn import KNN
from diffprobe.config.evaluators.linear import Linear
from diffprobe.config.evaluators.logistic import Logistic
from diffprobe.config.evaluators.ridge import Ridge
from diffprobe.evaluation.representation import heads
from diffprobe.evaluation.representation.descent import row_stream
from diffprobe.evaluation.representation.evaluators import fit, score
from diffprobe.evaluation.representation.optimizers import OPTIMIZERS
from diffprobe.evaluation.representation.standardise import MIN_STD, statistics
from diffprobe.evaluation.representation.table import SplitFeatures, Table, table_of
from diffprobe.plan.arguments import parse_extractor
from diffprobe.plan.probe_arguments import EvaluatorArgument
from diffprobe.runtime.errors import UserError

CPU = torch.device("cpu")
ALL = {"classes": 10, "memory": 2**30, "device": CPU}


def linear(**changes: Any) -> Linear:
    """Forty epochs of Adam without weight decay, or with `changes`."""
    return Linear(kind="linear", **{"lr": [0.01], "epochs": 40, "weight_decay": 0.0} | changes)


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Train rows (1200, 64) and labels, test rows (597, 64) and labels."""
    x, y = (torch.from_numpy(array) for array in load_digits(return_X_y=True))
    return x[:1200].float(), y[:1200], x[1200:].float(), y[1200:]


def noisy(x: Tensor, draws: int, seed: int) -> Tensor:
    """(N, D) to (V, N, D): noisy copies, as a diffusion network's features are."""
    return x + 2 * torch.randn(draws, *x.shape, generator=torch.Generator().manual_seed(seed))


def one(x: Tensor, y: Tensor) -> Table:
    return table_of(x[None], y)


def accuracy(evaluator: Evaluator, train: Table, test: Table, average: bool = True) -> list[float]:
    """Of each setting."""
    predictor = fit(evaluator, [train], [0], **ALL)
    return score(predictor, [test], 10, average, CPU).accuracy.mean((0, 1))[0].tolist()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_stacked_heads_equal_heads_alone(digits: tuple[Tensor, ...], optimizer: str) -> None:
    """Seeds, cells of two widths and learning rates, all at once."""
    train, labels, test, _ = digits
    cells = [noisy(train, 3, 0), 100 * noisy(train, 3, 0), noisy(train[:, 10:40], 3, 1)]
    queries = [noisy(test, 1, 2), 100 * noisy(test, 1, 2), noisy(test[:, 10:40], 1, 3)]
    options = {"epochs": 6, "weight_decay": 1e-3, "optimizer": optimizer}
    seeds, rates, both = [0, 7], [0.01, 0.1], table_of(torch.cat(cells, 2), labels, [64, 64, 30])
    stacked = fit(linear(lr=rates, **options), [both, both], seeds, **ALL)
    p = stacked.probabilities(torch.cat(queries, 2).expand(2, -1, -1))  # (S, C, H, n, K)
    assert p.shape == (2, 3, 2, 597, 10)
    for s, seed in enumerate(seeds):
        for c, (cell, query) in enumerate(zip(cells, queries, strict=True)):
            for h, lr in enumerate(rates):
                alone = fit(linear(lr=[lr], **options), [table_of(cell, labels)], [seed], **ALL)
                expected = alone.probabilities(query)[0, 0, 0]
                torch.testing.assert_close(p[s, c, h], expected, rtol=2e-3, atol=2e-4)
    assert not torch.allclose(p[0], p[1], atol=1e-3)  # another seed sees other batches


def test_a_step_is_pytorchs(digits: tuple[Tensor, ...]) -> None:
    """Adam with L2 and SGD with momentum, an epoch in the same order, by torch.optim and autograd."""
    train, labels, *_ = digits
    table = one(train / 16, labels)
    for name, make in (
        ("adam", lambda p, lr: torch.optim.Adam(p, lr=lr)),
        ("sgd", lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.9)),
    ):
        settings = linear(optimizer=name, epochs=2, cosine="epoch", standardise=False)
        fitted = heads.fit(settings, [table], [3], **ALL)
        reference = torch.nn.Linear(64, 10)
        torch.nn.init.zeros_(reference.weight), torch.nn.init.zeros_(reference.bias)
        optimiser = make(reference.parameters(), 0.01)
        stream = row_stream(table, 3, 2**30, CPU).read
        for epoch in range(2):
            optimiser.param_groups[0]["lr"] = 0.01 * (1 + math.cos(math.pi * epoch / 2)) / 2
            for start in range(0, 1200, 128):
                x, y = stream(epoch * 1200 + start, epoch * 1200 + min(start + 128, 1200))
                optimiser.zero_grad()
                torch.nn.functional.cross_entropy(reference(x.float()), y).backward()
                optimiser.step()
        torch.testing.assert_close(fitted.groups[0].weight[0, 0], reference.weight.detach(), rtol=1e-3, atol=3e-4)


def test_each_epoch_sees_another_copy(digits: tuple[Tensor, ...]) -> None:
    """Two copies that need different weights: heads fitted on both fit both, on the first the first."""
    train, labels, *_ = digits
    table = table_of(torch.stack([train, train.flip(1)]), labels)
    flipped = table_of(train.flip(1)[None], labels)
    assert accuracy(linear(), table, flipped)[0] > 0.9
    assert accuracy(linear(), table.some(0, 1), flipped)[0] < 0.5
    read = row_stream(table, 0, 2**30, CPU).read
    first, second = read(0, 1200)[0], read(1200, 2400)[0]
    assert torch.equal(first.sum(0), train.sum(0)) and torch.equal(second.sum(0), train.flip(1).sum(0))


def test_a_store_larger_than_the_memory_is_seen_whole_each_epoch(digits: tuple[Tensor, ...]) -> None:
    train, labels, test, truth = digits
    many, y = train.repeat(8, 1)[:9000], labels.repeat(8)[:9000]
    table = one(many.half(), y)
    small = 4 * 1024 * 64 * 2  # two windows of two chunks
    stream = row_stream(table, 0, small, CPU)
    assert stream.per_epoch == 5
    rows, seen = stream.read(0, 9000)
    torch.testing.assert_close(rows.double().sum(0), many.double().sum(0))
    assert seen.bincount().tolist() == y.bincount().tolist()
    fitted = fit(linear(epochs=5), [table], [0], 10, 4 * small, CPU)
    assert score(fitted, [one(test, truth)], 10, True, CPU).accuracy.item() > 0.9


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_linear_head_equals_logistic_regression(digits: tuple[Tensor, ...], dtype: torch.dtype) -> None:
    train, labels, test, truth = digits
    mean, std = statistics(one(train, labels), CPU)
    reference = LogisticRegression(C=1.0, max_iter=2000).fit((train - mean) / std, labels)
    expected = reference.score((test - mean) / std, truth)
    assert expected > 0.9
    for optimizer, lr in (("adam", 0.01), ("sgd", 0.1), ("lars", 20.0)):
        settings = linear(optimizer=optimizer, lr=[lr])
        accuracies = accuracy(settings, one(train.to(dtype), labels), one(test.to(dtype), truth))
        assert accuracies[0] == pytest.approx(expected, abs=0.03), optimizer


def test_logistic_equals_scikit_learn(digits: tuple[Tensor, ...]) -> None:
    """The same optimum: coefficients, intercepts up to a shift, and probabilities, at every strength."""
    train, labels, test, truth = digits
    mean, std = statistics(one(train, labels), CPU)
    strengths = [1e-1, 1e-3, 1e-2]
    settings = Logistic(kind="logistic", strength=strengths, iterations=500)
    predictor = fit(settings, [one(train, labels)], [0], **ALL)
    p = predictor.probabilities(test[None])[0, 0]  # (H, n, K)
    for i, strength in enumerate(strengths):
        reference = LogisticRegression(C=1 / (strength * len(train)), max_iter=5000, tol=1e-8)
        reference.fit((train - mean) / std, labels)
        expected = torch.from_numpy(reference.predict_proba((test - mean) / std)).float()
        torch.testing.assert_close(p[i], expected, rtol=0, atol=1e-2)
        assert (p[i].argmax(1) == truth).float().mean() == pytest.approx(reference.score((test - mean) / std, truth))


def test_ridge_equals_scikit_learn_at_every_strength(digits: tuple[Tensor, ...]) -> None:
    """One eigendecomposition for all, of two cells of different widths; scikit-learn's targets are -1 and 1."""
    train, labels, test, _ = digits
    both, query = torch.cat([train, train[:, 10:40]], 1), torch.cat([test, test[:, 10:40]], 1)
    strengths = [1e-3, 1e-1, 10.0]
    table = table_of(both[None], labels, [64, 30])
    mean, std = statistics(table, CPU)
    (ridge,) = fit(Ridge(kind="ridge", strength=strengths), [table], [0], **ALL).members
    p = ridge.probabilities(query[None])[0]  # (C, H, n, K)
    for c, columns in enumerate((slice(0, 64), slice(64, 94))):
        x, z = ((rows - mean)[:, columns] / std[columns] for rows in (both, query))
        for h, strength in enumerate(strengths):
            reference = RidgeClassifier(alpha=strength * len(train)).fit(x, labels)
            assert (p[c, h].argmax(1).numpy() == reference.predict(z)).mean() > 0.995
            torch.testing.assert_close(
                2 * ridge.weights[c][h].T, torch.from_numpy(reference.coef_).float(), rtol=1e-2, atol=2e-3
            )


def test_standardise_merges_copies_and_leaves_constant_features_finite() -> None:
    rows = torch.randn(3, 5000, 2, generator=torch.Generator().manual_seed(0)) * 3 + 1000
    rows[..., 1] = 3.3
    mean, std = statistics(table_of(rows, torch.zeros(5000, dtype=torch.int64)), CPU)
    flat = rows.double().flatten(0, 1)
    torch.testing.assert_close(mean.double(), flat.mean(0), rtol=1e-6, atol=0)
    assert std[0].item() == pytest.approx(flat[:, 0].std(correction=0).item(), rel=1e-5) and std[1] == 1
    still = torch.tensor([[0.0], [1e-9]]).repeat(2500, 1)[None]
    assert statistics(table_of(still, torch.zeros(5000, dtype=torch.int64)), CPU)[1] == MIN_STD


def test_copies_are_judged_as_one_or_each(digits: tuple[Tensor, ...]) -> None:
    train, labels, test, truth = digits
    queries = table_of(noisy(test, 6, 1), truth)
    predictor = fit(linear(), [one(train, labels)], [0], **ALL)
    as_one, each = (score(predictor, [queries], 10, average, CPU) for average in (True, False))
    assert as_one.accuracy.shape == (1, 1, 1, 1) and each.accuracy.shape == (1, 6, 1, 1)
    mean = torch.stack([predictor.probabilities(x[None])[0, 0, 0] for x in noisy(test, 6, 1)]).mean(0)
    assert as_one.accuracy.item() == (mean.argmax(1) == truth).double().mean().item()
    assert as_one.accuracy.item() > each.accuracy.mean().item()
    assert each.confusion.sum().item() == 6 * len(truth)
    assert each.confusion[0, 0].sum(1).tolist() == (6 * truth.bincount()).tolist()
    assert each.confusion[0, 0].diag().sum().item() == round(each.accuracy.sum().item() * len(truth))
    likeliest = mean.topk(5, dim=1).indices
    assert as_one.top5.item() == pytest.approx((likeliest == truth[:, None]).any(1).double().mean().item())
    assert as_one.nll.item() == pytest.approx(-mean.gather(1, truth[:, None]).log().mean().item(), rel=1e-4)


def test_classes_without_votes_share_the_places_left_among_five() -> None:
    """Of chance features five of a hundred labels are among the top five, however few the neighbours are."""
    generator = torch.Generator().manual_seed(0)
    rows, queries = (torch.randn(4000, 8, generator=generator) for _ in range(2))
    labels, truth = (torch.randint(100, (4000,), generator=generator) for _ in range(2))
    predictor = fit(KNN(kind="knn", k=[1, 3, 20]), [one(rows, labels)], [0], classes=100, memory=2**30, device=CPU)
    top5 = score(predictor, [table_of(queries[None], truth)], 100, False, CPU).top5.flatten()
    assert top5 == pytest.approx([0.05] * 3, abs=0.012)  # 3.5 standard errors


def test_cells_with_fewer_copies_go_with_the_others_in_turn() -> None:
    """A clean image and its mirror image with copies that alternate: plain ones with plain ones."""
    sides, copies = np.array([[[1.0]], [[-1.0]]]), np.arange(6.0).reshape(6, 1, 1)
    split = SplitFeatures([sides, copies, np.array([[[7.0]]])])
    read = [split.read(draw, slice(None)).tolist()[0] for draw in range(split.draws)]
    assert read == [[1 - 2 * (draw % 2), draw, 7] for draw in range(6)]


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_knn_equals_scikit_learn_where_votes_do_not_tie(digits: tuple[Tensor, ...], metric: str) -> None:
    train, labels, test, _ = digits
    settings = KNN(kind="knn", k=[1, 5, 20], metric=metric)
    shares = fit(settings, [one(train, labels)], [0], **ALL).probabilities(test[None])[0, 0]
    weighted = fit(settings.model_copy(update={"weighted": True}), [one(train, labels)], [0], **ALL)
    for h, k in enumerate(settings.k):
        reference = KNeighborsClassifier(n_neighbors=k, metric=metric).fit(train, labels)
        votes = torch.from_numpy(reference.predict_proba(test)).sort(1, descending=True).values
        clear = votes[:, 0] > votes[:, 1]
        expected = torch.from_numpy(reference.predict(test))
        assert clear.float().mean() > 0.95
        assert torch.equal(shares[h].argmax(1)[clear], expected[clear])

    def weights(distance: Any) -> Any:
        similarity = torch.from_numpy(1 - distance if metric == "cosine" else -(distance**2))
        return ((similarity - similarity.max(1, keepdim=True).values) / 0.07).exp().numpy()

    reference = KNeighborsClassifier(n_neighbors=20, metric=metric, weights=weights).fit(train, labels)
    p = weighted.probabilities(test[None])[0, 0, 2]
    torch.testing.assert_close(p.double(), torch.from_numpy(reference.predict_proba(test)), rtol=0, atol=2e-2)


def test_knn_ties_go_to_the_nearer_neighbour_and_copies_are_averaged() -> None:
    angles = torch.tensor([0.1, 0.2, 0.3, 0.4, 3.0])
    train = 7 * torch.stack([angles.cos(), angles.sin()], dim=1)
    query, limits = torch.tensor([[0.01, 0.0]]), {"classes": 3, "memory": 2**20, "device": CPU}
    for labels, expected in (([2, 1, 1, 2, 0], 2), ([1, 2, 2, 1, 0], 1), ([0, 1, 1, 2, 0], 1)):
        predictor = fit(
            KNN(kind="knn", k=[4]), [one(train, torch.tensor(labels))], [0], classes=3, memory=2**20, device=CPU
        )
        assert predictor.probabilities(query[None])[0, 0, 0].argmax(1).tolist() == [expected]
    shifted = table_of(torch.stack([train + 100, train - 100]), torch.tensor([2, 1, 1, 2, 0]))
    predictor = fit(KNN(kind="knn", k=[4]), [shifted], [0], **limits)
    assert predictor.probabilities(query[None])[0, 0, 0].argmax(1).tolist() == [2]
    with pytest.raises(UserError, match="6 nearest neighbours need at least 6 labelled images, here are 5"):
        fit(
            KNN(kind="knn", k=[1, 6]),
            [one(train, torch.zeros(5, dtype=torch.int64))],
            [0],
            classes=3,
            memory=1,
            device=CPU,
        )


def test_an_unknown_kind_is_an_error_and_joined_cells_are_resolved() -> None:
    entry = {"kind": "knn", "k": [3], "combine": [{"tap": "mid", "sigma": None}, {"tap": None, "sigma": 0.5}]}
    entry |= {"tokens": False, "average": True}
    argument = EvaluatorArgument.parse("three", entry)
    assert argument.settings == KNN(kind="knn", k=[3])
    assert argument.selection.cells(("0.1", "out_1")) == [("0.1", "out_1"), ("0.1", "mid"), ("0.5", "out_1")]
    with pytest.raises(ValidationError, match="'svm'"):
        EvaluatorArgument.parse("three", entry | {"kind": "svm"})
    with pytest.raises(ValidationError, match="'vgg'"):
        parse_extractor({"kind": "vgg", "weights": None})
