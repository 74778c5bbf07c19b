"""Where images come from: every kind of source against an independent reader, and what is refused, in one line."""

import gzip
import hashlib
import io
import json
import math
import os
import pickle
import subprocess
import sys
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torchvision.datasets as reference
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from diffprobe.config.datasets import Dataset, Last
from diffprobe.config.sources import Source, downloaded_kinds
from diffprobe.config.sources.celebahq import CelebAHQ
from diffprobe.config.sources.folder import Folder
from diffprobe.config.sources.imagenet import ImageNet
from diffprobe.config.sources.zip import Zip
from diffprobe.data import images as store
from diffprobe.data import sources
from diffprobe.data.downloads import downloaded, fetch
from diffprobe.data.filenames import is_hidden
from diffprobe.data.listing import Files, Listing
from diffprobe.data.prepared import prepare
from diffprobe.data.sources.cifar import LAYOUTS
from diffprobe.data.splits import assign
from diffprobe.runtime.errors import UserError

ROOT = Path(__file__).parents[1]
RNG = np.random.default_rng(0)
TRAIN, SELECT, TEST = range(3)


def grow(root: Path, names: list[str]) -> Path:
    """A folder with these files, and with these folders where a name ends in `/`."""
    for name in names:
        path = root / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.write_bytes(b"not decoded here")
    root.mkdir(exist_ok=True)
    return root


def pack(path: Path, names: list[str], manifest: object = None) -> Path:
    """A zip with these entries and, if there is one, this dataset.json (as JSON, or as the bytes given)."""
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"not decoded here")
        if manifest is not None:
            archive.writestr("dataset.json", manifest if isinstance(manifest, bytes) else json.dumps(manifest))
    return path


def folder(path: Path, labels: bool = True) -> Listing:
    return sources.find(Folder(kind="folder", path=str(path), labels=labels), {})


def zips(*paths: Path, labels: bool = True) -> Listing:
    return sources.find(Zip(kind="zip", paths=[str(path) for path in paths], labels=labels), {})


def rows(listing: Listing) -> list[tuple[str, int, int | None]]:
    """(name, label, split or none) of each image."""
    assert isinstance(listing.images, Files)
    official = [None] * len(listing.labels) if listing.official is None else listing.official.tolist()
    names = [name for _, name in listing.images.entries]
    return list(zip(names, listing.labels.tolist(), official, strict=True))


def refused(message: str, call, *arguments: object, **options: object) -> None:
    with pytest.raises(UserError, match=message) as error:
        call(*arguments, **options)
    assert "\n" not in str(error.value)
    str(error.value).encode()  # it can be printed


# Archives in their real forms, read by torchvision and by us.


def write_idx(path: Path, array: np.ndarray) -> None:
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    path.write_bytes(gzip.compress(bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()))


@pytest.fixture(params=["mnist", "fashion_mnist"])
def idx(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Source, dict[str, Path]]:
    """A source in MNIST's form, and its files."""
    source = Source.member({"kind": request.param})
    files = {archive.name: tmp_path / archive.name for archive in source.archives}
    for part, count in (("train", 7), ("t10k", 5)):
        write_idx(files[f"{part}-images-idx3-ubyte.gz"], RNG.integers(0, 256, (count, 28, 28), np.uint8))
        write_idx(files[f"{part}-labels-idx1-ubyte.gz"], RNG.integers(0, 10, count, np.uint8))
    return source, files


def test_mnist_as_torchvision_reads_it(idx: tuple[Source, dict[str, Path]], tmp_path: Path) -> None:
    source, files = idx
    peer = {"mnist": reference.MNIST, "fashion_mnist": reference.FashionMNIST}[source.kind]
    raw = tmp_path / peer.__name__ / "raw"
    raw.mkdir(parents=True)
    for name, path in files.items():
        (raw / name.removesuffix(".gz")).write_bytes(gzip.decompress(path.read_bytes()))
    listing = sources.find(source, files)
    for split, train in ((TRAIN, True), (TEST, False)):
        expected, here = peer(tmp_path, train=train), listing.official == split
        assert np.array_equal(listing.images[here][..., 0], expected.data.numpy())
        assert np.array_equal(listing.labels[here], expected.targets.numpy())
    assert (listing.images.dtype, listing.labels.dtype, listing.official.dtype) == (np.uint8, np.int64, np.uint8)
    if source.kind == "fashion_mnist":
        assert list(listing.classes) == peer.classes


def test_damaged_mnist_is_named(idx: tuple[Source, dict[str, Path]]) -> None:
    source, files = idx
    path = files["t10k-images-idx3-ubyte.gz"]
    whole = path.read_bytes()
    for cut in (0, 3, 40, len(whole) - 9, len(whole) - 1):
        path.write_bytes(whole[:cut])
        refused("t10k-images.*download it again", sources.find, source, files)
    path.write_bytes(gzip.compress(bytes([0, 0, 8, 3]) + np.array([2**32 - 1] * 3, ">u4").tobytes() + bytes(10**6)))
    refused("t10k-images.*not an IDX file", sources.find, source, files)
    path.write_bytes(gzip.compress(bytes([0, 0, 8, 3]) + np.array([5, 28, 28], ">u4").tobytes() + bytes(10**6)))
    refused("t10k-images.*not a complete IDX file", sources.find, source, files)
    write_idx(path, np.zeros((4, 28, 28), np.uint8))
    refused("4 images but 5 labels", sources.find, source, files)


@pytest.mark.parametrize(
    ("type_code", "shape"),
    [(9, (5, 28, 28)), (13, (5, 28, 28)), (8, (5, 784)), (8, (5, 28, 28, 1)), (8, ())],
    ids=["signed", "floats", "two dimensions", "four dimensions", "none"],
)
def test_another_kind_of_idx_file_is_refused(
    type_code: int, shape: tuple[int, ...], idx: tuple[Source, dict[str, Path]]
) -> None:
    source, files = idx
    sizes = b"".join(size.to_bytes(4, "big") for size in shape)
    header = bytes([0, 0, type_code, len(shape)]) + sizes
    files["t10k-images-idx3-ubyte.gz"].write_bytes(gzip.compress(header + bytes(math.prod(shape))))
    refused("t10k-images.*not an IDX file of 3 dimensions", sources.find, source, files)


def test_idx_files_of_another_size_or_with_other_labels_are_refused(idx: tuple[Source, dict[str, Path]]) -> None:
    """As whole files of the right length, whose header lies."""
    source, files = idx
    write_idx(files["train-labels-idx1-ubyte.gz"], np.array([0, 1, 2, 3, 4, 10, 5], np.uint8))
    refused("train: label 10, but there are 10 classes; delete", sources.find, source, files)
    write_idx(files["train-images-idx3-ubyte.gz"], np.zeros((7, 14, 56), np.uint8))
    refused("train: images of 14x56, expected 28x28; delete", sources.find, source, files)


DEBIAN = Path("/usr/share/datasets/fashion-mnist")
DATES = {"train": 1504176606, "t10k": 1504176627}  # in the headers of the published files


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="needs Debian's package dataset-fashion-mnist")
def test_fashion_mnist_of_debian_is_the_published_one(tmp_path: Path) -> None:
    """60,000 and 10,000 images, a tenth of them of each class; its files are gzipped anew, with the same contents."""
    source = Source.member({"kind": "fashion_mnist", "mirror": str(DEBIAN)})
    files = {archive.name: tmp_path / archive.name for archive in source.archives}
    for archive in source.archives:
        fetch(archive, files[archive.name], source.mirror, lambda done: None)
        assert downloaded(archive, tmp_path) == files[archive.name]
        # gzip's name and date put back: the published file, byte for byte.
        name = archive.name.removesuffix(".gz").encode()
        date = DATES[archive.name.partition("-")[0]].to_bytes(4, "little")
        deflated = files[archive.name].read_bytes()[10:]
        published = b"\x1f\x8b\x08\x08" + date + b"\x00\x03" + name + b"\x00" + deflated
        assert (hashlib.sha256(published).hexdigest(), len(published)) == (archive.sha256, archive.bytes)
    dataset = Dataset(source=source)
    prepared = prepare(dataset, files)
    assert np.bincount(prepared.split).tolist() == [54_000, 6_000, 10_000]
    assert dataset.split_rows == {"train": 54_000, "select": 6_000, "test": 10_000}
    labels = prepared.listing.labels
    assert np.bincount(labels[prepared.split == 2]).tolist() == [1000] * 10
    assert np.bincount(labels[prepared.split != 2]).tolist() == [6000] * 10
    assert prepared.listing.images.shape == (70_000, 28, 28, 1)
    assert prepared.listing.images.mean() / 255 == pytest.approx(0.2862, abs=2e-4)  # of train, as published: 0.2860


def write_cifar(folder: Path, kind: str) -> Path:
    """A tiny archive of the real form, with its extracted files beside it."""
    form = LAYOUTS[kind]
    base = folder / form.archive.replace("python.tar.gz", "batches-py" if kind == "cifar10" else "python")
    base.mkdir()
    for i, name in enumerate((*form.train, form.test)):
        ids = RNG.integers(0, 3, 2 + i).tolist()
        batch = {
            "data": RNG.integers(0, 256, (2 + i, 3072), np.uint8),
            form.labels: ids,
            "coarse_labels": [0] * len(ids),
        }
        (base / name).write_bytes(pickle.dumps(batch, protocol=3))
    (base / form.meta).write_bytes(pickle.dumps({form.classes: ["ant", "bee", "cat"]}, protocol=3))
    with tarfile.open(folder / form.archive, "w:gz") as tar:
        tar.add(base, base.name)
    return folder / form.archive


@pytest.mark.parametrize(("kind", "reader"), [("cifar10", reference.CIFAR10), ("cifar100", reference.CIFAR100)])
def test_cifar_as_torchvision_reads_it(kind: str, reader: type, tmp_path: Path) -> None:
    lists = {part: [[name, None] for name, _ in getattr(reader, part)] for part in ("train_list", "test_list")}
    unchecked = type("Unchecked", (reader,), lists | {"meta": reader.meta | {"md5": None}})

    path = write_cifar(tmp_path, kind)
    listing = sources.find(Source.member({"kind": kind}), {path.name: path})
    for split, train in ((TRAIN, True), (TEST, False)):
        expected, here = unchecked(tmp_path, train=train), listing.official == split
        assert np.array_equal(listing.images[here], expected.data)
        assert np.array_equal(listing.labels[here], expected.targets)
        assert list(listing.classes) == expected.classes
    assert listing.images.shape[1:] == (32, 32, 3)


def test_the_same_images_have_the_same_content_whatever_they_came_in(tmp_path: Path) -> None:
    """CIFAR-10's own training file, and a zip of its images in EDM's form: what makes results comparable."""
    archive = write_cifar(tmp_path, "cifar10")
    listing = sources.find(Source.member({"kind": "cifar10"}), {archive.name: archive})
    train = np.flatnonzero(listing.official == TRAIN)
    packed = tmp_path / "packed.zip"
    with zipfile.ZipFile(packed, "w") as images:
        for row in train.tolist():
            images.writestr(f"{row:05}.png", png(listing.images[row]))
        labels = [[f"{row:05}.png", int(listing.labels[row])] for row in train.tolist()]
        images.writestr("dataset.json", json.dumps({"labels": labels, "classes": list(listing.classes)}))

    def content(source: dict, **keys: object) -> str:
        dataset = Dataset(source=source, split={"kind": "last", "select": 3, "test": 4}, **keys)
        listing, _, split = prepare(dataset, {archive.name: archive})
        path, shape = tmp_path / "images.h5", {"size": 32, "channels": 3, "resize": "crop"}
        attributes = {"scratch": tmp_path / "scratch", "classes": list(listing.classes)}
        store.fill(path, listing.images, listing.labels, split, **shape, **attributes)
        return store.describe(path)["content"]

    theirs = content({"kind": "zip", "paths": [str(packed)]}, size=32)
    assert content({"kind": "cifar10"}, only="train") == theirs != content({"kind": "cifar10"})
    tested = prepare(
        Dataset(source={"kind": "cifar10"}, only="test", split={"kind": "last", "select": 1, "test": 1}),
        {archive.name: archive},
    )
    assert np.array_equal(tested.listing.images, listing.images[listing.official == TEST])
    refused("no such split", prepare, Dataset(source={"kind": "zip", "paths": [str(packed)]}, size=32, only="test"), {})


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "png")
    return buffer.getvalue()


def test_images_of_another_content_are_refused(tmp_path: Path) -> None:
    config = {"source": {"kind": "digits"}, "content": "0" * 64}
    command = [sys.executable, ROOT / "workflow/scripts/images.py", json.dumps(config), "--with", "dataset=digits"]
    out = tmp_path / "images.h5"
    command += ["--out", f"images={out}", f"receipt={out}.json", "--log", tmp_path / "a.log"]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode != 0 and not list(tmp_path.glob("images*"))
    line = ended.stderr.strip().splitlines()[-1]
    assert "datasets.digits.content" in line and "use the same source" in line


class Harmful:
    """Unpickled, it would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_damaged_and_harmful_cifar_is_refused(tmp_path: Path) -> None:
    path = write_cifar(tmp_path, "cifar10")
    whole = path.read_bytes()
    for cut in (0, 100, len(whole) // 2):
        path.write_bytes(whole[:cut])
        refused(
            "cifar-10-python.tar.gz.*download it again",
            sources.find,
            Source.member({"kind": "cifar10"}),
            {path.name: path},
        )
    for content, line in (
        ([1, 2], "a member holds a list"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [0]}, "labels are not a label for each image"),
        ({"data": np.zeros((2, 3072)), "labels": [0, 1]}, "data is not an array of images"),
        ({"labels": [0]}, "lacks 'data'"),
    ):
        (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(pickle.dumps(content))
        with tarfile.open(path, "w:gz") as tar:
            tar.add(tmp_path / "cifar-10-batches-py", "cifar-10-batches-py")
        refused(f"{line}.*download it again", sources.find, Source.member({"kind": "cifar10"}), {path.name: path})
    with gzip.open(path, "wb") as file:
        member = tarfile.TarInfo("data_batch_1")
        member.size = 2**40
        file.write(member.tobuf())
    refused(
        "declared with 1,099,511,627,776 bytes", sources.find, Source.member({"kind": "cifar10"}), {path.name: path}
    )
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(pickle.dumps(Harmful(tmp_path / "harm")))
    with tarfile.open(path, "w:gz") as tar:
        tar.add(tmp_path / "cifar-10-batches-py", "cifar-10-batches-py")
    refused("refers to pathlib", sources.find, Source.member({"kind": "cifar10"}), {path.name: path})
    assert not (tmp_path / "harm").exists()


def test_every_download_has_its_reader() -> None:
    for kind in downloaded_kinds():
        archives = Source.members[kind].archives
        with pytest.raises((UserError, KeyError)) as error:  # the first file that the reader asks for
            sources.find(
                Source.member({"kind": kind}), {archive.name: Path("/nowhere") / archive.name for archive in archives}
            )
        assert isinstance(error.value, UserError), f"{kind} asks for {error.value}"
        assert all(len(bytes.fromhex(archive.sha256)) == 32 for archive in archives)


TINY = {
    "words.txt": "n02\tcrane\nn01\tgoldfish, Carassius auratus\nn03\tcrane\nn09\tunused\n",
    "val/val_annotations.txt": "val_0.JPEG\tn03\t0\t0\t9\t9\nval_1.JPEG\tn01\t0\t0\t9\t9\n",
}
TINY_IMAGES = ["val/images/val_1.JPEG", "val/images/val_0.JPEG", "test/images/test_0.JPEG"]
TINY_IMAGES += [f"train/n0{i}/images/n0{i}_{j}.JPEG" for i in (3, 1, 2) for j in (10, 9)]


def tiny(path: Path, texts: dict[str, str], images: list[str]) -> Listing:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in [*texts.items(), *((image, "") for image in images)]:
            archive.writestr(f"tiny-imagenet-200/{name}", text)
    return sources.find(Source.member({"kind": "tiny_imagenet"}), {path.name: path})


def test_tiny_imagenet(tmp_path: Path) -> None:
    path = tmp_path / "tiny-imagenet-200.zip"
    listing = tiny(path, TINY, TINY_IMAGES)
    assert listing.classes == ("goldfish, Carassius auratus", "crane (n02)", "crane (n03)")
    assert [(name.rpartition("/")[2], *rest) for name, *rest in rows(listing)] == [
        *((f"n0{i}_{j}.JPEG", i - 1, TRAIN) for i in (1, 2, 3) for j in (10, 9)),
        ("val_0.JPEG", 2, TEST),
        ("val_1.JPEG", 0, TEST),
    ]
    with zipfile.ZipFile(path) as archive:
        assert all(name in archive.namelist() for _, name in listing.images.entries)
    refused("lacks .*val_annotations", tiny, path, {"words.txt": ""}, TINY_IMAGES)
    refused("no line for val_1.JPEG", tiny, path, TINY | {"val/val_annotations.txt": "val_0.JPEG\tn01"}, TINY_IMAGES)
    refused("names val_0.JPEG, which does not exist", tiny, path, TINY, [*TINY_IMAGES[:1], *TINY_IMAGES[2:]])
    refused("n03 has no folder in train", tiny, path, TINY, [name for name in TINY_IMAGES if "n03" not in name])


def test_imagenet_as_folders_and_as_kaggle_ships_it(tmp_path: Path) -> None:
    train = ["train/n02/b.JPEG", "train/n01/n01_10.JPEG", "train/n01/n01_9.JPEG"]
    plain = grow(tmp_path / "plain", [*train, "val/n02/v1.JPEG", "val/n01/v2.JPEG"])
    kaggle = grow(
        tmp_path / "kaggle", [f"ILSVRC/Data/CLS-LOC/{name}" for name in [*train, "val/v1.JPEG", "val/v2.JPEG"]]
    )
    solution = kaggle / "LOC_val_solution.csv"
    source = ImageNet(kind="imagenet", path=str(kaggle))
    refused(r"LOC_val_solution.csv.*missing", sources.find, source, {})
    solution.write_text("ImageId,PredictionString\nv2,n01 1 2 3 4 n01 5 6 7 8 \nv1,n02 1 2 3 4 \n")
    (kaggle / "LOC_synset_mapping.txt").write_text("n01 tench, Tinca tinca\nn02 goldfish\n")
    listings = sources.find(source, {}), sources.find(ImageNet(kind="imagenet", path=str(plain)), {})
    contents = [sorted((Path(name).name, label, split) for name, label, split in rows(listing)) for listing in listings]
    assert contents[0] == contents[1] == [
        ("b.JPEG", 1, TRAIN), ("n01_10.JPEG", 0, TRAIN), ("n01_9.JPEG", 0, TRAIN),
        ("v1.JPEG", 1, TEST), ("v2.JPEG", 0, TEST),
    ]  # fmt: skip
    assert listings[0].classes == ("tench, Tinca tinca", "goldfish") and listings[1].classes == ("n01", "n02")
    for listing in listings:
        assert all((listing.images.archives[i] / name).is_file() for i, name in listing.images.entries)
    solution.write_text("ImageId,PredictionString\nv2,n01 1 2 3 4\n")
    refused("LOC_val_solution.csv: has no line for v1", sources.find, source, {})
    refused("holds no folder train", sources.find, ImageNet(kind="imagenet", path=str(plain / "val")), {})
    (plain / "train" / "n03").mkdir()
    refused("folder n03 holds no image", sources.find, ImageNet(kind="imagenet", path=str(plain)), {})


def test_celebahq_in_numeric_order_with_an_attribute(tmp_path: Path) -> None:
    masks = "CelebAMask-HQ-mask-anno/0/00000_hair.png"
    root = grow(tmp_path / "CelebAMask-HQ", [masks, *(f"CelebA-HQ-img/{i}.jpg" for i in (10, 9, 0))])
    for path in (root, root / "CelebA-HQ-img"):
        listing = sources.find(CelebAHQ(kind="celebahq", path=str(path)), {})
        assert rows(listing) == [("0.jpg", -1, None), ("9.jpg", -1, None), ("10.jpg", -1, None)]
        assert listing.classes == () and listing.images.archives == (root / "CelebA-HQ-img",)
    source = CelebAHQ(kind="celebahq", path=str(root), attribute="Smiling")
    refused("holds no CelebAMask-HQ-attribute-anno.txt", sources.find, source, {})
    table = root / "CelebAMask-HQ-attribute-anno.txt"
    table.write_text("3\nMale Smiling\n0.jpg  1 -1\n9.jpg  1 1\n10.jpg  -1 -1\n")
    listing = sources.find(source, {})
    assert listing.labels.tolist() == [0, 1, 0] and listing.classes == ("not Smiling", "Smiling")
    refused("no attribute Hat; it has Male Smiling", sources.find, source.model_copy(update={"attribute": "Hat"}), {})
    table.write_text("3\nMale Smiling\n0.jpg  1 -1\n9.jpg  1 1\n10.jpg  -1\n")
    refused("no complete line for 10.jpg", sources.find, source, {})


def test_real_zips() -> None:
    data = os.environ.get("DIFFPROBE_TEST_DATA")
    if not data:
        pytest.skip("DIFFPROBE_TEST_DATA is not set: no CIFAR-10 zips here")
    listing = zips(*(Path(data) / "data" / f"cifar10-{part}.zip" for part in "ab"))
    assert listing.labels[:10].tolist() == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]  # frog, truck, truck, deer, automobile, ...
    assert Counter(listing.labels.tolist()) == dict.fromkeys(range(10), 5000)
    assert listing.classes[:3] == ("airplane", "automobile", "bird") and listing.official is None
    assert listing.images.entries[25_000] == (1, "00025/img00025000.webp")
    split = assign(Last(kind="last", select=5000, test=5000), listing.labels, None, listing.classes)
    assert np.array_equal(np.flatnonzero(split == SELECT), np.arange(40_000, 45_000))
    assert np.array_equal(np.flatnonzero(split == TEST), np.arange(45_000, 50_000))


# Folders and zips.

TREES = {
    "classes": (["b/2.png", "b/1.PNG", "a/x/y.jpeg", "a/3.jpg"], [1, 1, 0, 0], None),
    "flat": (["2.png", "1.webp"], [-1, -1], None),
    "train and val": (["train/a/1.png", "train/b/1.png", "val/b/2.png"], [0, 1, 1], [TRAIN, TRAIN, TEST]),
    "train and test": (["train/1.png", "test/1.png"], [-1, -1], [TRAIN, TEST]),
    "all three": (
        ["train/a/1.png", "train/c/1.png", "Valid/a/1.png", "test/b/2.png"],
        [0, 2, 0, 1],
        [TRAIN, TRAIN, SELECT, TEST],
    ),
    "all in one folder": (["x/my data/train/a/1.png", "x/my data/test/a/1.png"], [0, 0], [TRAIN, TEST]),
    "one class": (["photos/1.png", "photos/2.png"], [0, 0], None),
    "a class called train": (["train/1.png", "tram/1.png"], [0, 1], None),
    "bytes, not words": (["B/1.png", "a/1.png", "Ä/1.png", "a-b/1.png"], [0, 1, 3, 2], None),
    "files of operating systems": (
        ["a/1.png", "a/._1.png", ".b/1.png", "__MACOSX/a/1.png", "Thumbs.db", "a/notes.txt"],
        [0],
        None,
    ),
}


@pytest.mark.parametrize("case", TREES)
def test_labels_and_splits_follow_from_folders(case: str, tmp_path: Path) -> None:
    names, labels, official = TREES[case]
    expected = sorted(
        zip(names, labels, official or [None] * len(labels), strict=False), key=lambda row: row[0].encode()
    )
    inside, packed = folder(grow(tmp_path / "tree", names)), zips(pack(tmp_path / "tree.zip", names))
    assert rows(inside) == rows(packed) == expected
    assert inside.classes == packed.classes and len(inside.classes) == max(labels) + 1
    assert rows(folder(tmp_path / "tree", labels=False)) == [(name, -1, split) for name, _, split in expected]


@settings(max_examples=30, deadline=None)
@given(
    st.dictionaries(
        st.text(st.characters(blacklist_characters="/\\\0.:", codec="utf-8"), min_size=1, max_size=20).filter(
            lambda name: not is_hidden(name)
        ),
        st.sets(st.integers(0, 9), min_size=1, max_size=3),
        min_size=1,
        max_size=5,
    )
)
@example({"new\nline": {1}, "'quoted\"": {2}, "日本": {3}, "a b": {4}, "-": {5}})
def test_a_folder_is_read_as_torchvisions_imagefolder(tmp_path_factory, tree: dict[str, set[int]]) -> None:
    root = grow(tmp_path_factory.mktemp("tree"), [f"{name}/{i}.png" for name, ids in tree.items() for i in ids])
    expected, listing = reference.ImageFolder(str(root)), folder(root)
    assert list(listing.classes) == expected.classes
    # The order of labels is that of classes; of rows, that of whole names.
    assert Counter((str(root / name), label) for name, label, _ in rows(listing)) == Counter(expected.samples)
    assert [name for name, _, _ in rows(listing)] == sorted(name for name, _, _ in rows(listing))


def test_names_that_are_not_utf8_links_and_loops(tmp_path: Path) -> None:
    root, odd = grow(tmp_path / "tree", ["a/1.png"]), os.fsdecode(b"caf\xe9 \xff")
    grow(root, [f"{odd}/{odd}\n.png"])
    (root / "a" / "loop").symlink_to(root)
    (root / "linked").symlink_to(grow(tmp_path / "elsewhere", ["2.png"]))
    (root / "a" / "3.png").symlink_to(tmp_path / "elsewhere" / "2.png")
    listing = folder(root)
    assert rows(listing) == [("a/1.png", 0, None), ("a/3.png", 0, None), (f"{odd}/{odd}\n.png", 1, None),
                           ("linked/2.png", 2, None)]  # fmt: skip
    assert all((root / name).is_file() for _, name in listing.images.entries)
    json.dumps(listing.classes).encode()
    "".join([*listing.classes, folder(root / odd, labels=False).origin]).encode()  # can be stored and printed
    (root / "gone").symlink_to(tmp_path / "nowhere")
    refused("tree/gone: broken link", folder, root)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], r"tree: holds no image \(.png .jpg"),
        (["notes.txt", ".hidden.png"], r"tree: holds no image"),
        (["1.png", "a/1.png"], r"beside class folders \(1.png\) and in them \(a/1.png\).*labels: false"),
        (["1.png", "c\nd/1.png"], r"in them \('c\\nd/1.png'\)"),
        (["train/1.png", "test/a/1.png"], r"beside class folders \(train/1.png\)"),
        (["train/1.png", "test/1.png", "more/1.png"], "folder more lies beside split folders"),
        (["train/1.png", "val/1.png", "valid/1.png"], "train, val, valid are the same split"),
    ],
)
def test_folders_and_zips_that_contradict_themselves(names: list[str], message: str, tmp_path: Path) -> None:
    refused(message, folder, grow(tmp_path / "tree", names))
    refused(message.replace("tree", "tree.zip"), zips, pack(tmp_path / "tree.zip", names))


def test_missing_folders_and_zips(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    refused("nowhere: no such folder; check the path", folder, tmp_path / "nowhere")
    refused("file: not a folder", folder, tmp_path / "file")
    refused("nowhere.zip: no such zip", zips, tmp_path / "nowhere.zip")
    refused("file: damaged or not a zip", zips, tmp_path / "file")
    refused("Is a directory.; check the path", zips, tmp_path)


def test_any_truncated_zip_is_noticed(tmp_path: Path) -> None:
    whole = pack(tmp_path / "whole.zip", ["a/1.png", "b/2.png"]).read_bytes()
    cut = tmp_path / "cut.zip"
    for size in range(len(whole)):
        cut.write_bytes(whole[:size])
        refused(r"cut.zip: damaged or not a zip \(.*\); download or create it again", zips, cut)
    cut.write_bytes(whole[7:])
    refused("cut.zip: damaged or not a zip", zips, cut)


@pytest.mark.parametrize("name", ["/etc/1.png", "../1.png", "a/../../1.png", "C:1.png", "c:/1.png", "a\\..\\1.png"])
def test_zip_entries_that_would_write_elsewhere(name: str, tmp_path: Path) -> None:
    refused("tree.zip: entry .* would leave the folder", zips, pack(tmp_path / "tree.zip", ["a/1.png", name]))


def test_encrypted_unsupported_and_duplicate_entries(tmp_path: Path) -> None:
    path = pack(tmp_path / "tree.zip", ["1.png"])
    whole = path.read_bytes()
    entry = whole.index(b"PK\1\2")  # in the central directory: flags at 8, method at 10
    path.write_bytes(whole[: entry + 8] + b"\1" + whole[entry + 9 :])
    refused("entry 1.png is encrypted", zips, path)
    path.write_bytes(whole[: entry + 10] + b"\x09" + whole[entry + 11 :])
    refused("entry 1.png has an unsupported compression", zips, path)
    with pytest.warns(UserWarning, match="Duplicate name"):
        pack(path, ["1.png", "1.png"])
    refused("holds 1.png twice", zips, path)


IMAGES = ["00000/img0.png", "00000/img1.png"]
BOTH = [[IMAGES[0], 1], [IMAGES[1], 0]]


def test_labels_come_from_dataset_json(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.zip", IMAGES[::-1], {"labels": BOTH})
    assert rows(zips(path)) == [(IMAGES[0], 1, None), (IMAGES[1], 0, None)]
    assert zips(path).classes == ("0", "1")
    other = pack(tmp_path / "b.zip", ["0.png", "train/9.png"], {"labels": [["0.png", 2], ["train/9.png", 0]]})
    named = pack(tmp_path / "c.zip", ["0.png"], {"labels": [["0.png", 1]], "classes": ["ant", "bee", "cat"]})
    marked = pack(tmp_path / "bom.zip", IMAGES, b"\xef\xbb\xbf" + json.dumps({"labels": BOTH}).encode())
    assert zips(marked).labels.tolist() == zips(path).labels.tolist()
    listing = zips(path, other, named)
    assert listing.labels.tolist() == [1, 0, 2, 0, 1] and listing.classes == ("ant", "bee", "cat")
    assert listing.images.entries[1:4] == [(0, IMAGES[1]), (1, "0.png"), (1, "train/9.png")]
    assert listing.origin == "a.zip + b.zip + c.zip"
    for content in ({"labels": None}, {}):  # EDM's way to say that its folders are no classes
        assert zips(pack(tmp_path / "d.zip", IMAGES, content)).labels.tolist() == [-1, -1]
    assert zips(path, labels=False).labels.tolist() == [-1, -1]
    assert zips(pack(tmp_path / "e.zip", IMAGES, b"not JSON"), labels=False).classes == ()


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (b"{", r"a.zip: dataset.json: not JSON \(.*\); write it as"),
        (b"\xff", "not JSON"),
        ([], "not of the form"),
        ({"labels": {}}, "not of the form"),
        ({"labels": [BOTH[0]]}, "no label for 00000/img1.png"),
        ({"labels": [["x\n.png", 0]]}, r"labels none of the images, but 'x\\n.png', which is not an image"),
        (
            {"labels": [[IMAGES[0], 2_000_000_000], BOTH[1]]},
            "label 2000000000; class ids are integers from 0, not above",
        ),
        ({"labels": [[IMAGES[0], 10**30], BOTH[1]]}, "label 10+; class ids are integers"),
        ({"labels": [[{}, 0]]}, r"in labels is not \[name, class id\]"),
        ({"labels": BOTH, "classes": {"ant": 0}}, "not a list of distinct names"),
        (b"[" * 100_000, "not JSON"),
        ({"labels": [*BOTH, BOTH[0]]}, "labels 00000/img0.png twice"),
        ({"labels": [[IMAGES[0], 1.0], BOTH[1]]}, "label 1.0; class ids are integers"),
        ({"labels": [[IMAGES[0], True], BOTH[1]]}, "label true; class ids are integers"),
        ({"labels": [[IMAGES[0], -1], BOTH[1]]}, "label -1; class ids are integers"),
        ({"labels": [[IMAGES[0]], BOTH[1]]}, r"in labels is not \[name, class id\]"),
        ({"labels": BOTH, "classes": ["ant"]}, "label 1, but there are only 1 classes"),
        ({"labels": BOTH, "classes": ["ant", "ant"]}, "not a list of distinct names"),
    ],
)
def test_dataset_json_that_contradicts_itself(manifest: object, message: str, tmp_path: Path) -> None:
    refused(message, zips, pack(tmp_path / "a.zip", IMAGES, manifest))


def test_zips_of_one_dataset_agree(tmp_path: Path) -> None:
    labelled = pack(tmp_path / "a.zip", IMAGES, {"labels": BOTH, "classes": ["ant", "bee"]})
    others = {
        "no labels": pack(tmp_path / "b.zip", ["1.png"]),
        "class folders": pack(tmp_path / "c.zip", ["ant/1.png"]),
    }
    for way, path in others.items():
        refused(rf"a.zip has labels in dataset.json, \S*{path.name} has {way}; all", zips, labelled, path)
    renamed = pack(tmp_path / "d.zip", IMAGES, {"labels": BOTH, "classes": ["bee", "ant"]})
    refused("files name different classes", zips, labelled, renamed)
