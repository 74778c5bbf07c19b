"""The stated conversion of image files: against Pillow, numpy and plain statements of the rule."""

import os
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageOps
from PIL.TiffImagePlugin import SAMPLEFORMAT

from diffprobe.data.convert import decode_small, pixels, upright_size
from diffprobe.runtime.errors import UserError

RNG = np.random.default_rng(0)
PHOTO = np.add.outer(np.arange(24) * 3, np.arange(24) * 5)[..., None] // np.array([1, 2, 3]) % 256  # (H, W, C)
PHOTO = PHOTO.astype(np.uint8)


def encoded(image: Image.Image | np.ndarray, form: str, **options: object) -> bytes:
    """A Pillow image, or an array (H, W) or (H, W, C), as a file."""
    if not isinstance(image, Image.Image):
        image = Image.fromarray(image[..., 0] if image.shape[2:] == (1,) else image)
    data = BytesIO()
    image.save(data, form, **options)
    return data.getvalue()


def converted(image: Image.Image | np.ndarray, form: str = "png", channels: int = 3, **options: object) -> np.ndarray:
    """What becomes of an image, (H, W, C), in its own size."""
    return pixels(encoded(image, form, **options), "it", None, channels, "crop")


def test_the_fast_path_is_pillows_on_real_images():
    folder = os.environ.get("DIFFPROBE_TEST_DATA")
    if not folder:
        pytest.skip("DIFFPROBE_TEST_DATA is not set: no real images here")
    for part in "ab":
        with ZipFile(Path(folder) / "data" / f"cifar10-{part}.zip") as archive:
            names = [name for name in archive.namelist() if name.endswith(".webp")]
            files = [archive.read(name) for name in names[::50]]
        assert len(files) == 500
        for data in files:
            image = Image.open(BytesIO(data))
            for again, channels in ((data, 3), (encoded(image, "png"), 3), (encoded(image.convert("L"), "png"), 1)):
                fast, plain = decode_small(again, 32, channels), Image.open(BytesIO(again))
                assert fast is not None and np.array_equal(fast, np.asarray(plain).reshape(32, 32, channels))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(0, 2**32 - 1), st.sampled_from([1, 3]), st.booleans())
def test_lossless_files_keep_every_pixel(size, seed, channels, webp):
    array = np.random.default_rng(seed).integers(0, 256, (size, size, channels), dtype=np.uint8)
    image = Image.fromarray(array[..., 0] if channels == 1 else array)
    data = encoded(image, "webp", lossless=True) if webp else encoded(image, "png")
    assert np.array_equal(pixels(data, "it", size, channels, "crop"), array)
    assert (decode_small(data, size, channels) is None) == (webp and channels == 1)  # a grey WebP is a colour image
    assert decode_small(data, size + 1, channels) is None


def test_greys_of_more_than_8_bits():
    deep = RNG.integers(0, 65536, (8, 8), dtype=np.uint16)
    high = np.repeat((deep >> 8)[..., None], 3, axis=2)
    assert np.array_equal(converted(deep), high) and np.array_equal(converted(deep, "tiff"), high)
    assert np.array_equal(converted(Image.fromarray(deep.astype(np.int32)), "ppm"), high)
    assert np.array_equal(pixels(b"P5 1 1 1023\n\x03\xff", "it", None, 1, "crop"), [[[255]]])  # white is white
    assert converted(np.array([[0, 0.5], [0.498, 1]], np.float32), "tiff", 1).ravel().tolist() == [0, 128, 127, 255]
    for unclear in (np.full((2, 2), 1.5, np.float32), np.full((2, 2), np.nan, np.float32), np.eye(2, dtype=np.int32)):
        with pytest.raises(UserError, match=r"it holds .*; convert it to 8 bits"):
            converted(unclear, "tiff")
    for signed in (Image.fromarray(deep), Image.fromarray(deep.astype(np.uint8))):
        with pytest.raises(UserError, match="it holds signed integers"):
            converted(signed, "tiff", tiffinfo={SAMPLEFORMAT: 2})
    with pytest.raises(UserError, match="it makes one grey of 16 bits transparent"):
        converted(deep, transparency=int(deep[0, 0]))


def test_palettes_bits_alpha_and_frames():
    palette = Image.fromarray(PHOTO).quantize(16)
    assert np.array_equal(converted(palette), np.asarray(palette.convert("RGB")))
    bits = np.eye(8, dtype=bool)
    assert np.array_equal(converted(Image.fromarray(bits))[..., 1], bits * 255)
    alpha = RNG.integers(0, 256, (24, 24, 1), dtype=np.uint8)
    over_white = (PHOTO * (alpha / 255) + 255 * (1 - alpha / 255)).astype(float)
    for form in ({"form": "png"}, {"form": "tiff"}):
        assert np.abs(converted(np.dstack([PHOTO, alpha]), **form) - over_white).max() <= 1
    opaque = np.dstack([PHOTO, np.full((24, 24), 255, np.uint8)])
    assert np.array_equal(converted(opaque), PHOTO) and np.array_equal(converted(opaque, "webp", lossless=True), PHOTO)
    keyed = converted(PHOTO, transparency=tuple(PHOTO[0, 0].tolist()))
    assert keyed[0, 0].tolist() == [255] * 3 and np.array_equal(keyed[5:], PHOTO[5:])
    frames = {"save_all": True, "append_images": [Image.new("RGB", (24, 24), "red")]}
    assert np.array_equal(converted(PHOTO, "webp", lossless=True, **frames), PHOTO)
    assert np.array_equal(converted(palette, "gif", **frames), np.asarray(palette.convert("RGB")))


def test_channels():
    grey = PHOTO[..., :1]
    assert np.array_equal(converted(grey[..., 0]), np.repeat(grey, 3, axis=2))
    assert np.array_equal(converted(np.repeat(grey, 3, axis=2), channels=1), grey)
    luma = PHOTO @ np.array([0.299, 0.587, 0.114])
    assert np.abs(converted(PHOTO, channels=1)[..., 0] - luma).max() <= 0.51
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # Pillow writes CMYK JPEGs inverted, as Adobe does
    assert np.abs(converted(red, "jpeg", quality=100).astype(int) - [255, 0, 0]).max() <= 2


@pytest.mark.parametrize("form", ["jpeg", "png", "webp", "tiff"])
def test_orientation(form):
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        data = encoded(PHOTO, form, exif=exif, **({"lossless": True} if form == "webp" else {}))
        upright = ImageOps.exif_transpose(Image.open(BytesIO(data)))
        assert np.array_equal(pixels(data, "it", 24, 3, "crop"), np.asarray(upright))
        wide = encoded(PHOTO[:16], form, exif=exif)
        width, height = ImageOps.exif_transpose(Image.open(BytesIO(wide))).size
        assert upright_size(wide, "it") == (height, width)
    assert np.array_equal(converted(PHOTO, exif=b"Exif\0\0no EXIF at all"), PHOTO)


def test_centre_crop():
    wide = RNG.integers(0, 256, (16, 40, 3), dtype=np.uint8)
    sized = lambda array, size, resize="crop": pixels(encoded(array, "png"), "it", size, 3, resize)  # noqa: E731
    assert np.array_equal(sized(wide, 16), wide[:, 12:28])
    assert np.array_equal(sized(wide.transpose(1, 0, 2), 16), wide[:, 12:28].transpose(1, 0, 2))
    means = wide.reshape(8, 2, 20, 2, 3).mean(axis=(1, 3))  # (H/2, W/2, C)
    assert np.abs(sized(wide, 8) - means[:, 6:14]).max() <= 1  # rounded twice
    bicubic = Image.fromarray(wide).resize((round(40 * 11 / 16), 11), Image.Resampling.BICUBIC)
    assert np.array_equal(sized(wide, 11), np.asarray(bicubic)[:, 8:19])
    assert np.array_equal(sized(PHOTO, 24, "plain"), PHOTO) and sized(wide, 16, "plain").shape == (16, 16, 3)
    assert np.array_equal(sized(np.full((16, 40, 3), 7, np.uint8), 30, "plain"), np.full((30, 30, 3), 7))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.integers(1, 40),
    st.sampled_from([1, 3]),
    st.sampled_from(["crop", "plain"]),
)
def test_any_image_gets_its_size(height, width, size, channels, resize):
    image = pixels(encoded(np.zeros((height, width), np.uint8), "png"), "it", size, channels, resize)
    assert image.shape == (size, size, channels) and image.dtype == np.uint8


FORMS = {
    "png": {}, "webp": {"lossless": True}, "webp lossy": {}, "jpeg": {}, "jpeg progressive": {"progressive": True},
    "gif": {}, "bmp": {}, "ppm": {}, "tiff": {}, "tiff lzw": {"compression": "tiff_lzw"},
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("form", FORMS)
def test_a_truncated_file_is_never_taken_for_an_image(form):
    data = encoded(PHOTO, form.split()[0], **FORMS[form])
    whole = pixels(data, "it", 24, 3, "crop")
    for length in {*range(0, len(data), max(1, len(data) // 150)), *range(len(data) - 20, len(data))}:
        try:
            image = pixels(data[:length], "it", 24, 3, "crop")
        except UserError as error:
            assert str(error).startswith("it ") and "\n" not in str(error)
        else:
            assert np.array_equal(image, whole), f"{length} of {len(data)} bytes"


KEYED = {"transparency": tuple(PHOTO[0, 0].tolist())}
PNGS = {
    "plain": (Image.fromarray(PHOTO), {}), "palette": (Image.fromarray(PHOTO).quantize(8), {}),
    "transparent": (Image.fromarray(PHOTO), KEYED), "ancillary": (Image.fromarray(PHOTO), {"dpi": (72, 72)}),
    "large": (Image.fromarray(PHOTO).resize((300, 300)), {}),
}  # fmt: skip


@pytest.mark.parametrize("kind", PNGS)
def test_no_flipped_bit_of_a_png_passes(kind):
    image, options = PNGS[kind]
    data = encoded(image, "png", **options)
    for position in range(0, 8 * len(data), max(1, len(data) // 200)):
        flipped = bytearray(data)
        flipped[position // 8] ^= 1 << position % 8
        with pytest.raises(UserError, match=r"^it (is damaged|is not an image).*; replace it or remove it"):
            pixels(bytes(flipped), "it", None, 3, "crop")


def test_a_png_ends_with_its_last_chunk():
    data = encoded(PHOTO, "png")
    assert np.array_equal(pixels(data + b"appended by a camera", "it", 24, 3, "crop"), PHOTO)
    with pytest.raises(UserError, match=r"it is damaged .it is truncated.; replace it"):
        pixels(data[:-12], "it", 24, 3, "crop")


def test_bombs_and_slivers_are_refused(monkeypatch):
    with pytest.raises(UserError, match="too narrow"):
        pixels(encoded(Image.new("1", (1, 60_000)), "png"), "it", 256, 3, "crop")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(UserError, match="it has more than 200 pixels"):
        pixels(encoded(PHOTO, "png"), "it", 12, 3, "crop")
