"""References: computed once and named by content, brought from elsewhere, refused where they do not fit."""

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import Tensor

from diffprobe.data.imagesets import open_images
from diffprobe.evaluation.generation.extractors import FeatureExtractor, Features
from diffprobe.evaluation.generation.reference import compute_reference, file_name, import_reference, read, write
from diffprobe.runtime.errors import UserError

CPU = torch.device("cpu")
OPTIONS = {"most": 20, "device": CPU, "batch": 7}


def toy(images: Tensor) -> Features:
    """Channel means, and two columns of pixels as sFID's map."""
    x = images.float()
    return Features(x.mean((1, 2)), x[:, :, 0].flatten(1))


TOY = FeatureExtractor("toy", 3, "hash of the weights", "none", toy, spatial=12)


def pictures(n: int = 60, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 4, 4, 3), dtype=np.uint8)


@pytest.fixture
def npz(tmp_path: Path) -> Path:
    np.savez(tmp_path / "images.npz", arr_0=pictures())
    return tmp_path / "images.npz"


def test_what_is_kept_comes_back_and_is_what_pytorch_fid_reads(npz: Path, tmp_path: Path) -> None:
    from pytorch_fid.fid_score import compute_statistics_of_path

    computed = compute_reference(open_images(npz), TOY, **OPTIONS)
    write(tmp_path / "reference.npz", computed)
    again = read(tmp_path / "reference.npz", TOY)
    features = pictures().astype(np.float64).mean((1, 2))
    mu, sigma = compute_statistics_of_path(str(tmp_path / "reference.npz"), None, 1, 3, "cpu")
    for reference in (computed, again):
        assert_allclose(reference.mu, features.mean(0), rtol=1e-6)
        assert_allclose(reference.sigma, np.cov(features, rowvar=False), rtol=1e-5)
        assert (reference.n, len(reference.features), reference.spatial[0].shape) == (60, 20, (12,))
        assert reference.about["extractor"] == TOY.identity and reference.about["subset"]["images"] == 20
    assert np.array_equal(mu, again.mu) and np.array_equal(sigma, again.sigma)
    assert again.about == computed.about and again.origin == computed.origin


def test_names_follow_content(npz: Path, tmp_path: Path) -> None:
    """Other pixels, another subset, other weights or another resize make another file; a copy elsewhere does not."""
    np.savez(tmp_path / "copy.npz", arr_0=pictures())
    np.savez(tmp_path / "other.npz", arr_0=pictures(seed=1))
    here, copy, other = (open_images(tmp_path / f"{part}.npz").identity for part in ("images", "copy", "other"))
    first = file_name(here, 20, TOY)
    assert first == file_name(copy, 20, TOY) and first.startswith("toy-")
    others = [file_name(other, 20, TOY), file_name(here, 10, TOY)]
    others += [file_name(here, 20, replace(TOY, **{key: "another"})) for key in ("weights", "resize")]
    assert len({first, *others}) == 5


def test_statistics_of_others_are_read(tmp_path: Path) -> None:
    """pytorch-fid's and EDM's form: mu and sigma. ADM's: the map's besides, and some of the images."""
    ours = compute_reference(images_of(tmp_path), TOY, **OPTIONS)
    plain = {"mu": ours.mu, "sigma": ours.sigma}
    np.savez(tmp_path / "plain.npz", **plain)
    imported = import_reference(tmp_path / "plain.npz", TOY, **OPTIONS)
    assert (imported.n, imported.spatial, imported.features, imported.origin) == (None, None, None, "plain.npz")
    assert np.array_equal(imported.sigma, ours.sigma) and len(imported.about["sha256"]) == 64
    adm = plain | dict(zip(("mu_s", "sigma_s"), ours.spatial, strict=True)) | {"arr_0": pictures()[:30]}
    np.savez(tmp_path / "adm.npz", **adm)
    imported = import_reference(tmp_path / "adm.npz", TOY, **OPTIONS)
    assert imported.features.shape == (20, 3) and np.array_equal(imported.spatial[1], ours.spatial[1])
    write(tmp_path / "kept.npz", imported)
    again = read(tmp_path / "kept.npz", TOY)
    assert again.origin == "adm.npz" and torch.equal(again.features, imported.features)


def images_of(folder: Path):
    np.savez(folder / "images.npz", arr_0=pictures())
    return open_images(folder / "images.npz")


def test_what_does_not_fit_is_refused_in_one_line(tmp_path: Path) -> None:
    ours = compute_reference(images_of(tmp_path), TOY, **OPTIONS)
    write(tmp_path / "own.npz", ours)
    own = dict(np.load(tmp_path / "own.npz"))
    odd = {
        "nan": {"sigma": np.full((3, 3), np.nan)}, "complex": {"mu": np.zeros(3, complex)},
        "negative": {"n": -60}, "none_at_all": {"n": 0}, "counts": {"n": np.arange(3)}, "fraction": {"n": 1.5},
        "text": {"mu": np.array(["a", "b", "c"])}, "objects": {"mu": np.array([0, None, {}])},
        "flat": {"sigma": np.zeros(9)}, "deep": {"mu": np.zeros((1, 3))}, "list": {"about": "[1, 2]"},
        "prose": {"about": "not JSON"}, "numbers": {"about": np.zeros(3)}, "of_list": {"about": '{"extractor": [1]}'},
        "nan_rows": {"features": np.full((20, 3), np.nan)}, "wide_rows": {"features": np.zeros((20, 5))},
        "many_rows": {"features": np.zeros((61, 3))}, "map": {"mu_s": np.zeros((3, 4))},
        "variance": {"sigma": -np.eye(3)},
    }  # fmt: skip
    for name, arrays in odd.items():
        np.savez(tmp_path / f"{name}.npz", **(own | arrays))
    (tmp_path / "pickle.npz").write_bytes(b"\x80\x04K\x01.")
    np.save(tmp_path / "array.npy", np.zeros(3))
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    with zipfile.ZipFile(tmp_path / "enormous.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in own.items():
            with archive.open(f"{name}.npy", "w") as file:
                shape = (10**9, 3) if name == "features" else value.shape
                header = {"descr": value.dtype.str, "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
                file.write(value.tobytes())
    np.savez(tmp_path / "wide.npz", mu=np.zeros(2048), sigma=np.eye(2048))
    np.savez(tmp_path / "infinite.npz", mu=np.array([0, 1, np.inf]), sigma=np.eye(3))
    np.savez(tmp_path / "none.npz", mean=np.zeros(3))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "own.npz").read_bytes()[:300])
    cases = {f"{name}.npz": rf"{next(iter(arrays))}|sigma_s" for name, arrays in odd.items()}
    cases |= {f"{name}.npz": "not a readable .npz" for name in ("pickle", "array", "prose")}
    cases |= {
        "enormous.npz": "features",
        "wide.npz": r"mu \(2048,\) .* but toy has 3 features",
        "infinite.npz": "not finite",
        "none.npz": r"holds no mu \(it has mean\)",
        "cut.npz": "not a readable .npz",
        "nowhere.npz": "No such file or directory.; check the path",
    }
    for file, line in cases.items():
        with pytest.raises(UserError, match=line) as error:
            import_reference(tmp_path / file, TOY, **OPTIONS)
        assert file in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(UserError, match="weights of its extractor is hash of the weights, here it is another"):
        read(tmp_path / "own.npz", replace(TOY, weights="another"))
