"""SODA's probes as published: nearest neighbours and a batch-normalised linear head on features of unit length.

Compared with scikit-learn and with PyTorch's own layers.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier
from torch import nn
from toy_probing import HEADS, PROBE, chain, experiment

from diffprobe.config.evaluators import Evaluator
from diffprobe.config.evaluators.knn import KNN
from diffprobe.config.evaluators.linear import Linear
from diffprobe.config.evaluators.logistic import Logistic
from diffprobe.config.evaluators.ridge import Ridge
from diffprobe.evaluation.representation import heads
from diffprobe.evaluation.representation.descent import row_stream
from diffprobe.evaluation.representation.evaluators import fit, score
from diffprobe.evaluation.representation.grid import ProbeData, evaluate
from diffprobe.evaluation.representation.table import StoredFeatures, Table, table_of
from diffprobe.runtime.errors import UserError

CPU = torch.device("cpu")
DIGITS = [torch.from_numpy(array) for array in load_digits(return_X_y=True)]
TRAIN, LABELS, TEST, TRUTH = DIGITS[0][:1200].float(), DIGITS[1][:1200], DIGITS[0][1200:].float(), DIGITS[1][1200:]
AUGMENTED = TRAIN + 3 * torch.randn(4, *TRAIN.shape, generator=torch.Generator().manual_seed(0))  # (V, N, D)
BATCH_NORM = {"standardise": "batch_norm", "weight_decay": 0.0, "cosine": "epoch"}


class Memory(StoredFeatures):
    """Digits of train, unaugmented and augmented, and of test."""

    def table(self, cells: Sequence[tuple[str, str]], splits: Sequence[str], view: str) -> Table:
        if splits == ["train"]:
            return table_of(AUGMENTED if view == "augmented" else TRAIN[None], LABELS)
        return table_of(TEST[None], TRUTH)


def measured(evaluator: Evaluator) -> float:
    data = ProbeData(Memory({}, {}, augmented=True), 10, 2**28, CPU)
    return evaluate(data, evaluator, [("clean", "z")], [0], ["train"], "test")[0].accuracies[0]


@pytest.mark.parametrize("bank", ["plain", "augmented"])
@pytest.mark.parametrize("normalise", ["l2", None])
def test_knn_is_scikit_learns(bank: str, normalise: str | None) -> None:
    """Up to images whose votes tie, of which scikit-learn takes the class that comes first."""
    rows = AUGMENTED[0] if bank == "augmented" else TRAIN
    train, test = (F.normalize(x) if normalise else x for x in (rows, TEST))
    reference = KNeighborsClassifier(20).fit(train, LABELS)
    votes = torch.from_numpy(reference.predict_proba(test)).sort(1, descending=True).values
    tied = (votes[:, 0] == votes[:, 1]).float().mean().item()
    settings = KNN(kind="knn", k=[20], metric="euclidean", normalise=normalise, bank=bank)
    assert measured(settings) == pytest.approx(reference.score(test, TRUTH), abs=tied + 1e-9) and tied < 0.02
    if normalise:  # distances of unit vectors rank as cosines do
        assert measured(settings.model_copy(update={"metric": "cosine"})) == pytest.approx(measured(settings), abs=2e-3)


@pytest.mark.parametrize(
    "evaluator", [Logistic(kind="logistic", strength=[0.1], iterations=20), Ridge(kind="ridge", strength=[0.1])]
)
def test_normalised_features_are_of_unit_length_before_everything(evaluator: Evaluator) -> None:
    copies, test = F.normalize(AUGMENTED, dim=2), F.normalize(TEST, dim=1)
    fitted = fit(evaluator, [table_of(copies, LABELS)], [0], 10, 2**28, CPU)
    expected = score(fitted, [table_of(test[None], TRUTH)], 10, True, CPU).accuracy.item()
    assert measured(evaluator.model_copy(update={"normalise": "l2"})) == expected != measured(evaluator)


def test_cells_are_normalised_each_alone_and_held_once() -> None:
    both = table_of(torch.cat([TRAIN, 100 * TRAIN[:, :30]], dim=1)[None].half(), LABELS, [64, 30])
    table = both.normalised().within(2**30)
    assert table.row_bytes == 4 * 94 and table.read(0, 0) is table.read(0, 0)
    torch.testing.assert_close(table.read(0, 0)[:, 64:], F.normalize(TRAIN[:1024, :30]), rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(both.joined().normalised().read(1, 0).norm(dim=1), torch.ones(176))


def reference_head(table: Table, lr: float, seed: int, epochs: int) -> nn.Sequential:
    """Adam on PyTorch's layers, with the head's own order of images."""
    head = nn.Sequential(nn.BatchNorm1d(table.widths[0], eps=1e-6, affine=False), nn.Linear(table.widths[0], 10))
    nn.init.zeros_(head[1].weight), nn.init.zeros_(head[1].bias)
    n, adam, stream = len(table.labels), torch.optim.Adam(head.parameters(), lr=lr), row_stream(table, seed, 2**30, CPU)
    for epoch in range(epochs):
        adam.param_groups[0]["lr"] = lr * (1 + math.cos(math.pi * epoch / epochs)) / 2
        for start in range(0, n, 128):
            x, y = stream.read(epoch * n + start, epoch * n + min(start + 128, n))
            head.train(len(x) > 1)  # PyTorch refuses to train on a batch of one
            adam.zero_grad()
            F.cross_entropy(head(x.float()), y).backward()
            adam.step()
    return head.eval()


def test_batch_normalised_heads_are_pytorchs() -> None:
    """Two seeds, two cells and two rates in one pass, each as it is alone in PyTorch."""
    cells = [F.normalize(AUGMENTED, dim=2), AUGMENTED[..., 10:40]]
    both, rates = table_of(torch.cat(cells, dim=2), LABELS, [64, 30]), [1e-2, 1e-1]
    fitted = heads.fit(Linear(kind="linear", lr=rates, epochs=3, **BATCH_NORM), [both] * 2, [3, 4], 10, 2**30, CPU)
    queries = [F.normalize(TEST, dim=1), TEST[:, 10:40]]
    p = fitted.probabilities(torch.cat(queries, dim=1).expand(2, -1, -1))  # (S, C, H, n, K)
    for s, seed in enumerate((3, 4)):
        for c, (cell, query) in enumerate(zip(cells, queries, strict=True)):
            for h, rate in enumerate(rates):
                head = reference_head(table_of(cell, LABELS), rate, seed, 3)
                torch.testing.assert_close(p[s, c, h], head(query).softmax(1).detach(), rtol=2e-2, atol=2e-3)
    assert (p[0, 0, 1].argmax(1) == TRUTH).float().mean() > 0.85


def test_a_last_batch_of_one_image_is_standardised_as_in_evaluation() -> None:
    table = table_of(TRAIN[None, :129], LABELS[:129])
    fitted = heads.fit(Linear(kind="linear", lr=[0.01], epochs=4, **BATCH_NORM), [table], [0], 10, 2**30, CPU)
    head = reference_head(table, 0.01, 0, 4)
    torch.testing.assert_close(fitted.mean[0, 0], head[0].running_mean)
    torch.testing.assert_close(
        fitted.probabilities(TEST[None])[0, 0, 0], head(TEST).softmax(1).detach(), rtol=0, atol=1e-3
    )


def test_the_published_bank_stands_beside_the_plain_one(tmp_path: Any, digits_store: Any, untrained: Any) -> None:
    knn = {"kind": "knn", "k": [20], "metric": "euclidean", "normalise": "l2"}
    linear = HEADS | {"standardise": "batch_norm", "normalise": "l2"}
    names = {"linear": linear, "plain": knn, "published": knn | {"bank": "augmented"}}
    probe = {"evaluators": names, "levels": [0.1], "augmented": 2, "crop": {"pad": 1, "flip": False}}
    run = chain(tmp_path, digits_store, untrained, experiment(**probe))
    values = {name: run.test[name]["rows"][0]["value"] for name in names}
    assert values["plain"] != values["published"] and all(0.3 < value < 1 for value in values.values())
    without = {"evaluators": PROBE["evaluators"] | {"published": knn | {"bank": "augmented"}}}
    with pytest.raises(UserError, match="augmented: 0 is refused; allowed: at least 1, since published is fitted on"):
        experiment(**without)
    assert np.isfinite(run.grid["nll"]).all()
