"""Hostile pictures, folders, zips and manifests: in `diffprobe run`, in the job that reads images, in `measure`."""

import json
import os
from functools import partial
from pathlib import Path

import mini
import numpy as np
import pictures
import pytest
from damage import flipped, written
from harness import Sandbox, complaints, one_clear_line
from pictures import (
    MANIFESTS,
    archive,
    encoded,
    good_labels,
    good_members,
    hostile_archives,
    hostile_pictures,
    manifest,
)

from diffprobe.data import images

HOSTILE = list(hostile_pictures())
ARCHIVES = dict(hostile_archives())
JOB_FILES = ("work/logs*", "work/out*", "work/scratch*")  # checked by hand: no store may appear
SPLITS = ["train", "select", "test"]


def make_store(sandbox: Sandbox, path: str, **dataset: object):
    """The job of the rule `images` on a folder or zip."""
    kind = {"kind": "zip", "paths": [path]} if path.endswith(".zip") else {"kind": "folder", "path": path}
    config = {"source": kind | {"labels": True}, "size": 8, "channels": None, "resize": "crop", "per_class": None}
    config |= {"split": None} | dataset
    (sandbox.work / "logs" / "images").mkdir(parents=True, exist_ok=True)
    words = ["--out", "images=out/images.h5", "receipt=out/images.receipt.json", "--log", "logs/images/it.log"]
    return sandbox.job("images", json.dumps(config), *words, "--threads", "1")


def refused(sandbox: Sandbox, path: str, *names: str, **dataset: object) -> list[str]:
    """What is wrong with the job's refusal."""
    sandbox.inputs += 1
    with sandbox.unchanged(*JOB_FILES):
        outcome = make_store(sandbox, path, **dataset)
    wrong = complaints(outcome, *names)
    if (sandbox.work / "out" / "images.h5").exists():
        wrong.append("a store was made")
        (sandbox.work / "out" / "images.h5").unlink()
    return wrong


@pytest.fixture
def photos(sandbox: Sandbox) -> Path:
    mini.photos(sandbox.work / "photos")
    return sandbox.work / "photos"


@pytest.mark.parametrize("part", range(3))
@pytest.mark.parametrize("decode", ["once", "when_read"])
def test_a_hostile_picture_among_good_ones(
    part: int, decode: str, sandbox: Sandbox, photos: Path, extractor: list[str]
) -> None:
    """Refused where it is decoded: by the job, or for a store without pixels by whoever reads it."""
    wrong: list[str] = []
    for what, extension, content in HOSTILE[part::3]:
        name = f"hostile.{extension}"
        (photos / "cats" / name).write_bytes(content)
        if decode == "once":
            wrong += [f"{what}: {line}" for line in refused(sandbox, "photos", name)]
        else:
            with sandbox.unchanged():
                outcome = sandbox.run("measure", "photos", "--save", "kept.npz", "--size", "8", *extractor)
            sandbox.inputs += 1
            wrong += [f"{what}: {line}" for line in complaints(outcome, name)]
        (photos / "cats" / name).unlink()
    assert not wrong, f"{len(wrong)}\n" + "\n".join(wrong)


@pytest.mark.parametrize("form", ["a smooth picture", "a noisy picture", "grey", "a palette", "transparent", "large"])
def test_no_turned_bit_of_a_png_passes(form: str, sandbox: Sandbox, photos: Path) -> None:
    """It is refused, or the pixels are the same."""
    content = {
        "a smooth picture": encoded(seed=-1),
        "a noisy picture": encoded(),
        "grey": encoded(mode="L"),
        "a palette": encoded(mode="P"),
        "transparent": encoded(mode="RGBA"),
        "large": encoded(size=(700, 500)),
    }[form]
    name = photos / "cats" / "0.png"
    written(name, content)
    chance, passed = np.random.default_rng(len(content)), []
    bits = sorted({*range(0, 8 * 60, 5), *chance.integers(0, 8 * len(content), 60).tolist()})

    def read_all() -> None:
        """In one child, since there are many."""
        from diffprobe.data.imagesets import open_images
        from diffprobe.runtime.errors import UserError

        sound = open_images(photos, size=8).read(0, 1)
        for bit in bits:
            written(name, flipped(content, bit))
            try:
                if not np.array_equal(open_images(photos, size=8).read(0, 1), sound):
                    print(f"bit {bit} passed")
            except UserError as error:
                if "0.png" not in str(error) or "\n" in str(error):
                    print(f"bit {bit}: {error}")

    sandbox.inputs += len(bits)
    outcome = sandbox.call(read_all, seconds=120)
    assert outcome.status == 0 and not outcome.out and not outcome.crash, (passed, outcome)


@pytest.mark.parametrize("form", ["JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM"])
def test_turned_bits_of_other_formats_crash_nothing(form: str, sandbox: Sandbox, photos: Path) -> None:
    """Their bodies have no checksums: what decodes is believed. All else is a line."""
    content, name = encoded(form), photos / "cats" / f"0.{form.lower()}"
    if form == "TIFF":
        name = name.with_suffix(".tif")
    written(name, content)
    bits = np.random.default_rng(len(content)).integers(0, 8 * min(len(content), 700), 150).tolist()

    def read_all() -> None:
        from diffprobe.data.imagesets import open_images
        from diffprobe.runtime.errors import UserError

        for bit in bits:
            written(name, flipped(content, bit))
            try:
                assert open_images(photos, size=8).read(0, 2).shape == (2, 8, 8, 3)
            except UserError as error:
                if name.name not in str(error) or "\n" in str(error):
                    print(f"bit {bit}: {error}")

    sandbox.inputs += len(bits)
    outcome = sandbox.call(read_all, seconds=120)
    assert outcome.status == 0 and not outcome.out and not outcome.crash, outcome
    assert form == "TIFF" or not outcome.err  # libtiff prints remarks of its own
    assert outcome.grown < 1024


READ_LATER = (  # not before the job that `run` starts
    "of an empty picture", "of a picture that is a page", "of a damaged member", "of a name with an escape",
    "of a size that is not so", "of two members in one place", "of a damaged directory",
)  # fmt: skip


@pytest.mark.parametrize("reader", ["run", "job", "measure"])
def test_hostile_zips(reader: str, sandbox: Sandbox, extractor: list[str]) -> None:
    wrong: list[str] = []
    for what, content in ARCHIVES.items():
        written(sandbox.work / "photos.zip", content)
        if reader == "job":
            wrong += [f"{what}: {line}" for line in refused(sandbox, "photos.zip", "photos.zip")]
            continue
        if reader == "run" and what in READ_LATER:
            continue
        words = ["photos.zip", "--size", "8", "--save", "kept.npz", *extractor]
        sandbox.inputs += 1
        with sandbox.unchanged():
            outcome = (
                sandbox.run("measure", *words) if reader == "measure" else sandbox.call(lambda: listed("photos.zip"))
            )
        wrong += [f"{what}: {line}" for line in complaints(outcome, "photos.zip")]
    assert not wrong, f"{len(wrong)}\n" + "\n".join(wrong)


@pytest.mark.parametrize("where", ["zip", "folder"])
def test_hostile_dataset_json(where: str, sandbox: Sandbox) -> None:
    members, wrong = good_members(), []
    for what, content in MANIFESTS.items():
        if where == "zip":
            path = "set.zip"
            written(sandbox.work / path, archive(members | {"dataset.json": manifest(content)}))
        else:
            path = "set"
            for name, picture in members.items():
                (sandbox.work / path / name).parent.mkdir(parents=True, exist_ok=True)
                (sandbox.work / path / name).write_bytes(picture)
            (sandbox.work / path / "dataset.json").write_bytes(manifest(content))
        wrong += [f"{what}: {line}" for line in refused(sandbox, path, "dataset.json")]
        sandbox.inputs += 1
        with sandbox.unchanged():
            outcome = sandbox.call(partial(listed, path))
        last = outcome._replace(
            err=outcome.err.splitlines()[-1] if outcome.err else ""
        )  # below the table of what was seen
        wrong += [f"run: {what}: {line}" for line in complaints(last, "dataset.json")]
    assert not wrong, f"{len(wrong)}\n" + "\n".join(wrong)


def test_a_good_zip_with_a_good_manifest_is_read(sandbox: Sandbox) -> None:
    """The inputs above are refused for what is wrong with them."""
    written(sandbox.work / "set.zip", archive(good_members(good_labels())))
    outcome = make_store(sandbox, "set.zip")
    assert outcome.status == 0, outcome
    assert images.describe(sandbox.work / "out" / "images.h5")["images"] == 24


def test_turned_bits_of_a_zip(sandbox: Sandbox) -> None:
    """In the directory or in a member: refused, or nothing that is read has changed."""
    members = {f"{name}/{i}.png": encoded(seed=i, size=(5, 5)) for name in "ab" for i in range(3)}
    content = archive(
        members | {"dataset.json": json.dumps({"labels": [[name, i % 2] for i, name in enumerate(members)]}).encode()}
    )
    path = sandbox.work / "set.zip"
    bits = np.random.default_rng(0).integers(0, 8 * len(content), 500).tolist()
    bits += [8 * content.index(b"PK\x01\x02") + i for i in range(0, 8 * 60, 3)]
    written(path, content)

    def read_all() -> None:
        from diffprobe.config.sources.zip import Zip
        from diffprobe.data import sources
        from diffprobe.data.imagesets import open_images
        from diffprobe.runtime.errors import UserError

        def everything() -> object:
            listing = sources.find(Zip(kind="zip", paths=[str(path)]), {})
            return [listing.labels.tolist(), listing.classes, open_images(path, size=8).read(0, 6).tobytes()]

        sound = everything()
        for bit in bits:
            written(path, flipped(content, bit))
            try:
                if everything() != sound:
                    print(f"bit {bit} passed")
            except UserError as error:
                if "set.zip" not in str(error) or "\n" in str(error):
                    print(f"bit {bit}: {error}")

    sandbox.inputs += len(bits)
    outcome = sandbox.call(read_all, seconds=120)
    assert outcome.status == 0 and not outcome.out and not outcome.crash, outcome


@pytest.mark.parametrize("reader", ["run", "job", "measure"])
def test_odd_things_in_a_folder(reader: str, sandbox: Sandbox, photos: Path, extractor: list[str]) -> None:
    """What is no regular file is refused, or left out; it is never waited for, and never read without end."""
    wrong: list[str] = []
    for what, name in pictures.odd_entries(photos):
        sandbox.inputs += 1
        with sandbox.unchanged(*JOB_FILES, "work/k.npz"):
            if reader == "job":
                outcome = make_store(sandbox, "photos")
            elif reader == "run" and name != "sparse.png":
                outcome = sandbox.call(lambda: listed("photos"))
            else:
                outcome = sandbox.run("measure", "photos", "--size", "8", "--save", "k.npz", *extractor)
        if outcome.status == 0:
            left_out = name in ("pipe.png", "endless.png") or (reader == "run" and name == "sparse.png")
            wrong += [] if left_out and outcome.grown < 1024 else [f"{what}: passed"]
            (sandbox.work / "k.npz").unlink(missing_ok=True)
        else:
            wrong += [f"{what}: {line}" for line in complaints(outcome, name)]
    assert not wrong, "\n".join(wrong)


def listed(path: str) -> None:
    """What `run` does before Snakemake starts."""
    import sys

    from diffprobe.runtime.errors import UserError
    from diffprobe.starter import starter

    try:
        starter(Path(path), "mine")
    except UserError as error:
        sys.exit(str(error))


NAMES = [
    "a\nb.png",
    "a\x1b[2Jb.png",
    "\u202egnp.exe.png",
    os.fsdecode(b"\xff\xfe.png"),
    "$(touch x).png",
    "-rf.png",
    "%s{0}.png",
]


def test_hostile_names(sandbox: Sandbox, photos: Path) -> None:
    """A damaged picture with a name that would write elsewhere on a terminal."""
    wrong: list[str] = []
    for name in NAMES:
        (photos / "cats" / name).write_bytes(b"not a picture")
        wrong += [f"{name!r}: {line}" for line in refused(sandbox, "photos")]
        (photos / "cats" / name).unlink()
    assert not wrong, "\n".join(wrong)


def test_hostile_paths(sandbox: Sandbox, extractor: list[str]) -> None:
    """Of `run` and `measure`: what is no folder of images."""
    (sandbox.work / "Snakefile").touch()
    for name in ("empty", "texts", "deep/er"):
        (sandbox.work / name).mkdir(parents=True)
    (sandbox.work / "texts" / "a.txt").touch()
    (sandbox.work / "loop").symlink_to("loop")
    (sandbox.work / "a.tar").write_bytes(bytes(99))
    for path in (
        "nowhere",
        "empty",
        "texts",
        "deep",
        "loop",
        "mine.txt",
        "a.tar",
        "nowhere.zip",
        "",
        "x" * 300,
        "/dev/null",
    ):
        named = [path[:100]]
        sandbox.refuses("run", path, names=named)
        sandbox.refuses("measure", path, "--save", "k.npz", *extractor, names=named)


METADATA: dict[str, bytes] = {  # metadata.csv of Hugging Face's imagefolder, for photos/cats/0.png and its kin
    "a path outside": b"file_name,label\n../outside/precious.txt,x\n",
    "an absolute path": b"file_name,label\n/etc/passwd,x\n",
    "a file that is not there": b"file_name,label\ncats/gone.png,x\n",
    "a file twice": b"file_name,label\ncats/0.png,x\ncats/0.png,y\n",
    "NUL": b"file_name,label\ncats/0.png,\x00\n",
    "not UTF-8": b"file_name,label\ncats/0.png,\xff\xfe\n",
    "UTF-16": "file_name,label\ncats/0.png,x\n".encode("utf-16"),
    "an open quote": b'file_name,label\n"cats/0.png,x\n',
    "a field of a megabyte": b"file_name,label\ncats/0.png," + b"x" * (1 << 20) + b"\n",
    "too few cells": b"file_name,label\ncats/0.png\n",
    "too many cells": b"file_name,label\ncats/0.png,x,y,z\n",
    "some files only": b"file_name,label\ncats/0.png,x\n",
}


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_hostile_metadata(name: str, sandbox: Sandbox, photos: Path) -> None:
    """Refused by name, or passed over for the class folders; no class is ever made of it silently."""
    wrong: list[str] = []
    rows = METADATA
    if name == "metadata.jsonl":
        rows = {
            "cut": b'{"file_name": "cats/0.png", "la',
            "a list": b"[]\n",
            "a number": b"7\n",
            "a name that is a number": b'{"file_name": 0, "label": "x"}\n',
            "a label that is a list": b'{"file_name": "cats/0.png", "label": [1]}\n',
            "a label that is NaN": b'{"file_name": "cats/0.png", "label": NaN}\n',
            "a label of 10^30": b'{"file_name": "cats/0.png", "label": 1' + b"0" * 30 + b"}\n",
            "nested": b"[" * 100_000 + b"\n",
            "outside": b'{"file_name": "../outside/precious.txt", "label": "x"}\n',
            "half a surrogate": b'{"file_name": "\\ud800", "label": "x"}\n',
        }
    for what, content in rows.items():
        (photos / name).write_bytes(content)
        sandbox.inputs += 1
        with sandbox.unchanged(*JOB_FILES):
            outcome = make_store(sandbox, "photos")
        if outcome.status == 0:
            store = sandbox.work / "out" / "images.h5"
            if images.describe(store)["classes"] != ["cats", "dogs"]:
                wrong.append(f"{what}: classes {images.describe(store)['classes']}")
            store.unlink()
        else:
            wrong += [f"{what}: {line}" for line in complaints(outcome, name)]
    assert not wrong, "\n".join(wrong)


def test_labels_of_what_is_not_there_are_left_out(sandbox: Sandbox) -> None:
    """Also of what lies outside: it is never read."""
    for name in ("a/gone.png", "../outside/precious.txt", "/etc/passwd"):
        sandbox.inputs += 1
        written(sandbox.work / "set.zip", archive(good_members({"labels": [[name, 0], *good_labels()["labels"]]})))
        outcome = make_store(sandbox, "set.zip")
        assert outcome.status == 0, outcome
        assert images.describe(sandbox.work / "out" / "images.h5")["images"] == 24


def test_one_clear_line_of_a_job_is_one(sandbox: Sandbox) -> None:
    sandbox.inputs += 1
    one_clear_line(make_store(sandbox, "nowhere"), "nowhere")
