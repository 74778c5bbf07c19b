"""Label-free figures against closed forms and plain loops."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from diffprobe.config.monitors import Monitor
from diffprobe.evaluation.representation.monitors import CellFeatures, contrastive, measure
from diffprobe.reporting.monitors import curves


def measured(settings: dict, *copies: torch.Tensor, foreign: torch.Tensor | None = None) -> dict[str, float]:
    return measure(Monitor.member(settings), CellFeatures(torch.stack(copies), foreign))


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- alignment and uniformity


def plain_uniformity(x: np.ndarray) -> float:
    """Wang & Isola 2020, eq. 4 with t = 2, a pair at a time."""
    potentials = [math.exp(-2 * np.square(x[i] - x[j]).sum()) for i in range(len(x)) for j in range(i)]
    return math.log(np.mean(potentials))


def test_alignment_and_uniformity_equal_their_definitions_for_any_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    a = 3 + normal(70, 6)
    b = a + 0.3 * normal(70, 6, seed=1)
    units = [(x / x.norm(dim=1, keepdim=True)).double().numpy() for x in (a, b)]
    expected = {
        "alignment": np.mean([np.square(x - y).sum() for x, y in zip(*units, strict=True)]),
        "uniformity": np.mean([plain_uniformity(x) for x in units]),
    }
    for chunk in (1, 32, 1024):
        monkeypatch.setattr(contrastive, "CHUNK", chunk)
        assert measured({"kind": "contrastive"}, a, b) == pytest.approx(expected, rel=1e-5)
    assert measured({"kind": "contrastive"}, 50 * a, 0.1 * b) == pytest.approx(expected, rel=1e-5)


def test_extremes_of_alignment_and_uniformity() -> None:
    x = normal(2000, 3)
    figures = measured({"kind": "contrastive"}, x, x)
    # On the sphere |x - y|^2 is uniform on [0, 4]: the mean of exp(-2 d) is (1 - e^-8) / 8.
    assert figures["alignment"] == 0 and figures["uniformity"] == pytest.approx(
        math.log((1 - math.exp(-8)) / 8), abs=0.02
    )
    collapsed = torch.ones(50, 3)
    assert measured({"kind": "contrastive"}, collapsed, collapsed)["uniformity"] == pytest.approx(0, abs=1e-9)
    assert measured({"kind": "contrastive"}, x, -x)["alignment"] == pytest.approx(4)
    assert list(measured({"kind": "contrastive"}, x)) == ["uniformity"]  # one copy has no pair


def test_uniformity_in_batches_depends_on_their_size() -> None:
    """The published form: by Jensen's inequality the mean of logarithms is lower, the more so for small batches."""
    x = torch.nn.functional.normalize(normal(200, 4))
    whole, large, small = (
        measured({"kind": "contrastive", "batch": batch}, x, x)[f"uniformity{name}"]
        for batch, name in ((None, ""), (100, "_batch100"), (4, "_batch4"))
    )
    assert small < large - 0.05 and large == pytest.approx(whole, abs=0.05)
    everything = measured({"kind": "contrastive", "batch": 200}, x, x)["uniformity_batch200"]
    assert everything == pytest.approx(whole)


# --- effective rank


def test_effective_rank_of_known_spectra() -> None:
    rank = {"kind": "effective_rank"}
    assert measured(rank, normal(20_000, 12))["effective_rank"] == pytest.approx(12, rel=0.01)  # isotropic: D
    x = torch.linalg.qr(normal(50, 4))[0]
    x = torch.linalg.qr(x - x.mean(0))[0]  # orthonormal columns of mean 0
    spectrum = torch.tensor([4.0, 2.0, 1.0, 1.0])
    share = spectrum / spectrum.sum()
    expected = math.exp(-(share * share.log()).sum())
    for wide in (x * spectrum, (x * spectrum) @ torch.linalg.qr(normal(90, 4))[0].T):  # n above and below D
        assert measured(rank, 10 + wide)["effective_rank"] == pytest.approx(expected, rel=1e-3)
    assert measured(rank | {"centre": False}, 1000 + x)["rankme"] == pytest.approx(1, abs=0.05)
    assert measured(rank, torch.ones(9, 3)) == {"effective_rank": 0}


# --- intrinsic dimension


@pytest.mark.parametrize("dimension", [1, 2, 5])
def test_dimension_of_a_cube(dimension: int) -> None:
    """A uniform cube, bent into more coordinates; its border lowers the estimates of higher dimensions a little."""
    x = torch.rand(2000, dimension, generator=torch.Generator().manual_seed(dimension))
    embedded = torch.cat([x, x.square() / 4], dim=1) @ normal(2 * dimension, 20)
    for settings in ({"estimator": "twonn"}, {"estimator": "mle", "neighbours": 10}):
        (value,) = measured({"kind": "intrinsic_dimension", **settings}, embedded).values()
        assert 0.85 * dimension < value < 1.08 * dimension
    assert measured({"kind": "intrinsic_dimension"}, embedded) == pytest.approx(
        measured({"kind": "intrinsic_dimension"}, 100 + 7 * embedded.repeat(3, 1)), rel=0.01
    )  # repeats of images are left out


def test_estimators_equal_plain_loops() -> None:
    x = normal(300, 6)
    distances = NearestNeighbors(n_neighbors=8).fit(x.numpy()).kneighbors()[0]  # (n, k), others alone
    inverse = [np.mean([math.log(row[7] / row[j]) for j in range(7)]) for row in distances]
    mle = measured({"kind": "intrinsic_dimension", "estimator": "mle", "neighbours": 8}, x)
    assert mle == pytest.approx({"dimension_mle8": 1 / np.mean(inverse)}, rel=1e-5)
    ratios = np.sort(np.log(distances[:, 1] / distances[:, 0]))[:270]
    survival = [-math.log(1 - (i + 1) / 300) for i in range(270)]
    slope = np.linalg.lstsq(ratios[:, None], np.array(survival), rcond=None)[0][0]
    assert measured({"kind": "intrinsic_dimension"}, x) == pytest.approx({"dimension_twonn": slope}, rel=1e-5)
    assert measured({"kind": "intrinsic_dimension"}, torch.ones(9, 3)) == {}
    corners = torch.eye(9)  # of a simplex: all equally far from each other
    for settings in ({}, {"estimator": "mle", "neighbours": 4}):
        assert measured({"kind": "intrinsic_dimension", **settings}, corners) == {}


def test_similarity_to_another_encoder() -> None:
    x = normal(100, 6)
    figures = measured({"kind": "similarity", "to": "dino", "neighbours": 5}, x, foreign=2 * x.flip(1))
    assert figures == pytest.approx({"cka_dino": 1, "cknna5_dino": 1}, abs=1e-5)


def test_a_cell_without_figures_has_a_picture_that_says_so() -> None:
    """Images may be too few for any."""
    cell = {"tap": "mid", "level": "1", "sigma": 1.0, "log_snr": 0.0}
    frame = pd.DataFrame([{"kimg": 1, **cell, "dimension_mle": np.nan}])
    accuracies = pd.DataFrame([{"kimg": 1, "tap": "mid", "level": "1", "accuracy": 0.5}])
    figure = curves(frame, accuracies, {"tap": "mid", "level": "1", "sigma": 1.0, "kimg": 1, "scorer": "linear"}, "toy")
    assert [text.get_text() for text in figure.axes[0].texts] == ["no figure at the chosen cell"]
