"""Few labels: the draws, and accuracies beside scikit-learn's on the same images."""

from collections.abc import Sequence
from statistics import mean, stdev
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from toy_probing import PROBE, experiment

from diffprobe.config.evaluators.fewshot import FewShot
from diffprobe.evaluation.representation.fewshot import few_of_each_class
from diffprobe.evaluation.representation.grid import ProbeData, evaluate
from diffprobe.evaluation.representation.table import StoredFeatures, Table, table_of
from diffprobe.runtime.errors import UserError

X, Y = (torch.from_numpy(array) for array in load_digits(return_X_y=True))
SPLITS = {"train": slice(0, 1100), "select": slice(1100, 1400), "test": slice(1400, None)}
NOISE = torch.randn(4, *X.shape, generator=torch.Generator().manual_seed(0))
COPIES = X.float() + 3 * NOISE  # (2 copies of 2 seeds, N, D)
SEEDS = [0, 1]


class Memory(StoredFeatures):
    """Noisy digits."""

    def table(self, cells: Sequence[tuple[str, str]], splits: Sequence[str], view: str) -> Table:
        rows = torch.cat([torch.arange(len(X))[SPLITS[split]] for split in splits])
        return table_of(COPIES[:, rows], Y[rows])


def few(memory: float = 2**28, **settings: Any) -> list[tuple[int, float, float, dict[str, float]]]:
    """Labels per class, mean, spread and setting."""
    data = ProbeData(Memory({}, {}, augmented=False, fresh=2), 10, memory, torch.device("cpu"))
    evaluator = FewShot.model_validate({"kind": "fewshot", "labels_per_class": [2, 20], "repeats": 3} | settings)
    scores = evaluate(data, evaluator, [("0", "t")], SEEDS, ["train", "select"], "test")
    rows = [row for one in scores for row in one.rows("few", {})]
    assert [row["evaluator"] for row in rows] == ["few_2", "few_20"] and {row["seeds"] for row in rows} == {3}
    return [
        (row["labels_per_class"], row["value"], row["spread"], one.setting)
        for row, one in zip(rows, scores, strict=True)
    ]


def test_draws() -> None:
    labels = torch.from_numpy(np.random.default_rng(0).integers(0, 7, 3000))
    five, fifty = (few_of_each_class(labels, count, 3, 7) for count in (5, 50))
    assert labels[five].bincount().tolist() == [5] * 7 and labels[fifty].bincount().tolist() == [50] * 7
    assert five.equal(five.unique()) and set(five.tolist()) <= set(fifty.tolist())
    assert len(set(five.tolist()) & set(few_of_each_class(labels, 5, 4, 7).tolist())) < 5
    # Over many repeats every image is drawn about equally often.
    drawn = torch.cat([few_of_each_class(labels[:700], 20, repeat, 7) for repeat in range(300)]).bincount(minlength=700)
    share = 20 / labels[:700].bincount()[labels[:700]]
    assert float(((drawn / 300 - share) / (share * (1 - share) / 300).sqrt()).std()) == pytest.approx(1, abs=0.1)


def test_accuracies_are_those_of_scikit_learn_on_the_same_images() -> None:
    """Of each repeat: its images in the copies of its seed, of train alone; `test` by the mean over copies."""
    strength = 0.01
    measured = few(evaluator={"kind": "logistic", "strength": [strength]})
    for count, value, spread, _ in measured:
        accuracies = []
        for repeat in range(3):
            copies = COPIES[2 * (repeat % 2) :][:2].double()
            places = few_of_each_class(Y[:1100], count, repeat, 10)
            x, y = copies[:, :1100][:, places].flatten(0, 1), Y[places].repeat(2)
            scale = StandardScaler().fit(x)
            model = LogisticRegression(C=1 / (strength * len(y)), max_iter=2000).fit(scale.transform(x), y)
            p = np.mean([model.predict_proba(scale.transform(copy)) for copy in copies[:, 1400:]], axis=0)
            accuracies.append(float((p.argmax(1) == Y[1400:].numpy()).mean()))
        assert value == pytest.approx(mean(accuracies), abs=0.005) and spread == pytest.approx(
            stdev(accuracies), abs=0.005
        )
    assert measured[0][1] + 0.1 < measured[1][1]


@pytest.mark.parametrize("head", [{"kind": "knn", "k": [1]}, {"kind": "linear", "epochs": 3}, {"kind": "ridge"}])
def test_windows_change_nothing_but_the_order_of_rows(head: dict[str, Any]) -> None:
    whole, streamed = few(evaluator=head), few(memory=1, evaluator=head)
    tolerance = 0.05 if head["kind"] == "linear" else 0
    assert [one[1] for one in whole] == pytest.approx([one[1] for one in streamed], abs=tolerance)


def test_each_number_of_labels_has_a_setting_of_its_own() -> None:
    """Of two images a class seven neighbours are mostly of other classes."""
    (_, low, _, two), (_, _, _, twenty) = few(evaluator={"kind": "knn", "k": [7, 1]})
    assert two == {"k": 1} and low == few(evaluator={"kind": "knn", "k": [1]})[0][1]
    best = max((few(evaluator={"kind": "knn", "k": [k]})[1][1], k) for k in (1, 7))
    assert twenty == {"k": best[1]}


def test_more_labels_than_exist() -> None:
    with pytest.raises(UserError, match="150 labels per class: class 8 has only 107 images in train"):
        few(labels_per_class=[150], evaluator={"kind": "knn"})


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (
            {"labels_per_class": [1, 500]},
            "few.labels_per_class: 500 is refused; allowed: at most the labels that exist",
        ),
        ({"evaluator": {"kind": "knn", "k": [20]}}, "labels_per_class: 1 is refused; allowed: at least 2, since knn"),
        ({"labels_per_class": [5, 1]}, "allowed: increasing numbers"),
        ({"evaluator": {"kind": "fewshot"}}, "evaluator.kind: 'fewshot' is refused"),
        ({"evaluator": {"kind": "knn", "tokens": True}}, "evaluator.tokens: true is refused; allowed: its default"),
        ({"average": False}, "few.average: false is refused; allowed: its default"),
    ],
)
def test_contradictions_in_one_line(settings: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError) as error:
        experiment(evaluators=PROBE["evaluators"] | {"few": {"kind": "fewshot"} | settings})
    assert line in str(error.value) and "\n" not in str(error.value)


def test_names_of_rows_are_unique() -> None:
    with pytest.raises(UserError, match="few_10 names rows of two"):
        experiment(evaluators=PROBE["evaluators"] | {"few": {"kind": "fewshot"}, "few_10": {"kind": "knn"}})
