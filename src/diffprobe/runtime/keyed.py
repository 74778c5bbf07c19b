"""Keyed randomness: every draw is a pure function of (seed, purpose, row, draw), never of a generator's history.

Rows are what the draw belongs to: an image's index for views, encoding and sampling, the position in the stream of
training images for training. So the same key gives the same draw for any batch size, number of processes or
writers, and a stopped run continues without any generator to restore.

The generator is Philox4x32-10 (Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC 2011), written on
int64 tensors so that it runs on any device; normals by Box and Muller (1958).
"""

import hashlib
import math
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

MASK = 0xFFFFFFFF
ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
FEW = 2**15  # blocks of four words up to which numpy is faster: a call of torch costs more than so few products

Words = TypeVar("Words", np.ndarray, Tensor)  # int64


@dataclass(frozen=True)
class Key:
    """What a stream of draws is for. Two keys that differ in seed or purpose give independent draws."""

    seed: int
    purpose: str

    @property
    def words(self) -> tuple[int, int]:
        """The 64-bit Philox key as two 32-bit words."""
        hashed = hashlib.blake2b(f"{self.seed}/{self.purpose}".encode(), digest_size=8).digest()
        return int.from_bytes(hashed[:4], "little"), int.from_bytes(hashed[4:], "little")


def philox(counter: tuple[Words, Words, Words, Words], key: tuple[int, int]) -> tuple[Words, ...]:
    """Philox4x32-10: four int64 arrays of 32-bit words to four such arrays (Salmon et al. 2011, section 3.3)."""
    x0, x1, x2, x3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        # The product wraps around in int64; its low and high words are right all the same.
        p0, p1 = x0 * MULTIPLIERS[0], x2 * MULTIPLIERS[1]
        x0, x2 = p1 >> 32, p0 >> 32
        for high, other, k in ((x0, x1, k0), (x2, x3, k1)):  # in place: fresh memory takes longer than the sums
            high &= MASK
            high ^= other
            high ^= k
        p0 &= MASK
        p1 &= MASK
        x1, x3 = p1, p0
        k0, k1 = (k0 + WEYL[0]) & MASK, (k1 + WEYL[1]) & MASK
    return x0, x1, x2, x3


def bits(key: Key, rows: Tensor, count: int, draw: int | Tensor = 0) -> Tensor:
    """`count` 32-bit words per row, as int64 (B, count); rows: int64 (B,), not negative; `draw` of all, or (B,)."""
    blocks = -(-count // 4)
    block = torch.arange(blocks, device=rows.device).expand(len(rows), blocks)  # (B, blocks)
    low, high = (rows & MASK)[:, None].expand_as(block), (rows >> 32)[:, None].expand_as(block)
    draws = torch.full_like(block, draw) if isinstance(draw, int) else draw[:, None].expand_as(block)
    counter = (block, low, high, draws)
    if block.numel() <= FEW and block.device.type == "cpu":
        words = tuple(map(torch.from_numpy, philox(tuple(part.numpy() for part in counter), key.words)))
    else:
        words = philox(counter, key.words)
    return torch.stack(words, dim=-1).flatten(1)[:, :count]  # (B, count)


def uniform(key: Key, rows: Tensor, shape: tuple[int, ...] = (), draw: int | Tensor = 0) -> Tensor:
    """Uniform float32 in the open interval (0, 1), of shape (B, *shape)."""
    words = bits(key, rows, math.prod(shape), draw)
    return ((words >> 9).to(torch.float32) + 0.5).mul_(2.0**-23).reshape(len(rows), *shape)


def normal(key: Key, rows: Tensor, shape: tuple[int, ...] = (), draw: int = 0) -> Tensor:
    """Standard normal float32 of shape (B, *shape)."""
    count = math.prod(shape)
    pairs = -(-count // 2)
    u1, u2 = uniform(key, rows, (2, pairs), draw).unbind(1)  # (B, pairs) each
    radius, angle = torch.sqrt(-2 * torch.log(u1)), 2 * math.pi * u2
    both = torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], dim=1)
    return both[:, :count].reshape(len(rows), *shape)


def permutation(key: Key, n: int, draw: int = 0) -> Tensor:
    """A random order of 0..n-1, int64 (n,): the argsort of one 63-bit word per row (ties have no weight)."""
    high, low = bits(key, torch.arange(n), 2, draw).unbind(1)
    return torch.argsort((high >> 1) << 32 | low, stable=True)


def torch_seed(key: Key, counter: int) -> int:
    """A seed for torch's own generator, for what cannot take explicit draws (dropout, initialisation)."""
    return int(bits(key, torch.tensor([counter]), 1).item())


@dataclass(frozen=True)
class Draws:
    """The draws of one batch: row i belongs to the i-th of `rows` (int64 (B,))."""

    seed: int
    rows: Tensor

    def normal(self, purpose: str, shape: tuple[int, ...] = ()) -> Tensor:
        return normal(Key(self.seed, purpose), self.rows, shape)

    def uniform(self, purpose: str, shape: tuple[int, ...] = ()) -> Tensor:
        return uniform(Key(self.seed, purpose), self.rows, shape)
