"""Files of tensors that we write and read back: safetensors with a checksum over every byte.

The metadata have two keys. The first names the kind of file, and its value is the file's own text. The second,
`checksums`, is JSON: under `tensors` the CRC-32 of each tensor's bytes, under `header` the SHA-256 of all that comes
before the tensors, with zeros in its own place. A set of weights is thus checked without reading the others. Files
written before there were checksums have the first key alone: they load, unchecked.
"""

import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from diffprobe.runtime.errors import UserError, access_error, one_line, unreadable
from diffprobe.runtime.files import atomic, canonical

CHECKSUMS = "checksums"
BLANK = "0" * 64  # in the place of the header's own checksum while that is computed
LONGEST = 100_000_000  # bytes of a header, as safetensors has it
DTYPES = {
    torch.float64: "F64",
    torch.int64: "I64",
    torch.float32: "F32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


class Kind(NamedTuple):
    """A kind of file: the key of its text in the metadata, and what errors say about it."""

    key: str
    what: str
    remedy: str


CHECKPOINT = Kind(
    "diffprobe", "a checkpoint", "delete it and run the workflow again (or `diffprobe import`, where that wrote it)"
)
STATE = Kind(
    "state", "a training state", "delete it and run the workflow again, which continues from the state before it"
)
AUTOSAVE = Kind("identity", "an autosave", "delete it and run the workflow again")


class Header(NamedTuple):
    """A file's own text, and the checksum of each tensor; None in a file from before there were checksums."""

    text: str
    checksums: Mapping[str, str] | None


def write(path: Path, tensors: Mapping[str, Tensor], kind: Kind, text: str) -> None:
    """Write tensors and the file's own text, whole or not at all. Equal content gives equal bytes."""
    stored = {name: tensors[name].detach().cpu().contiguous() for name in tensors}
    # Largest elements first, so that each tensor is aligned whatever the sizes of the others.
    names = sorted(stored, key=lambda name: (-stored[name].element_size(), name))
    entries, end = {}, 0
    for name in names:
        x, start = stored[name], end
        end += x.nbytes
        entries[name] = {"dtype": DTYPES[x.dtype], "shape": list(x.shape), "data_offsets": [start, end]}
    checksums = {name: checksum(stored[name]) for name in names}

    def header(own: str) -> bytes:
        # Written here because safetensors puts several keys of metadata in random order.
        metadata = {kind.key: text, CHECKSUMS: canonical({"header": own, "tensors": checksums})}
        encoded = json.dumps({"__metadata__": metadata, **entries}, separators=(",", ":")).encode()
        encoded += b" " * (-len(encoded) % 8)  # the tensors begin at a multiple of 8 bytes
        return len(encoded).to_bytes(8, "little") + encoded

    with atomic(path) as partial, partial.open("wb") as file:
        file.write(header(hashlib.sha256(header(BLANK)).hexdigest()))
        for name in names:
            file.write(raw(stored[name]).data)


def raw(x: Tensor) -> np.ndarray:
    """The bytes of a contiguous tensor on the CPU, uint8 (nbytes,), without a copy."""
    return x.reshape(-1).view(torch.uint8).numpy()


def checksum(x: Tensor) -> str:
    # CRC-32 finds every error of up to 32 neighbouring bits; zlib's takes 0.15 s per GiB, its SHA-256 0.55 s.
    return f"{zlib.crc32(raw(x).data):08x}"


def read_header(path: Path, kind: Kind) -> Header:
    """The text and the checksums of a file, its header checked. Raises UserError where it is damaged or foreign."""
    try:
        with path.open("rb") as file:
            prefix = file.read(8)
            length = int.from_bytes(prefix, "little")
            if len(prefix) < 8 or length > min(LONGEST, os.fstat(file.fileno()).st_size - 8):
                raise ValueError("it is cut, or no safetensors file")
            encoded = file.read(length)
        metadata = json.loads(encoded)["__metadata__"]
        text = metadata[kind.key]
        if not isinstance(text, str):
            raise TypeError
        if metadata.keys() == {kind.key}:
            return Header(text, None)
        if metadata.keys() != {kind.key, CHECKSUMS}:
            raise ValueError(f"its metadata have the keys {', '.join(map(ascii, metadata))}")
        checksums = json.loads(metadata[CHECKSUMS])
        own: str = checksums["header"]
        blanked = encoded.replace(own.encode(), BLANK.encode()) if len(own) == len(BLANK) else b""
        if own != hashlib.sha256(prefix + blanked).hexdigest():
            raise ValueError("the checksum of its header is wrong")
        return Header(text, dict(checksums["tensors"]))
    except OSError as error:
        raise unreadable(path, error, kind.remedy) from None
    except ValueError as error:
        raise damaged(path, kind, one_line(error)) from None
    except (KeyError, TypeError, AttributeError, RecursionError):  # JSON, but not ours
        raise damaged(path, kind, "its header is not one of ours") from None


def damaged(path: Path, kind: Kind, reason: str) -> UserError:
    return UserError(f"{path}: is damaged or not {kind.what} ({reason}); {kind.remedy}")


def each(path: Path, kind: Kind, wanted: Callable[[str], bool] = lambda name: True) -> Iterator[tuple[str, Tensor]]:
    """The wanted tensors of a file by name, each checked as it is read. Raises UserError."""
    checksums = read_header(path, kind).checksums
    try:
        with safe_open(path, "pt") as file:
            for name in filter(wanted, file.keys()):
                x = file.get_tensor(name)
                if checksums is not None and checksums.get(name) != checksum(x):
                    raise damaged(path, kind, f"the checksum of {name} is wrong")
                yield name, x
    except (SafetensorError, OSError) as error:
        raise access_error(path, error) or damaged(path, kind, one_line(error)) from None


def check(path: Path, kind: Kind) -> bool:
    """Read every byte of a file; whether it has checksums to compare them with. Raises UserError for damage."""
    for _ in each(path, kind):
        pass
    return read_header(path, kind).checksums is not None
