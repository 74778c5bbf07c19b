"""Reconstructions: SSIM against another implementation, and no distance between equal images."""

import statistics

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate
from torch import Tensor, nn
from toy_networks import refusal

from diffprobe.data.imagesets import ImageSet
from diffprobe.data.pixels import to_float, to_uint8
from diffprobe.evaluation.generation.extractors import FeatureExtractor, Features
from diffprobe.evaluation.generation.figures import Subject
from diffprobe.evaluation.generation.reconstruction import Reconstruction, reconstruct, similarities
from diffprobe.evaluation.generation.ssim import ssim
from diffprobe.networks.autoencoder import Codec, psnr

CPU = torch.device("cpu")


def images(n: int, size: int = 16, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Smooth pictures, uint8 (n, size, size, channels)."""
    draw = np.random.default_rng(seed)
    noise = draw.random((n, size, size, channels))
    for axis in (1, 2):
        noise = (noise + np.roll(noise, 1, axis) + np.roll(noise, 2, axis)) / 3
    return (255 * noise).astype(np.uint8)


# --- SSIM ---------------------------------------------------------------------------------------------------


def reference_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Of one channel (H, W) from 0 to 255, by scipy's filter and the definition of a weighted covariance."""
    place = np.arange(11) - 5
    window = np.exp(-(place[:, None] ** 2 + place[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    local = []
    mean_a, mean_b = (correlate(x, window)[5:-5, 5:-5] for x in (a, b))
    for row, column in np.ndindex(mean_a.shape):
        da, db = (x[row : row + 11, column : column + 11] - m[row, column] for x, m in ((a, mean_a), (b, mean_b)))
        ma, mb = mean_a[row, column], mean_b[row, column]
        va, vb, cov = (window * da**2).sum(), (window * db**2).sum(), (window * da * db).sum()
        local.append((2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2)))
    return float(np.mean(local))


def test_ssim_is_that_of_another_implementation() -> None:
    """Of grey levels from 0 to 255, as in the paper."""
    a, b = images(2, size=20, seed=0), images(2, size=20, seed=1)
    b[1] = np.clip(a[1] + 40.0, 0, 255)  # alike but for the light
    ours = ssim(to_float(torch.from_numpy(a)), to_float(torch.from_numpy(b)))
    pairs = zip(a.astype(float), b.astype(float), strict=True)
    expected = [np.mean([reference_ssim(x[..., c], y[..., c]) for c in range(3)]) for x, y in pairs]
    np.testing.assert_allclose(ours, expected, rtol=1e-5)
    assert expected[0] < 0.3 and 0.7 < expected[1] < 0.99


def test_ssim_of_equal_images_is_one_and_small_ones_have_none() -> None:
    x = to_float(torch.from_numpy(images(3, size=11, channels=1)))
    torch.testing.assert_close(ssim(x, x), torch.ones(3, dtype=torch.float64))
    with pytest.raises(ValueError, match="SSIM takes 11 or more"):
        ssim(x[..., 1:], x[..., 1:])
    assert list(similarities(11, None)[0]) == ["psnr", "ssim"]
    measures, without = similarities(8, nn.Identity())
    assert list(measures) == ["psnr"]
    assert without == ["ssim takes images of 11 pixels or more", "lpips takes images of 16 pixels or more"]


# --- reconstructions ----------------------------------------------------------------------------------------


class Same(nn.Module):
    """An autoencoder that gives back what it gets, or less of it."""

    def __init__(self, share: float = 1.0) -> None:
        super().__init__()
        self.encoder, self.share = nn.Identity(), share
        self.quant_conv = lambda x: torch.cat([x, torch.full_like(x, 5.0)], dim=1)  # a wide posterior

    def decoder(self, z: Tensor) -> Tensor:
        return self.share * z


def extractor(name: str) -> FeatureExtractor:
    """Five features of an image's channels: fewer images than that make no covariance of full rank."""

    def apply(x: Tensor) -> Features:
        means = x.float().mean(dim=(1, 2))  # (B, 3)
        return Features(torch.cat([means, means[:, :2] ** 2 / 100], dim=1))

    return FeatureExtractor(name, 5, "0", "none", apply)


def prepared(
    pixels: np.ndarray, share: float = 1.0, shown: int = 64, **more: object
) -> tuple[ImageSet, Reconstruction]:
    """A set of these pixels, and nothing collected of it yet."""
    n, size, _, channels = pixels.shape
    codec = Codec(Same(share), **{"size": size, "channels": channels, **more}, image=(channels, size, size))
    subjects = [Subject("ours", extractor("classifier"), None), Subject("theirs", extractor("inception_2048"), None)]
    reconstruction = Reconstruction(codec, similarities(codec.size, None)[0], subjects, n, CPU, batch=3, shown=shown)
    return ImageSet("pixels", n, pixels.shape[1:], lambda start, stop: pixels[start:stop], dict), reconstruction


def measured(pixels: np.ndarray, share: float = 1.0, batch: int = 4, **more: object) -> tuple[Reconstruction, Tensor]:
    """What is collected of pixels, and the pairs (2, n, S, S, C)."""
    whole, reconstruction = prepared(pixels, share, **more)
    assert list(reconstruct(whole, reconstruction, batch)) == [*range(batch, whole.n, batch), whole.n]
    return reconstruction, reconstruction.pairs


@pytest.mark.parametrize("n", [3, 10])
def test_what_comes_back_whole_is_at_no_distance(n: int) -> None:
    """Also where covariances have no full rank; the mean of the posterior is decoded, whatever its width."""
    reconstruction, pairs = measured(images(n))
    rows = {row["evaluator"]: row for row in reconstruction.rows()}
    assert list(rows) == ["psnr", "ssim", f"rfd{n}_classifier", f"rfid{n}_inception_2048"]
    assert rows[f"rfd{n}_classifier"]["value"] == pytest.approx(0, abs=1e-9)
    assert rows["ssim"]["value"] == pytest.approx(1) and rows["psnr"]["value"] > 90
    assert {row["images"] for row in rows.values()} == {n}
    assert [row.get("extractor") for row in rows.values()] == [None, None, "ours", "theirs"]
    assert torch.equal(*pairs) and np.array_equal(pairs[0].numpy(), images(n))


def test_figures_are_those_of_the_whole_and_no_batch_changes_them() -> None:
    pixels = images(10)
    tables = [measured(pixels, share=0.5, batch=batch)[0].rows() for batch in (1, 4, 10)]
    x = to_float(torch.from_numpy(pixels))
    expected = {"psnr": psnr(x / 2, x).tolist(), "ssim": ssim(x / 2, x).tolist()}
    for rows in tables:
        by_name = {row["evaluator"]: row for row in rows}
        for name, values in expected.items():
            assert by_name[name]["value"] == pytest.approx(statistics.mean(values))
            assert by_name[name]["spread"] == pytest.approx(statistics.stdev(values))
        assert by_name["rfd10_classifier"]["value"] == pytest.approx(tables[0][2]["value"], rel=1e-9)
    features = [extractor("").apply(it).pooled.double().numpy() for it in (torch.from_numpy(pixels), to_uint8(x / 2))]
    mean = np.square(features[0].mean(0) - features[1].mean(0)).sum()
    assert tables[0][2]["value"] > 0.99 * mean > 0


def test_the_distance_is_at_the_datasets_size() -> None:
    """Repeated pixels come back as they were; similarities are at the autoencoder's size."""
    reconstruction, pairs = measured(images(6, size=8), size=16, resize="repeat")
    rows = {row["evaluator"]: row for row in reconstruction.rows()}
    assert pairs.shape == (2, 6, 16, 16, 3) and "ssim" in rows
    assert rows["rfd6_classifier"]["value"] == pytest.approx(0, abs=1e-9)


def test_one_image_has_no_distance() -> None:
    rows = measured(images(1))[0].rows()
    assert [(row["evaluator"], row["spread"]) for row in rows] == [("psnr", None), ("ssim", None)]


def test_a_reconstruction_that_is_no_number_stops_the_job() -> None:
    line = refusal(measured, images(5), share=torch.nan)
    assert line.startswith("image 0 as the autoencoder returns it holds NaN or infinite values; use another")
