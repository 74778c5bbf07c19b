"""Memory that is used again once nobody holds it: for large blocks, fresh pages cost as much as filling them."""

import sys
from threading import Lock

import numpy as np

IDLE = 3  # references to a block that nobody has: the list's, the loop's, the question's


class Spare:
    """Blocks of bytes. A block is free again when no array or tensor made of it is left."""

    def __init__(self) -> None:
        self.blocks: list[np.ndarray] = []
        self.turn = Lock()

    def take(self, size: int) -> np.ndarray:
        """uint8 (size,), not cleared."""
        with self.turn:
            for block in self.blocks:
                if sys.getrefcount(block) <= IDLE and len(block) >= size:
                    return block[:size]
            block = None
            self.blocks = [kept for kept in self.blocks if sys.getrefcount(kept) > IDLE]  # the rest is too small
            self.blocks.append(np.empty(size, np.uint8))
            return self.blocks[-1][:size]
