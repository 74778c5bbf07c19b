"""Keyed randomness: every draw is a pure function of (seed, purpose, row, draw), never of a generator's history.

A row is an image's index for views, encoding and sampling, and the position in the stream of training images for
training. The same key gives the same draw for any batch size, number of processes or writers, and a stopped run
continues without a generator to restore.

The generator is Philox4x32-10 (Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC 2011); normals by Box
and Muller (1958). Where torch has a fused kernel of the same generator that kernel makes the words, after a comparison
with the one written here; the numbers are the same with and without it.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

MASK = 0xFFFFFFFF
ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
TURN = 0xD1342543DE82EF95  # odd: what a row's upper half adds to the key, times itself
SMALL = 2**15  # blocks of four words up to which numpy is faster: there the cost of torch's calls dominates

Words = TypeVar("Words", np.ndarray, Tensor, int)  # int64, or a number


@dataclass(frozen=True)
class Key:
    """Names a stream of draws. Keys that differ in seed or purpose give independent draws."""

    seed: int
    purpose: str

    @property
    def words(self) -> tuple[int, int]:
        """The 64-bit Philox key as two 32-bit words."""
        return key_words(self.seed, self.purpose)


def key_words(seed: int, purpose: str) -> tuple[int, int]:
    """See `Key.words`. A function, which torch's compiler calls once (`networks.compiled`): it cannot trace hashes."""
    hashed = hashlib.blake2b(f"{seed}/{purpose}".encode(), digest_size=8).digest()
    return int.from_bytes(hashed[:4], "little"), int.from_bytes(hashed[4:], "little")


def philox(counter: tuple[Words, Words, Words, Words], key: tuple[int, int] | tuple[Words, Words]) -> tuple[Words, ...]:
    """Philox4x32-10: four int64 arrays of 32-bit words, or numbers, to four such (Salmon et al. 2011, section 3.3).

    The key's two words are numbers or arrays.
    """
    x0, x1, x2, x3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        # The 64-bit product of two 32-bit words overflows int64; wrapping keeps its bits, so both halves are right once
        # the shift of a negative product has lost the ones that it fills in.
        p0, p1 = x0 * MULTIPLIERS[0], x2 * MULTIPLIERS[1]
        x0, x1, x2, x3 = (p1 >> 32 & MASK) ^ x1 ^ k0, p1 & MASK, (p0 >> 32 & MASK) ^ x3 ^ k1, p0 & MASK
        k0, k1 = (k0 + WEYL[0]) & MASK, (k1 + WEYL[1]) & MASK
    return x0, x1, x2, x3


def bits(key: Key, rows: Tensor, count: int, draw: int | Tensor = 0) -> Tensor:
    """`count` 32-bit words per row, as int64 (B, count).

    rows: int64 (B,), not negative. draw: one number for all rows, or int64 (B,). The counter of Philox is (block, low
    and high half of the row, draw), each 32 bits.
    """
    blocks = -(-count // 4)
    block = torch.arange(blocks, device=rows.device).expand(len(rows), blocks)  # (B, blocks)
    low, high = (rows & MASK)[:, None].expand_as(block), (rows >> 32)[:, None].expand_as(block)
    draws = torch.full_like(block, draw) if isinstance(draw, int) else draw[:, None].expand_as(block)
    counter = (block, low, high, draws)
    if block.numel() <= SMALL and block.device.type == "cpu":
        x0, x1, x2, x3 = (word.numpy() for word in counter)
        words = tuple(map(torch.from_numpy, philox((x0, x1, x2, x3), key.words)))
    else:
        words = philox(counter, key.words)
    return torch.stack(words, dim=-1).flatten(1)[:, :count]  # (B, count)


def uniform(key: Key, rows: Tensor, shape: tuple[int, ...] = ()) -> Tensor:
    """Uniform float32 in [0, 1), of shape (B, *shape); rows int64 (B,), not negative.

    A number is the lower 24 bits of a word over 2^24, which float32 holds exactly. The words of a row are Philox's at
    counters (block, lower half of the row, 0, 0) under the key plus `TURN` times the row's upper half.
    """
    count = math.prod(shape)
    if torch.compiler.is_compiling():
        return traced_uniform(key, rows, shape)
    offset = rows << 32  # the counter's lower 64 bits at block 0, (B,); the shift drops the row's upper half
    draw = fused_uniform if has_fused(rows.device.type) else philox_uniform
    return draw(torch.stack([row_keys(key, rows), offset], dim=-1), count).reshape(len(rows), *shape)


def row_keys(key: Key, rows: Tensor) -> Tensor:
    """Each row's Philox key as int64 (B,)."""
    low, high = key.words
    # Wrapping arithmetic: keys are numbers modulo 2^64.
    return (rows >> 32) * signed(TURN) + signed(high << 32 | low)


def normal(key: Key, rows: Tensor, shape: tuple[int, ...] = (), draw: int = 0) -> Tensor:
    """Standard normal float32 of shape (B, *shape), by Box and Muller: two uniforms make two normals.

    Other values of `draw` give other numbers for the same rows.
    """
    if draw:
        key = Key(key.seed, f"{key.purpose}#{draw}")
    count = math.prod(shape)
    if torch.compiler.is_compiling():
        return traced_normal(key, rows, shape)
    pairs = -(-count // 2)
    both = uniform(key, rows, (2 * pairs,))  # (B, 2 pairs)
    first, angle = both[:, :pairs], both[:, pairs:]
    radius = (1 - first).log_().mul_(-2).sqrt_()  # of 1 - u, which is never 0
    angle.mul_(2 * math.pi)
    # In place: fresh memory costs more than the arithmetic.
    first.copy_(angle).cos_().mul_(radius)
    angle.sin_().mul_(radius)
    return both[:, :count].reshape(len(rows), *shape)


def fused_uniform(keys: Tensor, count: int) -> Tensor:
    """Uniform float32 (B, count) in one kernel of torch's. keys: int64 (B, 2), each a key and a counter."""
    out = torch.empty(len(keys), count, device=keys.device)
    return torch.ops.aten._philox_uniform_(out, keys.view(torch.uint64)[:, None])  # keys (B, 1, 2): one a row


def philox_uniform(keys: Tensor, count: int) -> Tensor:
    """The same with the generator written here, on any device."""
    blocks = -(-count // 4)
    block = torch.arange(blocks, device=keys.device).expand(len(keys), blocks)  # (B, blocks)
    row, zero = (keys[:, 1:] >> 32 & MASK).expand_as(block), torch.zeros_like(block)
    words = philox((block, row, zero, zero), (keys[:, :1] & MASK, keys[:, :1] >> 32 & MASK))
    low_bits = torch.stack(words, dim=-1).flatten(1)[:, :count] & 0xFFFFFF  # (B, count)
    return low_bits.to(torch.float32).mul_(2.0**-24)


@cache
def has_fused(device: str) -> bool:
    """Whether torch has its kernel for this type of device, and its numbers are those of the generator written here."""
    if not hasattr(torch.ops.aten, "_philox_uniform_"):  # torch before 2.12
        return False
    keys = torch.tensor([[0, 0], [signed(TURN), 5 << 32], [-1, signed(MASK << 32)]], device=device)
    try:
        return torch.equal(fused_uniform(keys, 11), philox_uniform(keys, 11))
    except (RuntimeError, NotImplementedError):  # no kernel for this device; an experimental interface may change too
        return False


def signed(word: int) -> int:
    """A 64-bit word as the int64 of the same bits."""
    return word - (word >> 63 << 64)


# The same numbers for torch's compiler, each as a function of its place alone: that is one kernel, and what follows is
# fused into it. The four numbers of a block compute the same words, which costs a GPU less than writing them down.


def traced_uniform(key: Key, rows: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Uniform float32 (B, *shape)."""
    if not shape:
        return traced_uniforms(key, rows, 1)[0]
    place = torch.arange(math.prod(shape), device=rows.device).view(1, *shape)
    return uniform_at(row_keys(key, rows), rows, place)


def traced_normal(key: Key, rows: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Standard normal float32 (B, *shape)."""
    if not shape:
        return traced_normals(key, rows, 1)[0]
    count = math.prod(shape)
    pairs, place = -(-count // 2), torch.arange(count, device=rows.device).view(1, *shape)
    keys, is_cos = row_keys(key, rows), place < pairs
    pair = torch.where(is_cos, place, place - pairs)
    radius, angle = box_muller(uniform_at(keys, rows, pair), uniform_at(keys, rows, pair + pairs))
    return torch.where(is_cos, angle.cos(), angle.sin()) * radius


def uniform_at(keys: Tensor, rows: Tensor, places: Tensor) -> Tensor:
    """Uniforms (B, *shape) number `places`, int64 (1, *shape), of each row; keys: int64 (B,)."""
    keys, rows = (words.view(-1, *[1] * (places.dim() - 1)) for words in (keys, rows))
    lane = places & 3
    x0, x1, x2, x3 = block_words(keys, rows, places >> 2)
    return to_unit(torch.where(lane < 2, torch.where(lane == 0, x0, x1), torch.where(lane == 2, x2, x3)))


def traced_uniforms(key: Key, rows: Tensor, count: int) -> list[Tensor]:
    """`count` uniforms of each row, each (B,), so that a kernel for each image makes all of them."""
    keys = row_keys(key, rows)
    blocks = (block_words(keys, rows, torch.full_like(rows, block)) for block in range(-(-count // 4)))
    return [to_unit(word) for words in blocks for word in words][:count]


def traced_normals(key: Key, rows: Tensor, count: int) -> list[Tensor]:
    """The same of normals."""
    pairs = -(-count // 2)
    both = traced_uniforms(key, rows, 2 * pairs)
    polar = [box_muller(first, second) for first, second in zip(both[:pairs], both[pairs:], strict=True)]
    cosines, sines = ([radius * turn(angle) for radius, angle in polar] for turn in (torch.cos, torch.sin))
    return [*cosines, *sines][:count]


def block_words(keys: Tensor, rows: Tensor, block: Tensor) -> tuple[Tensor, ...]:
    """The four words of a row's block; the arguments int64, of shapes that broadcast."""
    zero = torch.zeros_like(block)
    return philox((block, rows & MASK, zero, zero), (keys & MASK, keys >> 32 & MASK))


def to_unit(words: Tensor) -> Tensor:
    return (words & 0xFFFFFF).to(torch.float32) * 2.0**-24


def box_muller(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Radius and angle of normal pairs by two uniforms each; 1 - u is never 0."""
    return (-2 * (1 - first).log()).sqrt(), 2 * math.pi * second


def permutation(key: Key, n: int, draw: int = 0) -> Tensor:
    """A random order of 0..n-1, int64 (n,): the argsort of one 63-bit word per row (ties are too rare to matter)."""
    high, low = bits(key, torch.arange(n), 2, draw).unbind(1)
    return torch.argsort((high >> 1) << 32 | low, stable=True)


def some_of(key: Key, n: int, count: int) -> Tensor:
    """At most `count` of 0..n-1, int64 (min(count, n),), rising: the first of a random order, so that more contain
    fewer.
    """
    return permutation(key, n)[:count].sort().values


def torch_seed(key: Key, counter: int) -> int:
    """A seed for torch's own generator, for code that takes no explicit draws (dropout, initialisation)."""
    # On plain numbers, since a step of training asks for one: arrays would take thirty times as long.
    return philox((0, counter & MASK, counter >> 32, 0), key.words)[0]


@dataclass(frozen=True)
class Draws:
    """The draws of one batch: row i belongs to the i-th of `rows` (int64 (B,))."""

    seed: int
    rows: Tensor
    prefix: str = ""  # of every purpose

    def normal(self, purpose: str, shape: tuple[int, ...] = ()) -> Tensor:
        return normal(Key(self.seed, self.prefix + purpose), self.rows, shape)

    def uniform(self, purpose: str, shape: tuple[int, ...] = ()) -> Tensor:
        return uniform(Key(self.seed, self.prefix + purpose), self.rows, shape)

    def uniforms(self, purpose: str, count: int) -> Sequence[Tensor]:
        """The columns of `uniform(purpose, (count,))`, each (B,)."""
        if torch.compiler.is_compiling():
            return traced_uniforms(Key(self.seed, self.prefix + purpose), self.rows, count)
        return self.uniform(purpose, (count,)).unbind(1)

    def normals(self, purpose: str, count: int) -> Sequence[Tensor]:
        """The columns of `normal(purpose, (count,))`, each (B,)."""
        if torch.compiler.is_compiling():
            return traced_normals(Key(self.seed, self.prefix + purpose), self.rows, count)
        return self.normal(purpose, (count,)).unbind(1)

    def apart(self, name: str) -> "Draws":
        """Draws of the same purposes for the same rows, independent of these."""
        return Draws(self.seed, self.rows, f"{self.prefix}{name}/")
