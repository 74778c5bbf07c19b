"""Damage to a latent store: named, refused by readers, mended by making again what is damaged and no more."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr
from toy_latents import complete, one_line, planned, toy_moments, tree

from diffprobe.latents.encoding import encode
from diffprobe.latents.parts import missing_parts, receipts_folder
from diffprobe.latents.store import open_store
from diffprobe.latents.verify import remove_parts, repair, verify
from diffprobe.reporting.verify import verify_paths
from diffprobe.runtime.errors import UserError


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


SHARD = "train/moments/c/1/2/0/0/0"  # rows 512 to 699 of the second view
DAMAGE = {
    "flipped value": (lambda path: flip(path / SHARD, 1000), rf"{SHARD}: rows 512-699 are damaged \(.*checksum"),
    "flipped index": (lambda path: flip(path / SHARD, -10), rf"{SHARD}: rows 512-699 are damaged \(.*checksum"),
    "cut": (lambda path: os.truncate(path / SHARD, 5000), rf"{SHARD}: has 5000 bytes, not \d+"),
    "gone": (lambda path: (path / SHARD).unlink(), rf"{SHARD}: cannot be read \(No such file"),
    "swapped": (
        lambda path: shutil.copy(path / SHARD.replace("/1/2/", "/0/2/"), path / SHARD),
        f"{SHARD}: sha256 is not the receipt's",
    ),
    "receipt gone": (lambda path: (receipts_folder(path) / "train.1.2.json").unlink(), f"{SHARD}: its receipt is"),
    "a list": (
        lambda path: (receipts_folder(path) / "train.1.2.json").write_text("[]"),
        f"{SHARD}: its receipt is",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_shard_is_named_and_made_again_alone(damage: str, copy: Path, original: Path, pictures: Path):
    assert verify(copy) == []
    act, message = DAMAGE[damage]
    act(copy)
    (problem,) = verify(copy)
    assert re.match(message, problem.text), problem.text
    repair(copy, [problem])
    with pytest.raises(UserError, match="no finished latent store"):
        open_store(copy)
    assert complete(planned(copy.parent), pictures) == [SHARD]
    assert tree(copy) == tree(original)
    assert verify(copy) == []


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("train/labels/c/0", "train/labels: .*checksum"),
        ("select/rows/c/0", "select/rows: .*checksum"),
        ("test/moments/zarr.json", ".*(cannot be opened|not those of the plan)"),
        ("zarr.json", ".*damaged or no latent store"),
    ],
)
@pytest.mark.parametrize("harm", ["flipped", "gone"])
def test_damage_beside_the_shards_is_mended_without_encoding(
    file: str, message: str, harm: str, copy: Path, original: Path, pictures: Path
):
    flip(copy / file, 3) if harm == "flipped" else (copy / file).unlink()
    problems = verify(copy)
    assert len(problems) == 1
    assert re.match(message if harm == "flipped" else ".*(missing|cannot be opened|no finished)", problems[0].text)
    repair(copy, problems)
    assert complete(planned(copy.parent), pictures) == []
    assert tree(copy) == tree(original)


def test_an_altered_root_is_noticed_before_any_shard_is_blamed(copy: Path):
    root = json.loads((copy / "zarr.json").read_text())
    for key, value in (("counts", {"train": 701}), ("scale", [1.0]), ("identity", {})):
        changed = {**root, "attributes": {**root["attributes"], key: value}}
        (copy / "zarr.json").write_text(json.dumps(changed))
        (problem,) = verify(copy)
        assert re.match(".*zarr.json: is damaged", problem.text)
        assert problem.part is None


def test_sound_labels_of_another_store_are_noticed(copy: Path):
    labels = zarr.open_array(str(copy / "train" / "labels"), mode="r+")
    labels[0] = labels[0] + 1
    assert [problem.text for problem in verify(copy)] == [
        "zarr.json: content is not the hash of the parts, labels and rows"
    ]


def test_shards_that_are_gone_or_cut_are_made_again_without_being_asked(copy: Path, original: Path, pictures: Path):
    """What a plain run sees without reading a byte."""
    os.truncate(copy / SHARD, 5000)
    other = SHARD.replace("/1/2/", "/0/1/")
    (copy / other).unlink()
    assert [part.name for part in missing_parts(planned(copy.parent))] == ["train.0.1", "train.1.2"]
    encode(planned(copy.parent), pictures, toy_moments, batch=64)
    assert not (copy / "zarr.json").exists(), "the mark of completeness stands on a store in change"
    assert complete(planned(copy.parent), pictures) == []
    assert tree(copy) == tree(original)


def test_parts_lost_before_the_store_is_finished_are_left_to_their_job(copy: Path):
    """As workflow/scripts/latents.py does, where there is no manifest yet."""
    (copy / "zarr.json").unlink()
    (copy / SHARD).unlink()
    plan, encoded = planned(copy.parent), copy.parent / "encoded"
    encoded.mkdir()
    for number, own in enumerate((plan.parts[:4], plan.parts[4:])):
        (encoded / f"{number}.json").write_text(json.dumps({"parts": [part.name for part in own]}))
    remove_parts(copy, missing_parts(plan))
    assert [path.name for path in encoded.iterdir()] == ["0.json"]  # SHARD is the sixth part


def test_reading_refuses_what_is_damaged_or_lost(copy: Path):
    latents = open_store(copy)
    flip(copy / SHARD, 1000)
    (copy / SHARD.replace("/1/2/", "/0/1/")).unlink()
    for view, start in ((1, 512), (0, 256)):
        with pytest.raises(UserError, match=r"cannot be read whole .*; verify and repair the store") as error:
            latents.moments("train", view, start, start + 100)
        one_line(error)
    assert np.isfinite(latents.moments("train", 0, 512, 700)).all()


def test_a_store_is_verified_by_its_path(copy: Path, pictures: Path, capsys: pytest.CaptureFixture[str]):
    verify_paths([copy, copy / "zarr.json", pictures], repair=False)
    assert capsys.readouterr().out.count("every byte is as it was written") == 3
    flip(copy / SHARD, 1000)
    with pytest.raises(UserError, match=r"train/moments/c/1/2/.*damaged.*\nto make it again"):
        verify_paths([copy], repair=False)
    with pytest.raises(UserError, match="removed; run the workflow again"):
        verify_paths([copy], repair=True)
    with pytest.raises(UserError, match="no finished store here"):  # its mark is gone with the part
        verify_paths([copy], repair=False)
