"""Imported latents in a config: what of it counts, what is refused, and when the files are read again."""

from pathlib import Path

import numpy as np
import pytest
from toy_latents import one_line
from toy_peers import config_with

from diffprobe.config.inferred import augment_label
from diffprobe.config.load import parse
from diffprobe.config.models import Config
from diffprobe.data.fingerprint import fingerprint_arrays
from diffprobe.plan import job_arguments
from diffprobe.plan.sources import Sources
from diffprobe.reporting.describe import describe
from diffprobe.runtime.errors import UserError


def with_latents(**theirs: object) -> Config:
    return parse(config_with(**theirs))


def test_a_config_of_imported_latents(tmp_path: Path):
    npy = tmp_path / "peer"
    npy.mkdir()
    for name in ("train_code_0", "train_code_1", "test_label"):
        np.save(npy / f"{name}.npy", np.zeros(3))
    peers = {"kind": "npy", "path": str(npy)}
    parsed = with_latents(imported=peers)
    assert augment_label(parsed, parsed.experiments["dit"]) == 0 and parsed.latents["theirs"].versions == 2
    assert job_arguments.latents(parsed, "theirs") == {"imported": {"kind": "npy", "scaled": 1.0}, "scale": "measured"}
    assert describe(parsed, "dit")
    for changes, said in (
        (
            {"imported": peers, "views": [{"kind": "identity"}, {"kind": "mirror"}]},
            "views: .*mirror.* is refused; allowed: only identity",
        ),
        (
            {"imported": peers | {"test": "x"}},
            r"imported.test: .*x.* is refused; allowed: null: test_code_0",
        ),
    ):
        with pytest.raises(UserError, match=said) as error:
            with_latents(**changes)
        one_line(error)


def test_changed_files_are_noticed(tmp_path: Path):
    npy = tmp_path
    np.save(npy / "train_code_0.npy", np.zeros(3))
    before = fingerprint_arrays([str(npy)])
    (npy / "notes.txt").touch()
    assert fingerprint_arrays([str(npy)]) == before and fingerprint_arrays([str(npy / "none")]) is None
    np.save(npy / "test_label.npy", np.zeros(20, int))
    assert fingerprint_arrays([str(npy)]) != before


def test_what_was_imported_for_a_probe_stays_without_one(monkeypatch: pytest.MonkeyPatch):
    """As where `--only` leaves out the experiment that has it."""
    sources = Sources(with_latents(imported={"kind": "npy", "path": "none"}))
    plain = sources.latents_argument("theirs")
    monkeypatch.setattr(sources, "latents_receipt", lambda name: {"config": plain | {"probing": True}})
    assert (plain["probing"], sources.latents_argument("theirs")["probing"]) == (False, True)
