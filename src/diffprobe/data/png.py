"""The checksums of a PNG. Decoders ignore some of them: Pillow those of ancillary chunks, or all when told to.

A PNG is a signature and chunks: length (4 bytes, big-endian), type (4), content, and the CRC-32 of type and content;
the last is IEND (W3C, Portable Network Graphics, section 5). What follows IEND is not part of the image: cameras and
screenshot tools append data there, which viewers ignore as we do.
"""

import struct
import zlib
from collections.abc import Iterator

BLOCK = 1 << 20  # bytes unpacked at once
SIGNATURE = b"\x89PNG\r\n\x1a\n"


SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # per pixel, by colour type
ADAM7 = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)  # x, y, steps


def chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Type and content of each chunk of a whole PNG."""
    view, start = memoryview(data), len(SIGNATURE)
    while start + 12 <= len(data):
        end = start + 8 + int.from_bytes(view[start : start + 4])
        yield bytes(view[start + 4 : start + 8]), view[start + 8 : end]
        start = end + 4


def grey_scale(data: bytes) -> int:
    """By what decoders multiply the values of a grey PNG of 2 or 4 bits, so that the largest is 255; 1 of others."""
    depth, colour = data[24], data[25]  # of IHDR, the first chunk
    return 255 // (2**depth - 1) if colour == 0 and depth in (2, 4) else 1


def lacks_rows(data: bytes) -> bool:
    """Whether a PNG holds fewer pixels than it declares. Decoders leave the rest black without a word."""
    content = list(chunks(data))
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", content[0][1][:13])
    bits = depth * SAMPLES[colour]
    passes = ADAM7 if interlaced else ((0, 0, 1, 1),)
    sizes = [(-(-(width - x) // dx), -(-(height - y) // dy)) for x, y, dx, dy in passes]
    # A byte for the filter of each row, then its pixels; a pass without pixels has no rows either.
    missing = sum(h * (1 + -(-w * bits // 8)) for w, h in sizes if w > 0 and h > 0)
    unpacker = zlib.decompressobj()
    for part in (part for kind, part in content if kind == b"IDAT"):
        packed: bytes | memoryview = part
        while packed and missing > 0:
            missing -= len(unpacker.decompress(packed, BLOCK))
            packed = unpacker.unconsumed_tail
    return missing > len(unpacker.flush())


def png_damage(data: bytes) -> str | None:
    """What is wrong with the chunks of a PNG file, in a few words; None of a whole PNG and of any other format."""
    if not data.startswith(SIGNATURE):
        return None
    view, start = memoryview(data), len(SIGNATURE)
    while start + 12 <= len(data):
        length, kind = int.from_bytes(view[start : start + 4]), bytes(view[start + 4 : start + 8])
        end = start + 8 + length  # of the content; the CRC follows
        if end + 4 > len(data):
            break
        if zlib.crc32(view[start + 4 : end]) != int.from_bytes(view[end : end + 4]):
            return f"the checksum of its chunk {kind.decode('latin1')!a} at byte {start} is wrong"
        if kind == b"IEND":
            return None
        start = end + 4
    return "it is truncated"
