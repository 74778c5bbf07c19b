"""The processes that train together, one per device: each takes its share of every batch, and gradients are added up.

They are started by torchrun. The sum is taken by hand, in one message per step, and not by DistributedDataParallel,
which knows one `forward` only: tasks may call any part of their modules, as often as accumulation asks.
"""

import datetime
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

PATIENCE = datetime.timedelta(days=2)  # the first process may wait for another run's lock; dead ones torchrun sees


@dataclass(frozen=True)
class World:
    """This process's place among `size` of them; `rank` 0 alone writes. `control` is for what no GPU is needed for."""

    rank: int = 0
    size: int = 1
    control: Any = None

    @classmethod
    def join(cls, device: torch.device) -> "World":
        """The world that torchrun has started this process in, or one of its own."""
        size = int(os.environ.get("WORLD_SIZE", 1))
        if size == 1:
            return cls()
        gpu = device.type == "cuda"
        dist.init_process_group("nccl" if gpu else "gloo", timeout=PATIENCE, device_id=device if gpu else None)
        return cls(dist.get_rank(), size, dist.new_group(backend="gloo", timeout=PATIENCE) if gpu else dist.group.WORLD)

    @property
    def writes(self) -> bool:
        return self.rank == 0

    def share(self, start: int, stop: int) -> tuple[int, int]:
        """This process's part of the positions start .. stop: as equal as can be, in the order of ranks."""
        n = stop - start
        return start + n * self.rank // self.size, start + n * (self.rank + 1) // self.size

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all processes, in place."""
        if self.size == 1:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view(tensor.shape))

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        if self.size == 1:
            return flag
        found = torch.tensor([float(flag)])
        dist.all_reduce(found, op=dist.ReduceOp.MAX, group=self.control)
        return bool(found)

    def tell(self, value: Any) -> Any:
        """The first process's value, in all of them."""
        if self.size == 1:
            return value
        told = [value]
        dist.broadcast_object_list(told, src=0, group=self.control)
        return told[0]

    def wait(self) -> None:
        """Until all have come here."""
        if self.size > 1:
            dist.barrier(group=self.control)

    def leave(self) -> None:
        if self.size > 1:
            dist.destroy_process_group()
