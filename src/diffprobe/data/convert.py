"""How the bytes of an image file become pixels, uint8 (H, W, C): one stated rule for whatever people have.

frames        the first
orientation   EXIF's is applied; a damaged EXIF block counts as none
palette       its colours; 1 bit: 0 and 255
alpha         composited over white; an opaque one changes nothing
16 bits       the high byte, as Pillow reads 16-bit PNG colours
floats        [0, 1] becomes 0 to 255, rounded; other floats and 32-bit integers are refused: their white is unknown
CMYK          RGB by Pillow's plain formula (Adobe's inverted JPEGs included); embedded colour profiles are ignored
channels      grey to RGB by repetition, RGB to grey by ITU-R 601-2 luma
size          `crop`: ADM's centre crop; `plain`: the whole image, bicubic with antialiasing; an image that has the
              size already is left as it is by both
"""

import struct
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO

import numpy as np
from imagecodecs import png_decode, webp_decode
from PIL import ExifTags, Image, UnidentifiedImageError

from diffprobe.runtime.errors import UserError, one_line

VERSION = 1  # of the rule above: pixels of another version are not mixed with these
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
MODES = {1: "L", 3: "RGB"}
FAST = 256  # pixels a side up to which Pillow's overhead outweighs the decoding
REMEDY = "replace it or take it out of the dataset"
TURNS = {
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

    `name` is what errors call it; `channels` is 1 or 3; `resize` is `crop` or `plain`. Without `size` the image
    keeps its own, which must be square. Raises UserError for an image that is damaged, ambiguous or a
    decompression bomb.
    """
    found = lossless(data, size, channels)
    return fitted(decoded(data, name), name, size, channels, resize) if found is None else found


def lossless(data: bytes, size: int | None, channels: int) -> np.ndarray | None:
    """The pixels of a plain lossless file that has the size already, else None: twice as fast as Pillow.

    Only what has one possible answer is taken: 8-bit PNG and lossless WebP without alpha, orientation, animation
    or damage. Lossy formats are left to Pillow, so that their rounding is always the same decoder's.
    """
    header = _plain_png(data, channels) or _plain_webp(data, channels)
    if header is None:
        return None
    decode, height, width = header
    if height != width or size not in (None, width) or width > FAST:
        return None
    with suppress(Exception):  # Pillow shall say what is wrong
        return decode(data).reshape(height, width, channels)
    return None


def _plain_png(data: bytes, channels: int) -> tuple[Callable, int, int] | None:
    """Decoder, height, width of a PNG of exactly three chunks: IHDR, IDAT, IEND."""
    if data[12:16] != b"IHDR" or data[37:41] != b"IDAT" or data[-8:-4] != b"IEND":
        return None
    width, height, *form, length = struct.unpack(">II5B4xI", data[16:37])  # depth, colour, deflate, filter, interlace
    plain = form == [8, 0 if channels == 1 else 2, 0, 0, 0] and len(data) == 57 + length
    return (png_decode, height, width) if plain else None


def _plain_webp(data: bytes, channels: int) -> tuple[Callable, int, int] | None:
    """Decoder, height, width of a WebP that is one VP8L chunk without alpha."""
    if channels != 3 or data[:4] != b"RIFF" or data[8:16] != b"WEBPVP8L" or len(data) < 25:
        return None
    riff, length, signature, bits = struct.unpack("<4xI8xIBI", data[:25])
    height, width, flags = (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1, bits >> 28  # alpha, version
    whole = riff + 8 == len(data) == 20 + length + length % 2
    return (webp_decode, height, width) if whole and signature == 0x2F and flags == 0 else None


def decoded(data: bytes, name: str) -> Image.Image:
    """The image upright, in mode L or RGB. Raises UserError as `pixels` does."""
    try:
        image = Image.open(BytesIO(data), formats=FORMATS)
        image.load()
    except UnidentifiedImageError:
        raise UserError(f"{name} is no image of a known format; {REMEDY}") from None
    except Image.DecompressionBombError:
        raise UserError(f"{name} has more than {2 * Image.MAX_IMAGE_PIXELS} pixels; shrink or remove it") from None
    except Exception as error:  # a decoder may raise anything over foreign bytes
        raise UserError(f"{name} cannot be decoded ({one_line(error)}); {REMEDY}") from None
    turn = TURNS.get(_orientation(image))
    image = flat(eight_bit(image, name))
    return image if turn is None else image.transpose(turn)


def _orientation(image: Image.Image) -> int:
    with suppress(Exception):
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    return 1


def eight_bit(image: Image.Image, name: str) -> Image.Image:
    """Greys of more than 8 bits as 8; any other image as it is."""
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return image
    values = np.asarray(image)  # (H, W)
    if _has_16_bits(image):
        return Image.fromarray((values >> 8).astype(np.uint8))
    if image.mode == "F" and values.min() >= 0 and values.max() <= 1:
        return Image.fromarray(np.rint(values * 255).astype(np.uint8))
    kind = "floats outside 0 to 1" if image.mode == "F" else "integers that do not fill 16 bits"
    raise UserError(f"{name} holds {kind}, so what is white in it is unknown; convert it to 8 bits")


def _has_16_bits(image: Image.Image) -> bool:
    """Whether greys fill 0 to 65535: Pillow scales PGM to that, but hands on 12 bits and white zeros of TIFF."""
    if image.format == "TIFF":
        return image.mode != "F" and image.tag_v2.get(258) == (16,) and image.tag_v2.get(262) == 1
    return image.mode != "F"


def flat(image: Image.Image) -> Image.Image:
    """In mode L or RGB, over white where the image is transparent."""
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image.convert("RGBA"))
        return white.convert("RGB")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def fitted(image: Image.Image, name: str, size: int | None, channels: int, resize: str) -> np.ndarray:
    """An image of mode L or RGB as uint8 (size, size, channels). Raises UserError where it cannot be made so."""
    image = image.convert(MODES[channels])
    if size is None and image.height != image.width:
        raise UserError(f"{name} is {image.width} x {image.height} and networks take squares; set `size`")
    if size is not None:
        image = {"crop": cropped, "plain": squeezed}[resize](image, name, size)
    return np.asarray(image).reshape(image.height, image.width, channels)


def squeezed(image: Image.Image, name: str, size: int) -> Image.Image:
    """The whole image, its proportions given up."""
    return image.resize((size, size), Image.Resampling.BICUBIC)


def cropped(image: Image.Image, name: str, size: int) -> Image.Image:
    """The centre square, as ADM cuts it (Dhariwal & Nichol 2021, released code; DiT and its successors do the same).

    Halve with a box filter while the shorter side is at least 2 size, bring it to `size` by bicubic, cut the centre.
    """
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = size / min(image.size)
    width, height = round(image.width * scale), round(image.height * scale)
    if width * height > Image.MAX_IMAGE_PIXELS:
        raise UserError(f"{name} is too narrow to be cropped ({image.width} x {image.height}); remove it")
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - size) // 2, (height - size) // 2
    return image.crop((left, top, left + size, top + size))
