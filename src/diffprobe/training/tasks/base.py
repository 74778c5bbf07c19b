"""The seam between the one training loop and what it trains."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import combinations
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from diffprobe.config.names import DRAWS, MASKS
from diffprobe.data.batch import Batch
from diffprobe.networks.dropout import drops
from diffprobe.runtime.keyed import Draws, Key, torch_seed

View = Callable[[Tensor, Draws], tuple[Tensor, Tensor | None]]  # images to augmented ones and their labels, if any


class ParameterGroup(NamedTuple):
    """Parameters of a task's module with a learning rate of their own."""

    parameters: list[nn.Parameter]
    rate: float = 1.0  # factor on the run's learning rate
    weight_decay: float | None = None  # None: the run's


class Task(ABC):
    """A module and its losses. The loop owns clock, precision, accumulation, averages, processes, state and resume.

    A new task is a module like those beside this one and a kind of config/tasks/ or a plugin, whose `build` names a
    function

        make(argument, data: training.data.Data, device, say: Callable[[str], object]) -> Task

    that builds the networks with fresh weights (`seed_weights`). `argument.task` has the settings of the kind, `say`
    prints a line for the user.
    """

    module: nn.Module  # what is averaged and written to checkpoints; an nn.ModuleDict where there are several
    shape: dict[str, int]  # what of its network follows from the data: keywords of `networks.build.build`
    identity: dict[str, str]  # what tells its runs apart besides config and data, for the receipt too
    adversary: nn.Module | None  # trained at the same time on its own loss, the entry `adversary` of `losses`
    adversary_begins: float  # images seen from which on it plays; before, `losses` leaves its entry out
    image_flops: Callable[[], int]  # of training on one image; 0: not counted
    adversary_plays: bool  # set by the loop

    def __init__(self, module: nn.Module, shape: dict[str, int] | None = None) -> None:
        self.module, self.shape = module, shape or {}
        self.identity = {"draws": DRAWS, **({"dropout": MASKS} if drops(module) else {})}
        self.image_flops = lambda: 0
        self.adversary, self.adversary_begins, self.adversary_plays = None, 0.0, False

    @abstractmethod
    def losses(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        """The losses of a batch, each a mean over its images, so that parts of a batch add up.

        The module is trained on `loss`, the adversary on `adversary`; the gradients of neither may reach the other's
        parameters. All other entries are only logged.
        """

    def parameter_groups(self) -> list[ParameterGroup]:
        """The module's trained parameters; by default all at one rate."""
        return [ParameterGroup(list(self.module.parameters()))]

    def header(self) -> dict[str, Any]:
        """What a checkpoint's header says besides network, process, shape, data and identity."""
        return {}

    def compile(self, device: torch.device, images: int, how: str) -> None:  # noqa: B027 (may be left out)
        """Compile what `losses` calls, where `images` to be trained on make it pay; `how`: auto, always or never.

        The module itself keeps its parameters and their names.
        """

    @property
    def superseded(self) -> list[dict[str, str]]:
        """The identities of its runs by older code, whose states are refused: what has a version now had no entry."""
        entries = self.identity.items()
        return [dict(some) for count in range(len(entries)) for some in combinations(entries, count)]

    @property
    def modules(self) -> list[nn.Module]:
        """What is trained: the module, then the adversary."""
        return [self.module] if self.adversary is None else [self.module, self.adversary]


def seed_weights(seed: int, purpose: str = "weights") -> None:
    """Seed torch's own generator, from which modules draw their initial weights."""
    torch.manual_seed(torch_seed(Key(seed, purpose), 0))


def second_view(batch: Batch, view: View, draws: Draws) -> Batch:
    """The batch with another view of the same images in `second`, by draws of its own.

    A batch that has one already stays as it is.
    """
    if batch.second is not None:  # from stored views, where a view is an encoding
        return batch
    return batch._replace(second=view(batch.images, draws.apart("second view"))[0])
