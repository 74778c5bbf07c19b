"""The checksums of a PNG. Decoders ignore some of them: Pillow those of ancillary chunks, or all when told to.

A PNG is a signature and chunks: length (4 bytes, big-endian), type (4), content, and the CRC-32 of type and content;
the last is IEND (W3C, Portable Network Graphics, section 5). What follows IEND is not part of the image: cameras and
screenshot tools append data there, which viewers ignore as we do.
"""

import zlib

SIGNATURE = b"\x89PNG\r\n\x1a\n"


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
