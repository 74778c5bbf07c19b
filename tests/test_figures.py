"""The figures of generation against references that share no code with them."""

import warnings

import numpy as np
import pytest
import scipy
import torch
from numpy.testing import assert_allclose

from diffprobe.config.models import Metrics
from diffprobe.config.names import FIGURES, extractor_of, figure_name, figure_of, promised_figure
from diffprobe.evaluation.generation.extractors import FeatureExtractor, Features
from diffprobe.evaluation.generation.figures import Subject, compute_figures
from diffprobe.evaluation.generation.frechet import frechet_distance
from diffprobe.evaluation.generation.kernel import kernel_distance, squared_mmd, subset_size
from diffprobe.evaluation.generation.manifold import manifold
from diffprobe.evaluation.generation.reference import Reference
from diffprobe.evaluation.generation.statistics import Statistics, SubsetPlan
from diffprobe.runtime.errors import UserError


def gaussian(rng: np.random.Generator, rows: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of `rows` correlated draws: of rank rows - 1 if that is below dim."""
    x = rng.normal(size=(rows, dim)) @ rng.normal(size=(dim, dim)) / dim**0.5 + rng.normal(size=dim)
    return x.mean(0), np.cov(x, rowvar=False)


def test_frechet_closed_forms() -> None:
    a, b = np.array([1.0, 4.0, 0.25]), np.array([9.0, 1.0, 0.0])
    mu = np.array([3.0, 0.0, -4.0])
    expected = 25 + np.square(np.sqrt(a) - np.sqrt(b)).sum()
    turn = scipy.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]  # commuting, but not diagonal
    distance = frechet_distance(turn @ mu, turn * a @ turn.T, np.zeros(3), turn * b @ turn.T)
    assert distance == pytest.approx(expected, rel=1e-12)
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


# --- the kernel distance ------------------------------------------------------------------------------------


def test_kernel_distance_equals_torch_fidelity() -> None:
    """With subsets of all images there is one value; with smaller ones, drawn otherwise, about the same mean."""
    from torch_fidelity.metric_kid import kid_features_to_metric

    generator = torch.Generator().manual_seed(5)
    real, fake = torch.rand(300, 16, generator=generator), 0.1 + torch.rand(300, 16, generator=generator)
    options = {"kid_subsets": 1, "kid_subset_size": 300, "verbose": False}
    expected = kid_features_to_metric(real.double(), fake.double(), **options)["kernel_inception_distance_mean"]
    assert squared_mmd(real.double(), fake.double()) == pytest.approx(expected, rel=1e-9)
    assert kernel_distance(real, fake, subsets=1, size=300)[0] == pytest.approx(expected, rel=1e-9)
    mean, spread = kernel_distance(real, fake, subsets=100, size=100)
    theirs = kid_features_to_metric(real, fake, **options | {"kid_subsets": 100, "kid_subset_size": 100})
    assert mean == pytest.approx(expected, abs=3 * spread / 10)
    assert spread == pytest.approx(theirs["kernel_inception_distance_std"], rel=0.3)


def test_kernel_distance_is_unbiased() -> None:
    """Zero in the mean between sets of one kind, and below zero half of the time; subsets are at most half a set."""
    generator = torch.Generator().manual_seed(6)
    estimates = [squared_mmd(*torch.randn(2, 40, 8, generator=generator).double().unbind()) for _ in range(300)]
    assert abs(np.mean(estimates)) < 4 * np.std(estimates) / 300**0.5
    assert 0.3 < np.mean(np.array(estimates) < 0) < 0.7
    assert (subset_size(50_000, 10_000), subset_size(1437, 1000), subset_size(90, 31)) == (1000, 500, 15)


# --- precision, recall, density, coverage -------------------------------------------------------------------


def brute(real: np.ndarray, fake: np.ndarray, k: int) -> tuple[float, float, float]:
    """The definitions, a ball at a time: precision, density, coverage."""
    hits = np.zeros((len(real), len(fake)), dtype=bool)
    for i, centre in enumerate(real):
        radius = np.sort(np.linalg.norm(np.delete(real, i, 0) - centre, axis=1))[k - 1]
        hits[i] = np.linalg.norm(fake - centre, axis=1) <= radius
    return hits.any(0).mean(), hits.sum() / (k * len(fake)), hits.any(1).mean()


@pytest.mark.parametrize(("k", "wide"), [(1, 5), (3, 2)])
def test_manifold_equals_the_definitions(k: int, wide: int) -> None:
    rng = np.random.default_rng(3)
    real, fake = 50 + rng.normal(size=(60, 4)), 50.7 + 0.8 * rng.normal(size=(45, 4))
    precision, recall = brute(real, fake, k)[0], brute(fake, real, k)[0]
    _, density, coverage = brute(real, fake, wide)
    assert min(precision, recall, density, coverage) > 0.1 and max(precision, recall, coverage) < 1
    for chunk in (1, 13, 1000):
        balls = manifold(torch.tensor(real), torch.tensor(fake), k, wide, chunk)
        assert balls == pytest.approx((precision, recall, density, coverage))


def test_precision_and_recall_equal_torch_fidelity() -> None:
    from torch_fidelity.metric_prc import prc_features_to_metric

    generator = torch.Generator().manual_seed(7)
    real, fake = torch.randn(400, 12, generator=generator), 0.8 * torch.randn(300, 12, generator=generator)
    options = {"prc_neighborhood": 3, "prc_batch_size": 1000, "save_cpu_ram": False, "verbose": False}
    expected = prc_features_to_metric(fake.double(), real.double(), **options)
    balls = manifold(real, fake)
    assert 0.1 < balls.recall < balls.precision < 1
    assert (balls.precision, balls.recall) == pytest.approx((expected["precision"], expected["recall"]))


def test_manifold_of_extremes() -> None:
    real = torch.randn(100, 8, generator=torch.Generator().manual_seed(4))
    assert manifold(real, real)[:2] == (1.0, 1.0) and manifold(real, real).coverage == 1
    assert manifold(real, real + 1000) == (0.0, 0.0, 0.0, 0.0)
    # Collapse to one real image: everything is right, and but one image is recalled.
    assert manifold(real, real[:1].repeat(50, 1))[:2] == (1.0, 0.01)
    # Density over one: fakes where real images crowd (Naeem et al. 2020, section 3.1).
    assert manifold(real, 0.1 * torch.randn(100, 8, generator=torch.Generator().manual_seed(5))).density > 1
    with pytest.raises(UserError, match=r"k = 3, .* here are 100 real and 3 generated"):
        manifold(real, real[:3])
    with pytest.raises(UserError, match="k = 5 need more"):
        manifold(real[:5], real)


# --- names and refusals -------------------------------------------------------------------------------------


def test_names_say_how_many_images() -> None:
    for n, text in ((50_000, "50k"), (1000, "1k"), (1437, "1437"), (200, "200")):
        name = figure_name("fid", n, "inception_2048")
        assert name == f"fid{text}_inception_2048"
        assert (figure_of(name), extractor_of(name)) == ("fid", "inception_2048")
    for other in ("linear", "knn", "psnr", "fid_inception_2048", "pixels_logistic"):
        assert figure_of(other) is None
    assert [promised_figure(text) for text in ("fid", "fid50k", "kid359", "fvd", "fid50m")] == [
        ("fid", None), ("fid", 50_000), ("kid", 359), None, None]  # fmt: skip


def collected(
    n: int, name: str = "inception_2048", seed: int = 0, shift: float = 0.0
) -> tuple[FeatureExtractor, Statistics]:
    drawn = shift + torch.randn(3, n, 4, generator=torch.Generator().manual_seed(seed))
    extractor = FeatureExtractor(name, 4, "hash", "none", lambda _: Features(*drawn), spatial=4, classes=4)
    statistics = Statistics(SubsetPlan(n, 60), extractor, FIGURES)
    statistics.update(0, Features(*drawn))
    return extractor, statistics


def measure(request: list[str] | str, name: str = "inception_2048", **without: None) -> dict[str, dict]:
    extractor, samples = collected(100, name)
    _, real = collected(150, seed=1, shift=0.3)
    spatial = real.spatial.mu, real.spatial.sigma
    parts = {"n": 150, "spatial": spatial, "features": real.subset.features} | without
    reference = Reference("real", real.moments.mu, real.moments.sigma, **parts)
    subject = Subject("e", extractor, reference)
    rows = compute_figures(request, [subject], [samples], Metrics(), torch.device("cpu"))
    assert {row["extractor"] for row in rows} == {"e"}
    return {row["evaluator"]: row for row in rows}


def test_all_figures_of_one_pass() -> None:
    rows = measure("all")
    subset = [f"{figure}60_inception_2048" for figure in ("precision", "recall", "density", "coverage", "kid")]
    whole = [f"{figure}100_inception_2048" for figure in ("fid", "sfid", "is")]
    assert sorted(rows) == sorted(subset + whole)
    for name, row in rows.items():
        assert row["images"] == (60 if name in subset else 100)
        assert (row["spread"] is not None) == name.startswith("kid")
    _, samples = collected(100)
    _, real = collected(150, seed=1, shift=0.3)
    distance = frechet_distance(real.moments.mu, real.moments.sigma, samples.moments.mu, samples.moments.sigma)
    assert_allclose(rows["fid100_inception_2048"]["value"], distance, rtol=1e-12)
    other = measure("all", "dinov2")
    assert "fd100_dinov2" in other and not any(name.startswith("fid") for name in other)


def test_unavailable_figures_are_left_out_of_all_and_refused_by_name() -> None:
    assert sorted(measure("all", features=None, spatial=None)) == ["fid100_inception_2048", "is100_inception_2048"]
    for figure, without, line in (
        ("kid", {"features": None}, "kid is unavailable: real holds no images"),
        ("sfid", {"spatial": None}, "sfid is unavailable: real holds no mu_s"),
        ("fid50k", {}, "fid50k needs 50,000 images, but there are 100: request fid100, or provide 50,000 images"),
        ("kid100", {}, "kid100 needs 100 images, but the subset has 60"),
    ):
        with pytest.raises(UserError, match=line) as error:
            measure([figure], **without)
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="fd50k needs 50,000 images"):
        measure(["fd", "fd50k"])  # every promise is kept, also of a figure that is requested twice
    with pytest.raises(UserError, match="FID is defined by inception_2048 alone"):
        measure(["fid"], "inception_768")
    assert list(measure(["fid100", "fd"])) == ["fid100_inception_2048"]
