"""Masks go through a store beside their images: the same crop, the same order, every source; what is refused."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from diffprobe.config.datasets import Dataset
from diffprobe.data import images, masks
from diffprobe.data.hdf5 import open_store
from diffprobe.data.masksources import PARTS, read_mask
from diffprobe.data.order import shuffled_rows
from diffprobe.data.prepared import default_channels, divide, list_images
from diffprobe.runtime.errors import UserError

RNG = np.random.default_rng(0)


def stored(folder: Path, settings: dict[str, Any], name: str = "images") -> Path:
    """The store of a dataset, as its job makes it."""
    dataset = Dataset.model_validate(settings)
    listing, path = list_images(dataset, {}), folder / f"{name}.h5"
    split, rows = divide(dataset, listing).split, shuffled_rows(listing)
    if rows is not None:
        listing, split = listing.take(rows), split[rows]
    images.fill(
        path,
        listing.images,
        listing.labels,
        split,
        size=dataset.size,
        channels=dataset.channels or default_channels(listing),
        resize=dataset.resize,
        scratch=folder / f"scratch_{name}",
        order=rows,
        masks=listing.masks,
        pixels=dataset.decode == "once",
        classes=list(listing.classes),
    )
    return path


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """All images and all masks of a store."""
    with open_store(path) as file:
        rows = np.arange(file.shape[0])
        return images.gather(file, rows), masks.gather(file, rows)


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def folders(root: Path, n: int = 12, shape: tuple[int, int] = (32, 48)) -> dict[str, np.ndarray]:
    """Images in two class folders, and masks of five values and 255; the masks by name."""
    made = {}
    for i in range(n):
        name = f"{'ab'[i % 2]}/{i}"
        made[name] = RNG.choice(np.array([0, 1, 2, 3, 4, 255], np.uint8), shape)
        # Of each image the grey level tells which it is.
        save(root / "images" / f"{name}.png", np.full(shape, 10 * i, np.uint8))
        save(root / "masks" / f"{name}.png", made[name])
    return made


def of_folder(root: Path, **changes: Any) -> dict[str, Any]:
    source = {"kind": "folder", "path": str(root / "images")}
    given = {"kind": "folder", "path": str(root / "masks"), "classes": 5}
    return {"source": source, "size": 16, "channels": 1, "masks": given} | changes


@pytest.mark.parametrize("decode", ["once", "when_read"])
def test_masks_follow_their_images(tmp_path: Path, decode: str) -> None:
    made = folders(tmp_path)
    pixels, parts = read(stored(tmp_path, of_folder(tmp_path, decode=decode, per_class=5)))
    assert len(parts) == 10
    for image, part in zip(pixels, parts, strict=True):
        whole = made[next(name for name in made if int(name[2:]) == round(image.mean() / 10))]
        # Half as large by nearest neighbours, whose centres are a quarter of a pixel away; then the middle.
        assert np.array_equal(part, whole[1::2, 1::2][:, 4:20])


def test_the_crop_of_a_mask_is_that_of_its_image(tmp_path: Path) -> None:
    """Where image and mask are one picture of large parts, they stay one, but for pixels that hold two parts."""
    for i, (shape, resize) in enumerate(
        [((70, 41), "crop"), ((33, 90), "crop"), ((37, 61), "plain"), ((9, 11), "crop")]
    ):
        folder = tmp_path / str(i)
        y, x = np.mgrid[: shape[0], : shape[1]]
        disc = (np.hypot(y - shape[0] / 2.3, x - shape[1] / 1.9) < min(shape) / 3).astype(np.uint8)
        for name in "abc":
            save(folder / "images" / f"{name}.png", 255 * disc)
            save(folder / "masks" / f"{name}.png", disc)
        pixels, parts = read(stored(folder, of_folder(folder, resize=resize)))
        pure = np.abs(pixels[..., 0].astype(int) - 127.5) > 110  # of one part alone
        assert np.array_equal(pixels[..., 0][pure] > 127, parts[pure] == 1)
        assert pure.mean() > 0.7
        assert 0.1 < parts.mean() < 0.9


def test_masks_of_half_the_size_and_palettes(tmp_path: Path) -> None:
    """CelebAMask-HQ's masks have half the resolution of its images; PASCAL's are palette images."""
    made = folders(tmp_path, shape=(32, 32))
    before = read(stored(tmp_path, of_folder(tmp_path, size=8), "whole"))[1]
    for name, mask in made.items():
        small = Image.fromarray(mask[1::2, 1::2], mode="P")
        small.putpalette(list(range(256)) * 3)
        small.save(tmp_path / "masks" / f"{name}.png")
    small = read(stored(tmp_path, of_folder(tmp_path, size=8), "half"))[1]
    assert small.shape == before.shape
    assert set(np.unique(small)) == {0, 1, 2, 3, 4, masks.UNKNOWN}


def test_parts_of_celebamask(tmp_path: Path) -> None:
    """Later parts are painted over earlier ones; an absent part is no error."""
    root = tmp_path / "CelebAMask-HQ"
    expected = np.zeros((2, 8, 8), np.uint8)
    for number, parts in ((7, ("skin", "nose")), (2003, ("hair", "skin"))):
        save(root / "CelebA-HQ-img" / f"{number}.jpg", np.zeros((16, 16, 3), np.uint8))
        image = (7, 2003).index(number)
        for part in sorted(parts, key=PARTS.index):
            painted = RNG.integers(0, 2, (8, 8)).astype(bool)
            grey = np.repeat(255 * painted[..., None].astype(np.uint8), 3, 2)
            save(root / f"CelebAMask-HQ-mask-anno/{number // 2000}/{number:05d}_{part}.png", grey)
            expected[image][painted] = 1 + PARTS.index(part)
    settings = {"source": {"kind": "celebahq", "path": str(root)}, "size": 8, "split": None}
    settings["masks"] = {"kind": "celebamask", "path": str(root)}
    listing = list_images(Dataset.model_validate(settings), {})
    assert listing.masks.names[:3] == ("background", "skin", "nose")
    assert len(listing.masks.names) == 19  # as published
    assert np.array_equal([listing.masks.read(row) for row in range(2)], expected)
    (root / "CelebAMask-HQ-mask-anno/0/00007_skin.png").unlink()
    (root / "CelebAMask-HQ-mask-anno/0/00007_nose.png").unlink()
    with pytest.raises(UserError, match=r"has no annotation of image 7; check the path$"):
        listing.masks.read(0)


def digits(**given: Any) -> dict[str, Any]:
    return {"source": {"kind": "digits"}, "masks": given}


def test_masks_by_threshold_and_from_an_array(tmp_path: Path) -> None:
    pixels, parts = read(stored(tmp_path, digits(kind="threshold", levels=[64, 200]), "parts"))
    assert np.array_equal(parts, (pixels[..., 0] >= 64) + (pixels[..., 0] >= 200).astype(int))
    path = stored(tmp_path, digits(kind="threshold", levels=[64], by_class=True), "classes")
    labels = images.read(path, ["train", "select", "test"]).labels
    assert np.array_equal(read(path)[1], (pixels[..., 0] >= 64) * (labels + 1)[:, None, None])
    assert masks.names(path) == ["background", *map(str, range(10))]
    np.save(tmp_path / "parts.npy", parts)
    again = stored(tmp_path, digits(kind="array", path=str(tmp_path / "parts.npy"), classes=["a", "b", "c"]), "array")
    assert np.array_equal(read(again)[1], parts)


def test_a_store_with_masks_has_the_same_bytes_each_time(tmp_path: Path) -> None:
    """And every damage of a mask is noticed; a store without masks says so."""
    folders(tmp_path)
    first, second = (stored(tmp_path, of_folder(tmp_path), name) for name in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()
    assert images.check(first) == []
    content = first.read_bytes()
    with open_store(first) as file:
        place = content.index(masks.gather(file, np.arange(12)).tobytes())
    first.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    assert images.check(first) == [f"{first}: masks of rows 0 to 11 are damaged; delete the file and run again"]
    with pytest.raises(UserError, match="masks of rows 0 to 11 are damaged"):
        read(first)
    for text in (b'"class 0"', b'"a", "b"', b"masks\0"):  # names of classes and of the array
        place = content.index(text) + 1
        first.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(UserError, match=r"first\.h5: .*; "):
            masks.names(first)
    bare = stored(tmp_path, of_folder(tmp_path, masks=None), "bare")
    with pytest.raises(UserError, match="has no masks"):
        masks.names(bare)
    with open_store(bare) as one, open_store(second) as other:
        assert one.header.content != other.header.content


def smaller(path: Path) -> None:
    save(path, np.zeros((32, 32), np.uint8))


def too_many(path: Path) -> None:
    save(path, np.full((32, 48), 5, np.uint8))


def coloured(path: Path) -> None:
    save(path, RNG.integers(0, 255, (32, 48, 3), np.uint8))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of these chunks, each with its checksum."""
    whole = [(kind + content, len(content)) for kind, content in [*chunks, (b"IEND", b"")]]
    coded = [struct.pack(">I", n) + both + struct.pack(">I", zlib.crc32(both)) for both, n in whole]
    return b"\x89PNG\r\n\x1a\n" + b"".join(coded)


def short(path: Path) -> None:
    """All checksums right, and a row too few."""
    header = struct.pack(">IIBBBBB", 48, 32, 8, 0, 0, 0, 0)
    path.write_bytes(png((b"IHDR", header), (b"IDAT", zlib.compress(bytes(49 * 31)))))


def doubled(path: Path) -> None:
    path.with_suffix(".PNG").write_bytes(path.read_bytes())


def alike(path: Path) -> None:
    save(path.parents[2] / "images/a/0.bmp", np.zeros((32, 48), np.uint8))


def stray(path: Path) -> None:
    save(path.with_name("stray.png"), np.zeros((32, 48), np.uint8))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (Path.unlink, r"masks: has no mask a/0\.png, though there is such an image; add it"),
        (stray, r"a/stray\.png: a mask without an image; remove it, or add the image"),
        (smaller, r"the mask of 'a/0\.png' in .* has 32 x 32 pixels, the image 48 x 32; make them alike"),
        (too_many, r"the mask of 'a/0\.png' in .* has the value 5, not 0 to 4 and 255; set the masks' `classes`"),
        (coloured, r"a/0\.png: a picture of mode RGB; expected grey or palette, with classes as values"),
        (cut, r"a/0\.png: is damaged .*; replace it"),
        (short, r"a/0\.png: cannot be decoded \(it ends too early\); replace it"),
        (doubled, r"masks: holds two masks a/0\.png; keep one"),
        (alike, r"masks: two images are called a/0, which has one mask; rename one"),
    ],
)
def test_masks_that_do_not_fit_are_refused(tmp_path: Path, spoil: Any, said: str) -> None:
    folders(tmp_path)
    spoil(tmp_path / "masks/a/0.png")
    with pytest.raises(UserError, match=said) as error:
        stored(tmp_path, of_folder(tmp_path))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "images.h5").exists()


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_greys_of_few_bits_are_classes(tmp_path: Path, bits: int) -> None:
    values = np.arange(32).reshape(2, 16) % min(2**bits, 7)
    rows = [np.unpackbits(row.astype(np.uint8)[:, None], axis=1)[:, 8 - bits :].reshape(-1) for row in values]
    packed = b"".join(b"\0" + np.packbits(row).tobytes() for row in rows)
    path = tmp_path / "0.png"
    path.write_bytes(png((b"IHDR", struct.pack(">IIBBBBB", 16, 2, bits, 0, 0, 0, 0)), (b"IDAT", zlib.compress(packed))))
    assert np.array_equal(read_mask(path), values)


def test_arrays_of_another_form_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "masks.npy"
    for array in (np.zeros((5, 8, 8), np.uint8), np.zeros((1797, 8, 8)), np.zeros((1797, 8), np.uint8)):
        np.save(path, array)
        with pytest.raises(UserError, match=r"masks\.npy: .* expected uint8 \(1797, H, W\), a mask for each image"):
            stored(tmp_path, digits(kind="array", path=str(path), classes=2))
    path.write_bytes(b"nothing")
    with pytest.raises(UserError, match="no array of masks"):
        stored(tmp_path, digits(kind="array", path=str(path), classes=2))


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        (digits(kind="folder", path="x", classes=2), "masks.kind"),
        (digits(kind="threshold", levels=[9, 3]), "masks.levels"),
        (digits(kind="threshold", levels=[3, 9], by_class=True), "masks.levels"),
        (digits(kind="array", path="x", classes=9, ignore=8), "masks.ignore"),
        (of_folder(Path("x"), masks={"kind": "threshold", "levels": [9]}), "masks.kind"),
    ],
)
def test_settings_that_contradict_the_source_are_refused(settings: dict[str, Any], key: str) -> None:
    assert [place for place, _, _ in Dataset.model_validate(settings).problems("data")] == [f"data.{key}"]
