"""Stores of latents for other code: what is written is what the store holds; whole, or one line and nothing."""

import json
import resource
from pathlib import Path

import h5py
import numpy as np
import pytest
from toy_latents import IDENTITY, complete, one_line, planned
from toy_peers import config_with, import_job, imported, listing, write_npy, write_shuffled_images

from diffprobe.__main__ import main
from diffprobe.data import images
from diffprobe.data.splits import SELECT, TEST
from diffprobe.interop.latents.exporting import to_hdf5, to_npy
from diffprobe.latents.store import LatentStore, open_store
from diffprobe.runtime.errors import UserError


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shuffled_images(tmp_path_factory.mktemp("images") / "images.h5")


@pytest.fixture(scope="module")
def whole(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> LatentStore:
    """A store of moments."""
    identity = IDENTITY | {"dataset": images.describe(pictures)["content"]}
    store = planned(tmp_path_factory.mktemp("whole"), identity=identity)
    complete(store, pictures)
    return open_store(store.path)


def test_an_hdf5_file_holds_the_stores_arrays(whole: LatentStore, tmp_path: Path):
    to_hdf5(whole, tmp_path / "out.h5")
    with h5py.File(tmp_path / "out.h5") as file:
        assert tuple(file) == tuple(sorted(whole.splits)) and file.attrs["holds"] == "moments"
        assert file.attrs["content"] == whole.content and json.loads(file.attrs["identity"]) == whole.identity
        assert np.array_equal(file.attrs["scale"], whole.scale) and np.array_equal(file.attrs["shift"], whole.shift)
        for split, n in whole.counts.items():
            moments = file[split]["moments"]
            assert moments.chunks == (1, min(256, n), 4, 2, 2) and moments.fletcher32 and moments.dtype == np.float16
            assert np.array_equal(file[split]["labels"], whole.labels(split))
            assert np.array_equal(file[split]["rows"], whole.rows(split))
            for view in range(len(whole.views[split])):
                assert np.array_equal(moments[view], whole.moments(split, view, 0, n))


@pytest.mark.parametrize("scaled", [0.5, None])
def test_exported_samples_come_back_as_they_were(pictures: Path, tmp_path: Path, scaled: float | None):
    npy = write_npy(tmp_path / "peer", pictures)
    first = imported(tmp_path, pictures, import_job("npy", npy, scale=0.5))
    to_npy(first, pictures, tmp_path / "out", 0, scaled)
    _, split, _ = listing(pictures)
    for name in ("train_code_0", "train_code_1", "test_code_0", "train_label", "test_label"):
        ours, theirs = np.load(tmp_path / "out" / f"{name}.npy"), np.load(npy / f"{name}.npy")
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
        kept = split[split != TEST] != SELECT if name == "train_code_1" else slice(None)  # of select one view is kept
        assert np.array_equal(ours[kept], (theirs * theirs.dtype.type(1 if "label" in name else 0.5))[kept])
    again = imported(tmp_path / "again", pictures, import_job("npy", tmp_path / "out", scaled=0.5))
    assert again.content == first.content


def test_samples_of_moments_are_drawn_by_image_and_version(whole: LatentStore, pictures: Path, tmp_path: Path):
    to_npy(whole, pictures, tmp_path / "a", 1, 1.0)
    to_npy(whole, pictures, tmp_path / "b", 2, 1.0)
    codes = np.stack([np.load(tmp_path / "a" / f"train_code_{version}.npy") for version in range(2)])
    rows, split, _ = listing(pictures)
    at = np.flatnonzero(split[split != TEST] == SELECT)  # images of select, as the dataset's files have them
    order = np.searchsorted(whole.rows("select"), rows[split != TEST][at])
    mean, logvar = np.split(whole.moments("select", 0, 0, 300)[order].astype(np.float32), 2, axis=1)
    noise = (codes[:, at] - mean) / np.exp(logvar / 2)
    visible = logvar > -5  # elsewhere the noise is lost in rounding
    assert abs(noise[:, visible].mean()) < 0.1 and abs(noise[:, visible].std() - 1) < 0.1
    assert not np.isclose(*codes[:, at])[visible].any()
    other = np.load(tmp_path / "b" / "train_code_0.npy")
    assert not np.array_equal(codes[0], other) and np.abs(codes[0] - other).mean() < 3


@pytest.mark.parametrize("form", ["hdf5", "npy"])
def test_a_full_disk_ends_an_export_in_one_line(whole: LatentStore, pictures: Path, tmp_path: Path, form: str):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(UserError, match=r"out.*: cannot be written .*; free some space and export ag") as error:
            if form == "hdf5":
                to_hdf5(whole, tmp_path / "out.h5")
            else:
                to_npy(whole, pictures, tmp_path / "out", 0, None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    one_line(error)
    assert list(tmp_path.iterdir()) == []


def test_an_export_replaces_nothing(whole: LatentStore, pictures: Path, tmp_path: Path):
    to_npy(whole, pictures, tmp_path / "out", 0, None)
    to_hdf5(whole, tmp_path / "out.h5")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    with pytest.raises(UserError, match=r"out: exists and is not an empty folder; nothing is replaced"):
        to_npy(whole, pictures, tmp_path / "out", 1, None)
    with pytest.raises(UserError, match=r"out\.h5: exists .*; nothing is replaced"):
        to_hdf5(whole, tmp_path / "out.h5")
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    with pytest.raises(UserError, match=r"allowed: a name that ends in .h5 or .hdf5"):
        to_hdf5(whole, tmp_path / "out.npz")


def test_the_command_exports_a_store_and_names_what_there_is(pictures: Path, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    theirs = {"kind": "npy", "path": str(write_npy(tmp_path / "peer", pictures))}
    results = Path("results/latents/theirs")
    imported(results, pictures, import_job("npy", Path(theirs["path"])))
    Path("c.json").write_text(json.dumps(config_with(imported=theirs)))
    main(["export", "out.h5", "--latents", "theirs", "--format", "hdf5", "--configfile", "c.json"])
    assert "out.h5: the latents of train, select, test" in capsys.readouterr().out
    for arguments, said in (
        (["--latents", "nope", "--format", "npy"], "--latents nope: no such store; there are theirs"),
        (["--latents", "theirs", "--format", "diffusers"], "--format diffusers: allowed: hdf5 or npy"),
        (["--latents", "theirs", "--format", "hdf5"], "allowed: a name that ends in .h5"),
    ):
        with pytest.raises(SystemExit):
            main(["export", "out", *arguments, "--configfile", "c.json"])
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1
