"""What lies among the images of a source: labels in files, names of splits, what is left out, and that it is shown."""

import json
import unicodedata
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from diffprobe.config.datasets import Dataset
from diffprobe.config.load import load
from diffprobe.config.sources.folder import Folder
from diffprobe.config.sources.zip import Zip
from diffprobe.data import sources
from diffprobe.data.archives import Archives, refuse_bomb
from diffprobe.data.convert import pixels
from diffprobe.data.listing import Files, Listing
from diffprobe.data.prepared import prepare
from diffprobe.data.sources.splitnames import split_name
from diffprobe.reporting.dataset import facts, of_receipt, rows, show
from diffprobe.runtime.errors import UserError
from diffprobe.starter import config_for

EVERY = ("folder", "zip")


def grow(root: Path, names: list[str], **texts: str) -> Path:
    """A folder with empty files of these names (folders where a name ends in `/`), and files with text."""
    for name in names:
        path = root / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.write_bytes(b"not decoded here")
    for name, text in texts.items():
        (root / name.replace("__", "/").replace("_json", ".json").replace("_csv", ".csv")).write_text(text)
    return root


def pack(root: Path) -> Path:
    path = root.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(root.rglob("*")):
            archive.write(file, file.relative_to(root).as_posix())
    return path


def listed(root: Path, kind: str = "folder", labels: bool = True) -> Listing:
    if kind == "zip":
        return sources.find(Zip(kind="zip", paths=[str(pack(root))], labels=labels), {})
    return sources.find(Folder(kind="folder", path=str(root), labels=labels), {})


def labels_of(listing: Listing) -> dict[str, str]:
    """The class of each image by name."""
    assert isinstance(listing.images, Files)
    return {
        name: listing.classes[label] for (_, name), label in zip(listing.images.entries, listing.labels, strict=True)
    }


def left_out(listing: Listing) -> dict[str, int]:
    return {item.what: item.count for item in listing.survey.left_out}


def notes(listing: Listing) -> str:
    return "\n".join(listing.survey.notes)


SHELVES = [f"0000{i // 4}/img{i}.png" for i in range(8)]


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("outer", ["", "edm/"])
def test_an_edm_set_is_labelled_by_its_file_not_by_its_shelves(tmp_path: Path, kind: str, outer: str) -> None:
    ids = [(3, 7, 9)[i % 3] for i in range(8)]
    root = grow(tmp_path / "set", [outer + name for name in SHELVES])
    (root / outer / "dataset.json").write_text(json.dumps({"labels": list(zip(SHELVES, ids, strict=True))}))
    listing = listed(root, kind)
    assert labels_of(listing) == {outer + name: str(i) for name, i in zip(SHELVES, ids, strict=True)}
    assert listing.classes == ("3", "7", "9") and listing.survey.labels_from == f"{outer}dataset.json"
    (root / outer / "dataset.json").write_text('{"labels": null}')
    assert listed(root, kind).classes == ()
    assert listed(root, kind, labels=False).classes == ()


def test_a_dataset_json_of_another_tool_is_passed_over(tmp_path: Path) -> None:
    root = grow(tmp_path / "set", ["a/1.png", "b/2.png"], dataset_json='{"name": "mine", "licences": []}')
    listing = listed(root)
    assert listing.classes == ("a", "b") and 'dataset.json was passed over: it has no key "labels"' in notes(listing)
    (root / "dataset.json").write_text('{"labels": [["a/1.p')
    with pytest.raises(UserError, match=r"set: dataset.json: not JSON .*write it as"):
        listed(root)


def test_class_folders_that_agree_with_a_file_name_the_classes(tmp_path: Path) -> None:
    root = grow(tmp_path / "set", ["cat/1.png", "cat/2.png", "dog/3.png"])
    (root / "metadata.csv").write_text("file_name,label\ncat/1.png,1\ncat/2.png,1\ndog/3.png,0\n")
    for kind in EVERY:
        listing = listed(root, kind)
        assert labels_of(listing) == {"cat/1.png": "cat", "cat/2.png": "cat", "dog/3.png": "dog"}
        assert "agrees with the class folders" in notes(listing)


METADATA = {
    "csv": ("metadata.csv", "file_name,label\n1.png,10\n2.png,9\n3.png,10\n", ["9", "10"]),
    "names": ("metadata.csv", "\ufefffile_name;text;label\n1.png;x;b\n2.png;y;a\n3.png;z;b\n", ["a", "b"]),
    "gaps of pandas": ("metadata.csv", "label,file_name\n2.0,1.png\n0.0,2.png\n2.0,3.png\n", ["0", "2"]),
    "-1 of pandas": ("metadata.csv", "label,file_name\n2.0,1.png\n0.0,2.png\n2.0,3.png\n-1.0,4.png\n", ["0", "2"]),
    "the name as it is": ("metadata.csv", "file_name,label\n1.PNG,a\n1.png,b\n2.png,a\n3.png,b\n", ["a", "b"]),
    "jsonl": (
        "metadata.jsonl",
        '{"file_name": "1.png", "label": 1}\n{"file_name": "2.png", "label": 0}\n{"file_name": "3.png", "label": 1}\n',
        ["0", "1"],
    ),
}


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("case", METADATA)
def test_metadata_of_hugging_face(tmp_path: Path, case: str, kind: str) -> None:
    name, text, classes = METADATA[case]
    root = grow(tmp_path / "set", ["1.png", "2.png", "3.png"])
    (root / name).write_text(text, encoding="utf-8")
    listing = listed(root, kind)
    assert list(listing.classes) == classes and listing.labels.tolist() == [1, 0, 1]
    assert listing.survey.labels_from == name


def test_metadata_in_each_split_and_images_without_a_row(tmp_path: Path) -> None:
    root = grow(tmp_path / "set", [f"{split}/{i}.png" for split in ("train", "validation", "test") for i in range(3)])
    for split in ("train", "validation"):
        (root / split / "metadata.csv").write_text("file_name,label\n0.png,a\n1.png,b\n9.png,b\n")
    (root / "test" / "metadata.csv").write_text("file_name,caption\n0.png,none\n")
    listing = listed(root)
    assert listing.official is not None and listing.official.tolist() == [0, 0, 2, 2]
    assert left_out(listing) == {"image without a label": 5}  # one of each labelled split, three of test
    assert "an image that is not here (9.png)" in notes(listing) and "test/metadata.csv was passed over" in notes(
        listing
    )


def test_files_of_several_folders_are_read_alike(tmp_path: Path) -> None:
    root = grow(tmp_path / "set", [f"{part}/{i}.png" for part in ("a", "b") for i in range(3)])
    (root / "a/metadata.csv").write_text("file_name,label\n0.png,1\n1.png,2\n2.png,1\n")
    (root / "b/metadata.csv").write_text("file_name,label\n0.png,1\n1.png,2\n2.png,10A\n")
    assert list(listed(root).classes) == ["1", "10A", "2"]  # numbers by themselves in one file, names in all
    (root / "metadata.csv").write_text("file_name,label\na/0.png,2\n")
    with pytest.raises(UserError, match=r"a/0.png is labelled [12] and [12]; keep one"):
        listed(root)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("metadata.csv", "file_name,label\n7.png,0\n", "labels none of the images, but 7.png"),
        ("metadata.csv", "file_name,label\n1.png,0\n1.png,1\n", "labels 1.png twice"),
        ("metadata.csv", "file_name,label\n1.PNG,a\n1.Png,b\n", "1.png is labelled a and b; keep one"),
        ("metadata.csv", "file_name,label\n1.png,0\n", "has no label for 2.png, nor for most .*--no-labels"),
        ("metadata.csv", 'file_name,label\n"1.png,0\n', "not CSV"),
        ("metadata.jsonl", '{"file_name": "1.png", "label": 0}\n{"file_n', "line 2 is not .*; correct it"),
        ("metadata.jsonl", '[["1.png", 0]]\n', "line 1 is not"),
        ("metadata.jsonl", '{"file_name": ["1.png"], "label": 0}\n', "line 1 is not"),
    ],
)
def test_metadata_that_contradicts_the_images(tmp_path: Path, name: str, text: str, message: str) -> None:
    root = grow(tmp_path / "set", ["1.png", "2.png", "3.png"])
    (root / name).write_text(text)
    for kind in EVERY:
        with pytest.raises(UserError, match=message) as error:
            listed(root, kind)
        assert "\n" not in str(error.value)
        assert listed(root, kind, labels=False).classes == ()


def test_names_written_on_another_system_are_matched(tmp_path: Path) -> None:
    nfc, nfd = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    root = grow(tmp_path / "set", [f"x/{nfd}.png", "x/B.PNG", "x/c.png"])
    table = {"labels": [[f"x/{nfc}.png", 0], ["x\\b.png", 1], ["x/c.png", 1]], "classes": ["ant", "bee"]}
    (root / "dataset.json").write_text(json.dumps(table))
    listing = listed(root)
    assert labels_of(listing) == {f"x/{nfd}.png": "ant", "x/B.PNG": "bee", "x/c.png": "bee"}
    assert "writes 2 names otherwise" in notes(listing)


def test_classes_that_look_the_same_are_named(tmp_path: Path) -> None:
    names = [unicodedata.normalize(form, "café") for form in ("NFC", "NFD")]
    listing = listed(grow(tmp_path / "set", [f"{name}/1.png" for name in [*names, "Dog", "dog ", "cat"]]))
    assert len(listing.classes) == 5
    assert r"'cafe\u0301', 'caf\xe9' differ only" in notes(listing) and "'Dog', 'dog ' differ only" in notes(listing)


@pytest.mark.parametrize(
    ("folder", "split"),
    [
        *(
            (name, "train")
            for name in ("train", "Training", "TRAIN", "tr", "train2017", "training_set", "TrainSet", " train")
        ),
        *((name, "select") for name in ("val", "valid", "Validation", "dev", "select", "val_images")),
        *((name, "test") for name in ("test", "Testing", "eval", "holdout", "hold-out", "testset", "images_test")),
        *((name, "") for name in ("a", "trains", "training day", "contest", "train_test", "eva", "devil", "00000")),
    ],
)
def test_names_of_splits(folder: str, split: str) -> None:
    assert split_name(folder).split == split or (split_name(folder).rest and not split)


@pytest.mark.parametrize("kind", EVERY)
def test_splits_by_the_names_that_people_give(tmp_path: Path, kind: str) -> None:
    names = ["seg_train/seg_train/sea/1.png", "seg_train/seg_train/ice/2.png", "seg_test/seg_test/sea/3.png"]
    listing = listed(grow(tmp_path / "set", [*names, "seg_pred/seg_pred/4.png"]), kind)
    assert listing.classes == ("ice", "sea") and left_out(listing) == {"image in seg_pred/": 1}
    assert listing.official is not None and listing.official.tolist() == [2, 0, 0]
    assert listing.survey.splits_from == "folders seg_train (train), seg_test (test)"
    assert listed(grow(tmp_path / "languages", ["tr/1.png", "te/2.png", "en/3.png"]), kind).official is None


@pytest.mark.parametrize("kind", EVERY)
def test_what_is_not_part_of_the_set_is_left_out(tmp_path: Path, kind: str) -> None:
    images = [f"{name}/{i}.png" for name in "ab" for i in range(3)]
    litter = ["a/@eaDir/0.png/SYNOPHOTO_THUMB_M.png", "b/@eaDir/1.png/SYNOPHOTO_THUMB_M.png", "#recycle/a/9.png"]
    litter += [
        "a/.ipynb_checkpoints/0-checkpoint.png",
        "$RECYCLE.BIN/1.png",
        "lost+found/",
        "a/Thumbs.db",
        ".git/x.png",
    ]
    others = ["preview.png", "docs/", "a/x.heic", "b/y.heic", "notes.txt", "README", "b/z.npy"]
    listing = listed(grow(tmp_path / "set", images + litter + others), kind)
    assert sorted(labels_of(listing)) == sorted(images)
    assert left_out(listing) == {
        "@eaDir": 2, "#recycle": 1, ".ipynb_checkpoints": 1, "$RECYCLE.BIN": 1, "lost+found": 1, "Thumbs.db": 1,
        "hidden file or folder": 1, "image beside class folders": 1, "folder without images": 1, ".heic": 2, ".npy": 1,
        ".txt": 1, "file without extension": 1,
    }  # fmt: skip
    everything = listed(tmp_path / "set", kind, labels=False)
    assert len(everything.labels) == len(images) + 1


@pytest.mark.parametrize("kind", EVERY)
def test_a_flat_unlabelled_test_is_left_out(tmp_path: Path, kind: str) -> None:
    root = grow(tmp_path / "set", ["train/a/1.png", "train/b/2.png", "test/3.png", "test/4.png"])
    listing = listed(root, kind)
    assert labels_of(listing) == {"train/a/1.png": "a", "train/b/2.png": "b"} and listing.official is None
    assert left_out(listing) == {"image in test/": 2}
    listing = listed(grow(root, ["val/a/5.png"]), kind)
    assert listing.official is not None and listing.official.tolist() == [0, 0, 2]


def test_other_extensions_of_the_formats_that_are_read(tmp_path: Path) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8))
    for name, form in (("a.jfif", "jpeg"), ("b.JPE", "jpeg"), ("c.avif", "avif"), ("d.apng", "png"), ("e.png ", "png")):
        image.save(tmp_path / name, form)
    listing = listed(tmp_path)
    assert isinstance(listing.images, Files)
    assert [name for _, name in listing.images.entries] == ["a.jfif", "b.JPE", "c.avif", "d.apng", "e.png "]
    with Archives(listing.images.archives) as archives:
        decoded = [pixels(archives.read(entry), entry[1], 8, 3, "crop") for entry in listing.images.entries]
    assert np.array_equal(decoded[3], np.asarray(image)) and np.array_equal(decoded[0], decoded[1])


def test_a_zip_bomb_is_refused_by_its_directory(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("1.png", bytes(70 << 20))
    with pytest.raises(UserError, match=r"bomb.zip: entry 1.png would unpack to 73,400,320 bytes"):
        sources.find(Zip(kind="zip", paths=[str(bomb)]), {})
    entry = zipfile.ZipInfo("1.png")
    entry.file_size = entry.compress_size = 1 << 40
    with pytest.raises(UserError, match="more than an image holds"):
        refuse_bomb(bomb, entry)
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("1.png", b"")
        archive.writestr("dataset.json", bytes(70 << 20))
    with pytest.raises(UserError, match=r"dataset.json is larger than the labels of these images"):
        sources.find(Zip(kind="zip", paths=[str(bomb)]), {})
    sparse = tmp_path / "folder" / "1.png"
    sparse.parent.mkdir()
    with sparse.open("wb") as file:
        file.truncate(1 << 40)
    with Archives((sparse.parent,)) as archives, pytest.raises(UserError, match=r"1.png: has 1,099,511,627,776 bytes"):
        archives.read((0, "1.png"))


def test_any_damaged_byte_of_a_zips_directory_ends_in_one_line(tmp_path: Path) -> None:
    path = pack(
        grow(tmp_path / "set", ["a/1.png", "b/2.png"], dataset_json='{"labels": [["a/1.png", 0], ["b/2.png", 1]]}')
    )
    whole = path.read_bytes()
    for at in range(whole.index(b"PK\1\2"), len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            sources.find(Zip(kind="zip", paths=[str(path)]), {})  # a flipped time stamp, say, is harmless
        except UserError as error:
            assert "\n" not in str(error) and "set.zip" in str(error)


def pictures(root: Path, counts: dict[str, int]) -> Path:
    for name, count in counts.items():
        for i in range(count):
            data = BytesIO()
            Image.new("RGB", (8, 8), (i, 0, 0)).save(data, "png")
            path = root / name / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data.getvalue())
    return root


def test_a_first_run_shows_what_it_saw_and_what_follows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = pictures(tmp_path / "pets", {"cat": 12, "dog": 12, "emu": 1, "": 1})
    (root / "x.heic").write_bytes(b"x")
    path = config_for(root, None, tmp_path)
    shown = capsys.readouterr().err
    assert "images      26\n" in shown  # without labels, the one beside the folders too
    assert "1 .heic: not a format that is read; convert it to PNG or JPEG (x.heic)" in shown
    assert "a class needs 10 images, but emu has 1; add images, or take the class out" in shown
    assert load(path).datasets["pets"].source.labels is False
    config_for(pictures(tmp_path / "two", {"cat": 12, "dog": 12}), None, tmp_path)
    shown = capsys.readouterr().err
    assert "2, from class folders: cat (12), dog (12)" in shown and "left out    nothing" in shown
    assert "train 16, select 4, test 4 (a share of each class)" in shown


def test_labels_can_be_refused_before_there_is_a_config(tmp_path: Path) -> None:
    root = pictures(tmp_path / "odd", {"": 12, "edited": 12})
    with pytest.raises(UserError, match="diffprobe run --no-labels"):
        config_for(root, None, tmp_path)
    path = config_for(root, None, tmp_path, labels=False)
    assert load(path).datasets["odd"].source.labels is False
    assert config_for(root, None, tmp_path, labels=False) == path
    labelled = config_for(pictures(tmp_path / "two", {"cat": 12, "dog": 12}), None, tmp_path)
    with pytest.raises(UserError, match=r"two.yaml: reads labels"):
        config_for(tmp_path / "two", None, tmp_path, labels=False)
    with pytest.raises(UserError, match=r"in .*two.yaml set `labels: false`"):
        config_for(labelled, None, tmp_path, labels=False)


def test_the_same_facts_reach_terminal_and_report(tmp_path: Path) -> None:
    root = pictures(tmp_path / "set", {f"class {i}": 10 for i in range(12)})
    (root / "a.tfrecord").write_bytes(b"x")
    dataset = Dataset(source=Folder(kind="folder", path=str(root)), size=8)
    seen = facts(dataset, prepare(dataset, {}))
    assert of_receipt({"seen": json.loads(seen.model_dump_json())}) == seen
    assert len(dict(rows(seen))["classes"].split("class")) > len(dict(rows(seen, 3))["classes"].split("class"))
    assert dict(rows(seen, 3))["classes"].endswith("class 10 (10), and 9 more")
    console = Console(width=60, force_terminal=True, file=(tmp_path / "terminal").open("w"))
    show("set", seen, console=console)
    console.file.close()
    assert ".tfrecord" in (tmp_path / "terminal").read_text()
    store = {"images": 3, "classes": ["a"], "train": 1, "select": 1, "test": 1}
    assert dict(rows(of_receipt({"store": store}))) == {  # of a receipt made before
        "images": "3", "classes": "1: a", "splits": "train 1, select 1, test 1",
    }  # fmt: skip
