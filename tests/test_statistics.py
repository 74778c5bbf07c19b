"""What a pass collects: the same for any batches, order of merging, process and stop."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from diffprobe.config.models import Metrics
from diffprobe.config.names import FIGURES
from diffprobe.evaluation.generation.autosave import SavedStatistics
from diffprobe.evaluation.generation.extractors import FeatureExtractor, Features
from diffprobe.evaluation.generation.figures import Subject
from diffprobe.evaluation.generation.inception_score import InceptionScore, splits_of
from diffprobe.evaluation.generation.measurement import Measurement
from diffprobe.evaluation.generation.moments import Moments
from diffprobe.evaluation.generation.statistics import Statistics, SubsetPlan
from diffprobe.runtime.errors import UserError


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
    left.merge(right.state())
    assert left.n == 90 and left.mu.dtype == left.sigma.dtype == np.float64
    assert_allclose(left.mu, rows.mean(0), rtol=1e-10, atol=1e-12)
    assert_allclose(left.sigma, np.cov(rows, rowvar=False), rtol=1e-9, atol=1e-10)


def test_moments_of_one_row_are_refused() -> None:
    with pytest.raises(UserError, match="at least 2 images, here are 1") as error:
        one = Moments(3)
        one.update(torch.ones(1, 3))
        _ = one.sigma
    assert "\n" not in str(error.value)


# --- the Inception score ------------------------------------------------------------------------------------


def test_scores_equal_torch_fidelity() -> None:
    from torch_fidelity.metric_isc import isc_features_to_metric

    logits = 3 * torch.randn(1003, 12, generator=torch.Generator().manual_seed(0))
    expected = isc_features_to_metric(logits, splits=10, shuffle=False)
    split = torch.tensor([max(i for i in range(10) if i * 1003 // 10 <= row) for row in range(1003)])
    for batch in (1, 7, 1003):
        scores = InceptionScore(10, 12)
        for rows, part in zip(logits.split(batch), split.split(batch), strict=True):
            scores.update(rows, part)
        mean, spread = scores.score()
        assert mean == pytest.approx(expected["inception_score_mean"], rel=1e-9)
        assert spread == pytest.approx(expected["inception_score_std"], rel=1e-7)


def test_scores_of_extremes() -> None:
    """Sure and evenly spread over K classes: K. The same for every image, or one class alone: 1."""
    sure = 1000 * torch.eye(5).repeat(20, 1)
    for logits, expected in ((sure, 5), (torch.zeros(100, 5), 1), (sure[:1].repeat(100, 1), 1)):
        scores = InceptionScore(1, 5)
        scores.update(logits, torch.zeros(100, dtype=torch.int64))
        mean, spread = scores.score()
        assert mean == pytest.approx(expected, rel=1e-9) and spread is None
    assert [splits_of(n) for n in (3, 199, 250, 50_000)] == [1, 1, 2, 10]


# --- all of it ----------------------------------------------------------------------------------------------

N = 230
FEATURES = Features(*torch.randn(3, N, 6, generator=torch.Generator().manual_seed(2)).unbind())
EXTRACTOR = FeatureExtractor("toy", 6, "hash", "none", lambda _: FEATURES, spatial=6, classes=6)


def some(start: int, stop: int) -> Features:
    return Features(*(part[start:stop] for part in FEATURES))


def taken(batch: int, start: int = 0, stop: int = N, most: int = 50) -> Statistics:
    statistics = Statistics(SubsetPlan(N, most), EXTRACTOR, FIGURES)
    for at in range(start, stop, batch):
        statistics.update(at, some(at, min(at + batch, stop)))
    return statistics


def same(a: Statistics, b: Statistics, rtol: float = 1e-12) -> None:
    assert a.n == b.n
    for name, value in a.state().items():
        if not name.startswith("subset"):
            assert_allclose(value, b.state()[name], rtol=rtol, atol=1e-12)
    assert torch.equal(a.subset.features, b.subset.features)


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_batches_and_processes_change_nothing(batch: int) -> None:
    whole = taken(N)
    same(taken(batch), whole)
    second, first = taken(batch, 100), taken(batch, 0, 100)
    second.merge(first.state())  # in any order
    same(second, whole)


def test_a_stop_changes_no_bit(tmp_path: Path) -> None:
    undisturbed = taken(10)
    for stop in (0, 40, 230):
        saved = SavedStatistics(tmp_path / "state.safetensors", "of this", seconds=0)
        saved.offer_statistics([taken(10, 0, stop), taken(10, 0, stop)])
        after = [Statistics(SubsetPlan(N, 50), EXTRACTOR, FIGURES) for _ in range(2)]
        assert SavedStatistics(saved.path, "of something else", 0).restore(after) == 0
        assert saved.restore(after) == stop
        for at in range(stop, N, 10):
            after[1].update(at, some(at, at + 10))
        for name, value in after[1].state().items():
            assert torch.equal(value, undisturbed.state()[name]), name
    saved.clear()
    assert saved.restore(after) == 0 and not list(tmp_path.iterdir())


def test_the_subset_is_fixed_and_drawn_evenly() -> None:
    """Of images sorted by class, each class is in the subset in proportion to its share."""
    plan = SubsetPlan(100_000, 10_000)
    assert sorted(plan.places.tolist()) == list(range(100_000))
    chosen = torch.nonzero(plan.places < 10_000).flatten()
    assert len(chosen) == 10_000
    counts = torch.bincount(chosen // 10_000, minlength=10)
    assert counts.min() > 880 and counts.max() < 1120  # four standard deviations
    assert torch.equal(SubsetPlan(100_000, 500).places, plan.places)
    assert SubsetPlan(30, 50).subset == 30


def test_only_what_the_figures_need_is_collected() -> None:
    lean = Statistics(SubsetPlan(N, 50), EXTRACTOR, ["fd"])
    lean.update(0, some(0, N))
    assert lean.spatial is None and lean.scores is None and lean.subset.features is None
    assert_allclose(lean.moments.mu, taken(N).moments.mu)


def test_statistics_saved_under_other_weights_are_ignored(tmp_path: Path) -> None:
    """A classifier that is trained again has the same config, but other features."""

    def saved(extractor: FeatureExtractor, of: str = "these") -> SavedStatistics:
        subjects = [Subject("toy", extractor, None)]
        measurement = Measurement("all", Metrics(subset=50), subjects, torch.device("cpu"))
        return measurement.autosave(tmp_path / "state.safetensors", of, 0)

    saved(EXTRACTOR).offer_statistics([taken(10, 0, 40)])
    empty = [Statistics(SubsetPlan(N, 50), EXTRACTOR, FIGURES)]
    assert saved(replace(EXTRACTOR, weights="others")).restore(empty) == 0
    assert saved(EXTRACTOR, "other images").restore(empty) == 0
    assert saved(EXTRACTOR).restore(empty) == 40


def test_features_that_are_not_finite_are_refused() -> None:
    statistics = Statistics(SubsetPlan(N, 50), EXTRACTOR, ["precision"])
    with pytest.raises(UserError, match="toy has features that are not finite for some of images 20 to 22"):
        statistics.update(20, Features(torch.tensor([[0.0] * 6, [float("nan")] * 6, [0.0] * 6])))
    for bad in ({"spatial": torch.full((3, 4), torch.inf)}, {"logits": torch.full((3, 10), torch.nan)}):
        with pytest.raises(UserError, match="images 20 to 22"):
            statistics.update(20, Features(torch.zeros(3, 6), **bad))
