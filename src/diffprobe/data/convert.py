"""How the bytes of an image file become pixels, uint8 (H, W, C): one explicit rule for every kind of file.

frames        the first
orientation   EXIF's is applied; a damaged EXIF block is ignored
palette       its colours; 1 bit: 0 and 255
alpha         composited over white; an opaque one changes nothing
16 bits       the high byte, as Pillow reads 16-bit PNG colours
floats        [0, 1] becomes 0 to 255, rounded; other floats and 32-bit integers are refused: their white is unknown
CMYK          RGB by Pillow's plain formula (Adobe's inverted JPEGs included); embedded colour profiles are ignored
channels      grey to RGB by repetition, RGB to grey by ITU-R 601-2 luma
size          `crop`: ADM's centre crop; `plain`: the whole image, bicubic with antialiasing; both leave an image that
              already has the size unchanged
"""

import struct
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from typing import NamedTuple

import numpy as np
from imagecodecs import png_decode, webp_decode
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION, SAMPLEFORMAT, TiffImageFile

from diffprobe.data.filenames import EXTENSIONS
from diffprobe.data.png import lacks_rows, png_damage
from diffprobe.runtime.errors import UserError, one_line

VERSION = 1  # of the rule above; stores never mix pixels of two versions
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM", *(("AVIF",) if ".avif" in EXTENSIONS else ()))
MODES = {1: "L", 3: "RGB"}  # Pillow's mode by the number of channels
SMALL = 256  # pixels a side, up to which Pillow's overhead exceeds the decoding itself
SIGNED = 2  # of TIFF's sample formats
REMEDY = "replace it or remove it from the dataset"
TRANSPOSES = {  # by EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def pixels(data: bytes, name: str, size: int | None, channels: int, resize: str) -> np.ndarray:
    """The image file `data` as uint8 (size, size, channels), by the rule at the head of this module.

    `name` is for error messages; `channels` is 1 or 3; `resize` is `crop` or `plain`. Without `size` the image, which
    must be square, keeps its own. Raises UserError for an image that is damaged, ambiguous or a decompression bomb.
    """
    # Before any decoder: each skips some checksums, and one's refusal must not be overruled by another.
    if damage := png_damage(data):
        raise UserError(f"{name} is damaged ({damage}); {REMEDY}")
    array = decode_small(data, size, channels)
    return resized(decode(data, name), name, size, channels, resize) if array is None else array


class Header(NamedTuple):
    """What the fast path must know of a file."""

    decoder: Callable[[bytes], np.ndarray]
    height: int
    width: int


def decode_small(data: bytes, size: int | None, channels: int) -> np.ndarray | None:
    """The pixels of a small lossless file that already has the right size, else None: twice as fast as Pillow.

    Only files with one possible answer qualify: 8-bit PNG and lossless WebP without alpha, orientation, animation or
    damage. Lossy formats are left to Pillow, so that their rounding is always that of the same decoder.
    """
    header = _small_png(data, channels) or _small_webp(data, channels)
    # Larger files gain nothing, and other sizes need Pillow for resizing anyway.
    if header is None or header.height != header.width or size not in (None, header.width) or header.width > SMALL:
        return None
    with suppress(Exception):  # Pillow then gives the reason
        return header.decoder(data).reshape(header.height, header.width, channels)
    return None


def _small_png(data: bytes, channels: int) -> Header | None:
    """The header of a PNG of exactly three chunks: IHDR at byte 8, IDAT at 33, IEND at the end."""
    # No other chunk means no gamma, palette, transparency or EXIF that would change the pixels.
    if data[12:16] != b"IHDR" or data[37:41] != b"IDAT" or data[-8:-4] != b"IEND":
        return None
    # IHDR: width, height, bit depth, colour type, compression, filter, interlacing, CRC; then the length of IDAT
    width, height, *form, length = struct.unpack(">II5B4xI", data[16:37])
    # 8 bits of grey (0) or RGB (2), not interlaced; 57 bytes are everything but the content of IDAT.
    plain = form == [8, 0 if channels == 1 else 2, 0, 0, 0] and len(data) == 57 + length
    return Header(png_decode, height, width) if plain else None


def _small_webp(data: bytes, channels: int) -> Header | None:
    """The header of a WebP that is a single VP8L chunk without alpha."""
    if channels != 3 or data[:4] != b"RIFF" or data[8:16] != b"WEBPVP8L" or len(data) < 25:
        return None
    # RIFF size, chunk size, VP8L signature (0x2F), and the packed fields of the lossless header
    riff, length, signature, bits = struct.unpack("<4xI8xIBI", data[:25])
    # From the lowest bit: width - 1 (14 bits), height - 1 (14 bits), alpha (1 bit), version (3 bits, 0)
    height, width, flags = (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1, bits >> 28
    whole = riff + 8 == len(data) == 20 + length + length % 2  # chunks are padded to even lengths
    return Header(webp_decode, height, width) if whole and signature == 0x2F and flags == 0 else None


def decode(data: bytes, name: str) -> Image.Image:
    """The image upright, in mode L or RGB. Raises UserError as `pixels` does."""
    try:
        image: Image.Image = Image.open(BytesIO(data), formats=FORMATS)
        image.load()  # open reads the header only; this decodes, and so notices truncated data
        if image.format == "PNG" and ends_black(image) and lacks_rows(data):
            raise EOFError("it ends before its last row")
        transpose = TRANSPOSES.get(_orientation(image))  # read first: converted images lose their EXIF
        image = without_alpha(to_8_bit(image, name))
    except UserError:
        raise
    except UnidentifiedImageError:
        raise UserError(f"{name} is not an image of a supported format; {REMEDY}") from None
    except Image.DecompressionBombError:
        raise UserError(
            f"{name} has more than {2 * (Image.MAX_IMAGE_PIXELS or 0)} pixels; shrink or remove it"
        ) from None
    except Exception as error:  # decoders may raise anything for foreign bytes
        raise UserError(f"{name} cannot be decoded ({one_line(error)}); {REMEDY}") from None
    return image if transpose is None else image.transpose(transpose)


def ends_black(image: Image.Image) -> bool:
    """Whether one of the last two rows is zero, as missing rows are: of interlaced images every other."""
    rows = range(max(0, image.height - 2), image.height)
    return any(image.crop((0, row, image.width, row + 1)).getbbox(alpha_only=False) is None for row in rows)


def _orientation(image: Image.Image) -> int:
    with suppress(Exception):
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    return 1


def to_8_bit(image: Image.Image, name: str) -> Image.Image:
    """Greyscale of more than 8 bits reduced to 8; other images unchanged. Raises UserError where white is unknown."""
    signed = isinstance(image, TiffImageFile) and SIGNED in image.tag_v2.get(SAMPLEFORMAT, ())
    if not signed and image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return image
    # Pillow's own conversion of these modes clips at 255 instead of scaling.
    values = np.asarray(image)  # (H, W)
    if not signed and _fills_16_bits(image):
        if "transparency" in image.info:  # which would be lost
            raise UserError(f"{name} makes one grey of 16 bits transparent; convert it to 8 bits")
        return Image.fromarray((values >> 8).astype(np.uint8))
    if image.mode == "F" and values.min() >= 0 and values.max() <= 1:
        return Image.fromarray(np.rint(values * 255).astype(np.uint8))
    if signed:
        raise UserError(f"{name} holds signed integers, so what is black in it is unknown; convert it to 8 bits")
    kind = "floats outside 0 to 1" if image.mode == "F" else "integers that do not fill 16 bits"
    raise UserError(f"{name} holds {kind}, so what is white in it is unknown; convert it to 8 bits")


def _fills_16_bits(image: Image.Image) -> bool:
    """Whether grey values span 0 to 65535. Pillow scales PGM to that, but not 12-bit or white-is-zero TIFF."""
    if isinstance(image, TiffImageFile):
        bits, black_is_zero = image.tag_v2.get(BITSPERSAMPLE), image.tag_v2.get(PHOTOMETRIC_INTERPRETATION) == 1
        return image.mode != "F" and bits == (16,) and black_is_zero
    return image.mode != "F"


def without_alpha(image: Image.Image) -> Image.Image:
    """The image in mode L or RGB, over white where it is transparent."""
    if image.has_transparency_data:
        # Palettes and grey with a transparent colour have no alpha channel of their own, hence RGBA for all.
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image.convert("RGBA"))
        return white.convert("RGB")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def resized(image: Image.Image, name: str, size: int | None, channels: int, resize: str) -> np.ndarray:
    """An image of mode L or RGB as uint8 (size, size, channels). Raises UserError where it is not square or too narrow.

    `resize` is `plain` (the whole image, its proportions given up) or `crop`.
    """
    image = image.convert(MODES[channels])
    if size is None and image.height != image.width:
        raise UserError(f"{name} is {image.width} x {image.height}, but networks take squares; set `size`")
    if size is not None:
        plain = resize == "plain"
        image = image.resize((size, size), Image.Resampling.BICUBIC) if plain else centre_crop(image, name, size)
    return np.asarray(image).reshape(image.height, image.width, channels)


def resize_array(image: np.ndarray, name: str, size: int | None, channels: int, resize: str) -> np.ndarray:
    """The same for an image uint8 (H, W, 1 or 3)."""
    return resized(Image.fromarray(image[..., 0] if image.shape[2] == 1 else image), name, size, channels, resize)


def centre_crop(image: Image.Image, name: str, size: int) -> Image.Image:
    """The centre square as in ADM's code (Dhariwal & Nichol 2021, image_datasets.py), which DiT and its successors use.

    Halve with a box filter while the shorter side is at least 2 size, bring it to `size` by bicubic, cut the centre.
    """
    # Box filtering first, since bicubic alone needs many taps for strong reductions; ADM's published statistics and
    # models depend on exactly this order.
    while min(image.size) >= 2 * size:
        image = image.resize(half(*image.size), Image.Resampling.BOX)
    width, height = shrunk(*image.size, size)
    if Image.MAX_IMAGE_PIXELS and width * height > Image.MAX_IMAGE_PIXELS:  # a sliver grows beyond memory
        raise UserError(f"{name} is too narrow to be cropped ({image.width} x {image.height}); remove it")
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    return middle(image, size)


def half(width: int, height: int) -> tuple[int, int]:
    return width // 2, height // 2


def shrunk(width: int, height: int, size: int) -> tuple[int, int]:
    """The width and height at which the shorter side has `size` pixels, after halving while it has twice as many."""
    while min(width, height) >= 2 * size:
        width, height = half(width, height)
    scale = size / min(width, height)
    return round(width * scale), round(height * scale)


def middle(image: Image.Image, size: int) -> Image.Image:
    """The square of `size` pixels in the middle."""
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return image.crop((left, top, left + size, top + size))


def fit_mask(mask: np.ndarray, image: tuple[int, int], size: int, resize: str) -> np.ndarray:
    """A mask uint8 (h, w) as uint8 (size, size), by the crop and resizing of its image of `image` (H, W) pixels, with
    nearest neighbours in place of filters.
    """
    wide = (size, size) if resize == "plain" or mask.shape == (size, size) else shrunk(image[1], image[0], size)
    return np.asarray(middle(Image.fromarray(mask).resize(wide, Image.Resampling.NEAREST), size))


def upright_size(data: bytes, name: str) -> tuple[int, int]:
    """Height and width of an image file, upright. Raises UserError for what is no image."""
    try:
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            # Of TIFFs Pillow turns the size itself.
            turned = _orientation(image) in (5, 6, 7, 8) and image.format != "TIFF"
            return (image.width, image.height) if turned else (image.height, image.width)
    except Exception as error:
        raise UserError(f"{name} cannot be decoded ({one_line(error)}); {REMEDY}") from None
