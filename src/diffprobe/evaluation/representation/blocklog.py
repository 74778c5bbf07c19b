"""Which blocks of a store of features are written: a killed job goes on behind them."""

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

from diffprobe.runtime.files import write_bytes

NAME = "blocks.jsonl"  # in a store that is not whole yet


class Block(NamedTuple):
    """Rows of one copy of a split's images, up to `stop`, and the hash of their values."""

    split: str
    view: str
    draw: int
    stop: int
    sha256: str


class BlockLog:
    """A file of lines: what a store is made from, then each written block, in their order."""

    def __init__(self, path: Path, identity: str, blocks: list[Block]) -> None:
        self.path, self.blocks = path, blocks
        lines = [json.dumps(entry) for entry in (identity, *blocks)]
        write_bytes(path, "".join(f"{line}\n" for line in lines).encode())  # without a line that a kill cut

    @classmethod
    def resumed(cls, store: Path, identity: str) -> Self | None:
        """The log of a store that `identity` has begun; None of any other."""
        path = store / NAME
        entries: list[Any] = []
        with suppress(OSError, ValueError):  # there is none, or its last line is cut
            for line in path.read_bytes().splitlines():
                entries.append(json.loads(line))
        return cls(path, identity, [Block(*entry) for entry in entries[1:]]) if entries[:1] == [identity] else None

    @classmethod
    def begun(cls, store: Path, identity: str) -> Self:
        return cls(store / NAME, identity, [])

    def rows(self, split: str, view: str, draw: int) -> int:
        """How many rows of a copy are written."""
        return max((block.stop for block in self.blocks if block[:3] == (split, view, draw)), default=0)

    def add(self, block: Block) -> None:
        self.blocks.append(block)
        with self.path.open("a") as file:
            file.write(f"{json.dumps(block)}\n")

    def content(self) -> str:
        """The hash of all values."""
        return hashlib.sha256("".join(block.sha256 for block in self.blocks).encode()).hexdigest()


def remove(store: Path) -> None:
    """Once a store is whole."""
    (store / NAME).unlink(missing_ok=True)
