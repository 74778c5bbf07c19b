"""Draws for the batches of a stream, made for many rows at a time."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from diffprobe.runtime.keyed import Draws, Key, normal, uniform

NUMBERS = 2**14  # of one purpose that are drawn at a time, where a batch needs fewer

Draw = Callable[[Key, Tensor, tuple[int, ...]], Tensor]  # `normal` or `uniform`
Blocks = dict[tuple[Draw, Key, tuple[int, ...]], tuple[int, Tensor]]  # the first row, and numbers (rows, *shape)


class Ahead:
    """Makes the draws of a stream's batches, whose rows follow one another.

    On a CPU a small batch's draws take longer to begin than to make: those of the rows behind it are made with them.
    The numbers are the same.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.blocks: Blocks = {}

    def draws(self, first: int, rows: Tensor) -> Draws:
        """The draws of `rows`, int64 (B,), which are first, first + 1, ..."""
        if rows.device.type != "cpu":
            return Draws(self.seed, rows)
        return DrawnAhead(self.seed, rows, first=first, blocks=self.blocks)


@dataclass(frozen=True)
class DrawnAhead(Draws):
    """Draws of rows that begin with `first` and follow one another, from blocks that batches share."""

    first: int = 0
    blocks: Blocks = field(default_factory=dict, compare=False)

    def normal(self, purpose: str, shape: tuple[int, ...] = ()) -> Tensor:
        return self.drawn(normal, purpose, shape)

    def uniform(self, purpose: str, shape: tuple[int, ...] = ()) -> Tensor:
        return self.drawn(uniform, purpose, shape)

    def apart(self, name: str) -> Draws:
        return replace(self, prefix=f"{self.prefix}{name}/")

    def drawn(self, draw: Draw, purpose: str, shape: tuple[int, ...]) -> Tensor:
        key, count, each = Key(self.seed, self.prefix + purpose), len(self.rows), max(math.prod(shape), 1)
        if count * each >= NUMBERS:
            return draw(key, self.rows, shape)
        start, block = self.blocks.get((draw, key, shape), (0, self.rows[:0]))
        if not start <= self.first <= self.first + count <= start + len(block):
            start, block = self.first, draw(key, torch.arange(self.first, self.first + NUMBERS // each), shape)
            self.blocks[draw, key, shape] = start, block
        return block[self.first - start :][:count].clone()  # (B, *shape), which the caller may write to
