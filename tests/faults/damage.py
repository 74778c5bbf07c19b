"""Ways in which a file is damaged, all deterministic."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x02\x00\x00\x00\x90wS\xde"


def flipped(content: bytes, bit: int) -> bytes:
    """The content with one bit turned."""
    damaged = bytearray(content)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def flips(content: bytes, number: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """The content with one bit turned, at `number` places: a third at its beginning, where headers are."""
    chance, bits = np.random.default_rng([seed, len(content)]), 8 * len(content)
    for i in range(number if content else 0):
        bit = int(chance.integers(0, min(bits, 8 * 600) if i % 3 == 0 else bits))
        yield f"bit {bit} of {bits} turned", flipped(content, bit)


def whole_file(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Damage to a file as a whole: what full disks, broken downloads and wrong names leave."""
    yield "empty", b""
    yield "cut to a half", content[: len(content) // 2]
    yield "without its last byte", content[:-1].rstrip(b"\n")[:-1]
    yield "without its first kilobyte", content[1024:] or content[1:]
    yield "zeros", bytes(len(content))
    yield "a picture", PNG
    yield "not UTF-8", b"\xff\xfe" * 40
    yield "a picture in its middle", content[: len(content) // 2] + PNG + content[len(content) // 2 + len(PNG) :]


OTHERS: tuple[Any, ...] = (None, True, -1, 1e300, 10**30, "x", "", [], [[]], {}, {"x": 1}, ["x"], float("nan"))


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The paths of all values in plain data, the whole included."""
    yield path
    entries = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, below in entries:
        yield from places(below, (*path, key))


def replaced(value: Any, path: tuple[str | int, ...], other: Any) -> Any:
    """Plain data with another value at one path."""
    if not path:
        return other
    key, *rest = path
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[key] = replaced(copy[key], tuple(rest), other)  # type: ignore[index]
    return copy


def without(value: Any, path: tuple[str | int, ...]) -> Any:
    """Plain data without the entry at one path."""
    key, *rest = path
    copy = dict(value) if isinstance(value, dict) else list(value)
    if rest:
        copy[key] = without(copy[key], tuple(rest))  # type: ignore[index]
    else:
        del copy[key]  # type: ignore[arg-type]
    return copy


def of_other_types(value: Any, number: int, seed: int = 0) -> Iterator[tuple[str, Any]]:
    """Plain data with one value replaced by one of another type, or left out; `number` of them, spread evenly."""
    paths = list(places(value))
    chance = np.random.default_rng([seed, len(paths)])
    for i in range(number):
        path = paths[i * len(paths) // number] if number < len(paths) else paths[i % len(paths)]
        where = ".".join(map(str, path)) or "all of it"
        if path and chance.random() < 0.2:
            yield f"without {where}", without(value, path)
        else:
            other = OTHERS[int(chance.integers(len(OTHERS)))]
            yield f"{where}: {other!r}", replaced(value, path, other)


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def written(path: Path, content: bytes) -> None:
    """In place of a file, also where it is a link."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)


Damage = Callable[[bytes], Iterator[tuple[str, bytes]]]
