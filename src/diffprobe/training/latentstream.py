"""The endless stream of training latents: one order, and four ways to hold the rows, by the size of their store.

resident on the GPU, resident in host memory (once for all processes of the job), mapped: windows from the kernel's page
cache, or streamed: windows from the disk; windows are filled ahead. The order follows from (seed, epoch, window), the
noise from (seed, position), in all four alike.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from diffprobe.data.batch import Batch
from diffprobe.data.rows import Rows
from diffprobe.data.window import Share
from diffprobe.data.window_stream import WindowStream
from diffprobe.latents.chunks import LatentChunks
from diffprobe.latents.mapped import fits_in_page_cache
from diffprobe.latents.store import LatentStore
from diffprobe.runtime.devices import memory_format
from diffprobe.runtime.keyed import Key, normal
from diffprobe.training.resident import Resident, shared_rows
from diffprobe.training.world import World


class Source(Protocol):
    """Rows by position: moments, labels, and what views have done."""

    def read(self, start: int, stop: int) -> Rows: ...


class Budget(NamedTuple):
    """Bytes up to which a store is held on a GPU, or in host memory; whether larger ones may be mapped, and checked."""

    device: float
    host: float
    mapped: Literal["checked", "unchecked", "never"] = "never"  # as `memory_budget.mapped` of the config


class LatentStream:
    """Latents in model scale; `latents_as` is `sample` (of the posterior) or `mean`."""

    def __init__(self, latents: LatentStore, source: Source, seed: int, latents_as: str = "sample") -> None:
        self.latents, self.source, self.seed, self.latents_as = latents, source, seed, latents_as

    def read(self, start: int, stop: int) -> Batch:
        """Positions `start` to before `stop`, at least one. Raises UserError where the store is damaged."""
        moments, labels, augment = self.source.read(start, stop)
        positions = torch.arange(start, stop, device=moments.device)
        return Batch(self.to_model(moments, positions), labels, positions, augment)

    def to_model(self, moments: Tensor, positions: Tensor) -> Tensor:
        """Moments (B, 2C, h, w) to latents in model scale, float32 (B, C, h, w), in the device's memory format."""
        noise = None  # the mean; also for a store of latents, which has no posterior
        if self.latents_as == "sample" and self.latents.holds == "moments":
            noise = normal(Key(self.seed, "posterior"), positions, self.latents.shape)
        return self.latents.draw(moments, noise).contiguous(memory_format=memory_format(moments.device))


def open_source(
    latents: LatentStore,
    splits: Sequence[str],
    seed: int,
    device: torch.device,
    window_bytes: float,
    budget: Budget,
    batch: int,
    world: World | None = None,
) -> tuple[Source, str]:
    """The rows of the named splits, and in words how they are held. A process streams its own part of each batch.

    `window_bytes` is of the rows that are mixed at a time. Raises UserError where the store is damaged.
    """
    world = world or World()
    # All ways read the same order: what decides among them is memory, which must change no result.
    chunks = LatentChunks(latents, splits, seed)
    window = max(1, int(window_bytes // chunks.chunk_bytes))
    amount = f"{latents.bytes / 2**30:.2f} GiB of latents"
    if device.type == "cuda":
        # At most half of what is free: the rest is for activations. All processes or none, since their GPUs may be
        # unequal, and the other ways are entered together.
        fits = latents.bytes <= min(budget.device, torch.cuda.mem_get_info(device)[0] / 2)
        if not world.any(not fits):
            return Resident(chunks, seed, window, device), f"{amount} on the GPU"
    if latents.bytes <= budget.host and (rows := shared_rows(chunks, world)):
        return Resident(chunks, seed, window, device, rows, world), f"{amount} in memory, once for all processes"
    share = Share(world.rank, world.size, batch)  # a process loads only its own part of each batch
    how = f"{amount} streamed in windows of {window} chunks"
    if budget.mapped != "never" and fits_in_page_cache(latents.path, latents.bytes):
        check = budget.mapped == "checked"
        chunks.map(check)
        compared = "compared at the first read" if check else "not compared"
        how = f"{amount} from mapped files, in windows of {window} chunks; checksums {compared}"
    return WindowStream(chunks, seed, window, device, share), how
