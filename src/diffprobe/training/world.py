"""The processes that train together, one per device: each takes its share of every batch, and gradients are summed.

torchrun starts them. The sum is explicit, in one message per step, and not DistributedDataParallel's: that hooks into
one module's `forward`, but tasks call any part of their modules, as often as accumulation needs.
"""

import datetime
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

# The first process may wait long for another run's lock; dead processes are torchrun's business.
PATIENCE = datetime.timedelta(days=2)

Value = TypeVar("Value")


@dataclass(frozen=True)
class World:
    """This process's place among `size` of them. Rank 0 alone writes files."""

    rank: int = 0
    size: int = 1
    nodes: int = 1
    control: "dist.ProcessGroup | None" = None  # for flags and objects, which must not wait for a GPU's queue

    @classmethod
    def join(cls, device: torch.device) -> "World":
        """The world that torchrun has started this process in, or a world of one."""
        size = int(os.environ.get("WORLD_SIZE", 1))
        if size == 1:
            return cls()
        gpu = device.type == "cuda"
        dist.init_process_group("nccl" if gpu else "gloo", timeout=PATIENCE, device_id=device if gpu else None)
        # Beside NCCL's group; the default group is gloo's already on a CPU.
        control = cast("dist.ProcessGroup", dist.new_group(backend="gloo", timeout=PATIENCE)) if gpu else None
        return cls(dist.get_rank(), size, size // int(os.environ["LOCAL_WORLD_SIZE"]), control)

    @property
    def writes(self) -> bool:
        return self.rank == 0

    def share(self, start: int, stop: int) -> tuple[int, int]:
        """This process's part of the positions [start, stop): contiguous, in order of ranks, sizes differ by one."""
        n = stop - start
        return start + n * self.rank // self.size, start + n * (self.rank + 1) // self.size

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all processes, in place."""
        if self.size == 1:
            return
        # One message: the latency of a hundred small ones would be longer than the step of a small network.
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view(tensor.shape))

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        if self.size == 1:
            return flag
        highest = torch.tensor([float(flag)])
        dist.all_reduce(highest, op=dist.ReduceOp.MAX, group=self.control)
        return bool(highest)

    def broadcast(self, value: Value) -> Value:
        """The first process's value, in all of them."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0, group=self.control)
        return values[0]

    def wait(self) -> None:
        """Return once every process has called this."""
        if self.size > 1:
            dist.barrier(group=self.control)

    def leave(self) -> None:
        if self.size > 1:
            dist.destroy_process_group()
