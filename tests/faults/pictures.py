"""Hostile pictures and archives, made byte by byte."""

import io
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from damage import flipped
from PIL import Image


def encoded(
    form: str = "PNG", size: tuple[int, int] = (12, 9), seed: int = 0, mode: str = "RGB", **options: object
) -> bytes:
    """A picture of random pixels, or for `seed` below 0 a smooth one."""
    w, h = size
    if seed < 0:
        pixels = np.add.outer(np.arange(h), np.arange(w))[..., None].repeat(3, 2).astype(np.uint8)
    else:
        pixels = np.random.default_rng(seed).integers(0, 256, (h, w, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, format=form, **options)
    return file.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(w: int, h: int, idat: bytes, depth: int = 8, colour: int = 2, interlace: int = 0, more: bytes = b"") -> bytes:
    """A PNG that declares anything, its checksums right."""
    head = struct.pack(">IIBBBBB", w, h, depth, colour, 0, 0, interlace)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + more + chunk(b"IDAT", idat) + chunk(b"IEND", b"")


def rows(w: int, h: int, per_pixel: int = 3, filter_type: int = 0) -> bytes:
    return zlib.compress((bytes([filter_type]) + bytes(w * per_pixel)) * h, 9)


def hostile_pictures() -> Iterator[tuple[str, str, bytes]]:
    """What is wrong, the name's extension, and the bytes."""
    whole = encoded()
    for form, extension in (("PNG", "png"), ("JPEG", "jpg"), ("GIF", "gif"), ("BMP", "bmp"), ("WEBP", "webp"),
                            ("TIFF", "tif"), ("PPM", "ppm")):  # fmt: skip
        content = encoded(form)
        yield f"{form} cut to a half", extension, content[: len(content) // 2]
        yield f"{form} of its first bytes", extension, content[:10]
        if form not in ("PPM", "BMP"):  # a black picture
            yield f"{form} whose body is zeros", extension, content[:20] + bytes(len(content) - 20)
    yield "an empty file", "png", b""
    yield "a text", "png", b"not a picture\n"
    yield "a page", "jpg", b"<!DOCTYPE html><html><title>404</title></html>"
    yield "a pointer of Git LFS", "png", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    yield "SVG", "png", b'<svg xmlns="http://www.w3.org/2000/svg"><image href="/etc/passwd"/></svg>'
    yield "PostScript", "png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) run\n"
    yield "a zip", "png", archive({"a.png": whole})
    yield "a PNG of which only the head is there", "png", whole[:33]
    yield "a PNG without an end", "png", whole[:-12]
    yield "a PNG without data", "png", whole[:33] + whole[-12:]
    yield "a PNG of no width", "png", png(0, 9, rows(0, 9))
    yield "a PNG of no height", "png", png(9, 0, rows(9, 0))
    yield "a PNG that declares 2 gigapixels", "png", png(50_000, 50_000, rows(50_000, 1))
    yield "a PNG that declares 2^31 columns", "png", png(2**31 - 1, 1, rows(9, 1))
    yield "a PNG that declares more than it has", "png", png(64, 64, rows(64, 3))
    yield "a PNG of an impossible depth", "png", png(9, 9, rows(9, 9), depth=7)
    yield "a PNG of an impossible colour", "png", png(9, 9, rows(9, 9), colour=5)
    yield "a PNG without its palette", "png", png(9, 9, rows(9, 9, 1), colour=3)
    yield "a PNG of an unknown filter", "png", png(9, 9, rows(9, 9, filter_type=77))
    yield "a PNG of an unknown interlacing", "png", png(9, 9, rows(9, 9), interlace=9)
    yield "a PNG whose data are not compressed", "png", png(9, 9, bytes(9 * 28))
    yield (
        "a PNG whose text expands to gigabytes",
        "png",
        png(9, 9, rows(9, 9)[:-6], more=chunk(b"zTXt", b"a\0\0" + bomb())),
    )
    yield "a PNG with a chunk that never ends", "png", whole[:33] + struct.pack(">I", 2**31 - 1) + b"IDAT" + bytes(99)
    yield (
        "a GIF that declares 65,535 squared",
        "gif",
        b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0xF7, 0, 0) + bytes(900),
    )
    yield "a BMP that declares 2^30 columns", "bmp", bmp(2**30, 2**30)
    yield "a BMP of a negative width", "bmp", bmp(-9, 9)
    yield "a PPM that declares 10^10 pixels", "ppm", b"P6 100000 100000 255\n" + bytes(300)
    yield "a PPM of an endless number", "ppm", b"P6 " + b"9" * 100_000
    yield "a PGM of text", "pgm", b"P2 9 9 255\n" + b"x " * 81
    yield "a TIFF whose directory is itself", "tif", b"II*\0" + struct.pack("<IH", 8, 0) + struct.pack("<I", 8)
    yield "a TIFF that declares 2^31 columns", "tif", tiff(2**31 - 1, 2**31 - 1)
    yield "a JPEG that declares 65,535 squared", "jpg", jpeg_of(65535, 65535)
    yield "a JPEG of no height", "jpg", jpeg_of(12, 0)
    yield "a WebP of a wrong length", "webp", b"RIFF" + struct.pack("<I", 2**32 - 1) + b"WEBPVP8 " + bytes(40)


def bomb(gigabytes: int = 2) -> bytes:
    """Compressed zeros."""
    packer = zlib.compressobj(9)
    block = bytes(1 << 24)
    return b"".join([*(packer.compress(block) for _ in range(gigabytes * 64)), packer.flush()])


def bmp(w: int, h: int) -> bytes:
    return (
        b"BM"
        + struct.pack("<IHHI", 154, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, w, h, 1, 24, 0, 0, 0, 0, 0, 0)
        + bytes(99)
    )


def tiff(w: int, h: int) -> bytes:
    tags = [
        (256, 4, 1, w),
        (257, 4, 1, h),
        (258, 3, 1, 8),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (273, 4, 1, 200),
        (279, 4, 1, 9),
    ]
    return (
        b"II*\0" + struct.pack("<IH", 8, len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(99)
    )


def jpeg_of(w: int, h: int) -> bytes:
    """A JPEG that declares another size."""
    content = bytearray(encoded("JPEG"))
    place = content.index(b"\xff\xc0") + 5
    content[place : place + 4] = struct.pack(">HH", h, w)
    return bytes(content)


# --- archives


def archive(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as opened:
        for name, content in members.items():
            opened.writestr(zipfile.ZipInfo(name), content, method)
    return file.getvalue()


def good_members(labels: object = None) -> dict[str, bytes]:
    """Two classes of twelve, and a dataset.json for `labels`."""
    members = {f"{name}/{i}.png": encoded(seed=i) for name in "ab" for i in range(12)}
    return members | ({"dataset.json": json.dumps(labels).encode()} if labels is not None else {})


def good_labels() -> dict[str, object]:
    return {"labels": [[f"{name}/{i}.png", "ab".index(name)] for name in "ab" for i in range(12)]}


def hostile_archives() -> Iterator[tuple[str, bytes]]:
    good, whole = good_members(), archive(good_members())
    yield "empty", b""
    yield "a picture", encoded()
    yield "cut to a half", whole[: len(whole) // 2]
    yield "without its last byte", whole[:-1]
    yield "without its first kilobyte", whole[1024:]
    yield "without a member", archive({})
    yield "of texts", archive({"a.txt": b"x", "b/c.md": b"y"})
    yield "of an absolute name", archive(good | {"/etc/evil.png": encoded()})
    yield "of a name that leaves the folder", archive(good | {"../../outside/evil.png": encoded()})
    yield "of a name of Windows", archive(good | {"..\\evil.png": encoded()})
    yield "of a drive", archive(good | {"c:/evil.png": encoded()})
    yield "of an empty picture", archive(good | {"a/99.png": b""})
    yield "of a picture that is a page", archive(good | {"a/99.png": b"<html>"})
    yield "of a picture that expands to gigabytes", archive(good | {"a/99.png": bytes(1 << 31)})
    yield "of a name with an escape", archive(good | {"a/\x1b[2J99.png": b"x"})
    yield "encrypted", whole.replace(b"PK\x01\x02\x14\x03\x14\x00\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01\x00")
    yield (
        "of an unknown method",
        whole.replace(b"PK\x01\x02\x14\x03\x14\x00\x00\x00\x08\x00", b"PK\x01\x02\x14\x03\x14\x00\x00\x00\x63\x00"),
    )
    yield "of a size that is not so", understated(archive(good, zipfile.ZIP_DEFLATED))
    yield "of two members in one place", overlapping(archive(good, zipfile.ZIP_STORED))
    yield "of a damaged directory", flipped(whole, 8 * (whole.rindex(b"PK\x01\x02") + 25))
    yield "of a damaged member", flipped(whole, 8 * (whole.index(b"IDAT") if b"IDAT" in whole else 400))


def understated(content: bytes) -> bytes:
    """Every member's declared length in the directory one too small."""
    content, place = bytearray(content), 0
    while (place := content.find(b"PK\x01\x02", place + 1)) > 0:
        size = struct.unpack_from("<I", content, place + 24)[0]
        struct.pack_into("<I", content, place + 24, size - 1)
    return bytes(content)


def overlapping(content: bytes) -> bytes:
    """The directory's second member lies where the first does."""
    content = bytearray(content)
    first = content.index(b"PK\x01\x02")
    second = content.index(b"PK\x01\x02", first + 1)
    struct.pack_into("<I", content, second + 42, struct.unpack_from("<I", content, first + 42)[0])
    return bytes(content)


MANIFESTS: dict[str, object] = {  # as the bytes of dataset.json, or as what it says
    "not JSON": b"{labels: []}",
    "cut": b'{"labels": [["a/0.png", 0], ["a/1.p',
    "not UTF-8": b'{"labels": [["a/\xff.png", 0]]}',
    "a key twice": json.dumps(good_labels())[:-1].encode() + b', "labels": []}',
    "nested": b'{"labels": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "a list": [],
    "labels that are a mapping": {"labels": {"a/0.png": 0}},
    "labels that are text": {"labels": "0"},
    "labels that are a number": {"labels": 7},
    "labels that are true": {"labels": True},
    "an entry that is a mapping": {"labels": [{"name": "a/0.png", "label": 0}]},
    "an entry of three": {"labels": [["a/0.png", 0, 1]]},
    "an entry of none": {"labels": [[]]},
    "an entry that is null": {"labels": [None]},
    "a name that is a number": {"labels": [[0, 0]]},
    "a label that is text": {"labels": [["a/0.png", "0"]]},
    "a label that is true": {"labels": [["a/0.png", True]]},
    "a label that is a list": {"labels": [["a/0.png", [0, 1]]]},
    "a label with a fraction": {"labels": [["a/0.png", 0.5]]},
    "a label below 0": {"labels": [["a/0.png", -1]]},
    "a label that is NaN": b'{"labels": [["a/0.png", NaN]]}',
    "a label without end": b'{"labels": [["a/0.png", ' + b"9" * 5000 + b"]]}",
    "a label of two thousand million": {"labels": [["a/0.png", 2_000_000_000], *good_labels()["labels"][1:]]},
    "a label of 10^30": {"labels": [["a/0.png", 10**30], *good_labels()["labels"][1:]]},
    "a name twice": {"labels": [*good_labels()["labels"], ["a/0.png", 1]]},
    "half a surrogate": b'{"labels": [["\\ud800", 0]]}',
    "an escape": b'{"labels": [["\\u001b[2J", 0]]}',
    "classes that are text": good_labels() | {"classes": "ab"},
    "classes that are numbers": good_labels() | {"classes": [0, 1]},
    "classes twice": good_labels() | {"classes": ["a", "a"]},
    "fewer classes than labels": good_labels() | {"classes": ["a"]},
}


def manifest(content: object) -> bytes:
    return content if isinstance(content, bytes) else json.dumps(content).encode()


def odd_entries(folder: Path) -> Iterator[tuple[str, str]]:
    """Things in a folder of images that are no files, one at a time: what it is, and its name."""
    target = folder / "cats"
    (target / "loop.png").symlink_to("loop.png")
    yield "a link to itself", "loop.png"
    (target / "loop.png").unlink()
    (target / "gone.png").symlink_to("nowhere")
    yield "a broken link", "gone.png"
    (target / "gone.png").unlink()
    (target / "endless.png").symlink_to("/dev/zero")
    yield "a link to a device", "endless.png"
    (target / "endless.png").unlink()
    os.mkfifo(target / "pipe.png")
    yield "a pipe", "pipe.png"
    (target / "pipe.png").unlink()
    with (target / "sparse.png").open("wb") as file:
        file.truncate(20 << 30)
    yield "a file of 20 GB", "sparse.png"
    (target / "sparse.png").unlink()
