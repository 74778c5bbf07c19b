"""Networks as checkpoint headers describe them: those of a config, and those that only jobs build."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from diffprobe.config.autoencoders import AutoencoderNetwork
from diffprobe.config.base import Positive
from diffprobe.config.kinds import Kind
from diffprobe.config.names import Pooling
from diffprobe.config.networks import Network
from diffprobe.config.tasks import Task
from diffprobe.runtime.errors import PLUGIN, UnknownKindError


class StoredNetwork(Kind, family=True):
    """A network that a job builds but no config names."""


class DiffusersAutoencoder(StoredNetwork):
    """A published autoencoder, described by the content of its config.json."""

    kind: Literal["diffusers_autoencoder"]
    build: ClassVar[str] = "diffprobe.networks.diffusers_autoencoder:diffusers_autoencoder"

    config: dict[str, Any]


class Classifier(StoredNetwork):
    """The network of the `classifier` extractor."""

    kind: Literal["classifier"]
    build: ClassVar[str] = "diffprobe.networks.classifier:SmallClassifier"

    channels: Positive = 32


class FineTuned(StoredNetwork):
    """A model up to one of its taps, with a linear classifier."""

    kind: Literal["finetuned"]
    build: ClassVar[str] = "diffprobe.diffusion.finetuned:FineTuned"

    model: dict[str, Any]  # `network` and, where the model is more than that, `task`, as in the header of a checkpoint
    shape: dict[str, int]  # of the model
    tap: str
    pooling: Pooling
    norm: Literal["layer", "batch"] | None

    @property
    def options(self) -> dict[str, Any]:
        return super().options | {"model": parse_model(self.model)}


BuiltNetwork = Network | AutoencoderNetwork | StoredNetwork


def parse_network(described: dict[str, Any]) -> BuiltNetwork:
    """The typed model of a header's `network`. Raises UnknownKindError for one that is not loaded."""
    kind = described.get("kind", "")
    # Networks of experiments first: they may have another form in headers than in configs.
    if (model := Network.kind_of(kind)) and issubclass(model, Network):
        return model.of_argument(described)
    for family in (AutoencoderNetwork, StoredNetwork):
        if family.kind_of(kind):
            return family.member(described)
    raise UnknownKindError(f"a network of the kind {kind!r}, which is not loaded; {PLUGIN}")


@dataclass(frozen=True)
class TaskModel:
    """The model of a task whose trained model is more than its network."""

    task: Task
    network: Network

    @property
    def build(self) -> str:
        return self.task.model

    @property
    def options(self) -> dict[str, Any]:
        return {"network": self.network, "task": self.task}


def parse_model(header: Mapping[str, Any]) -> BuiltNetwork | TaskModel:
    """The typed model that a checkpoint's header describes. Raises ValueError for an unknown kind."""
    network = parse_network(header["network"])
    if "task" not in header:
        return network
    if not isinstance(network, Network):
        raise ValueError(f"the task {header['task'].get('kind')} has no network of the kind {network.kind}")
    return TaskModel(Task.member(header["task"]), network)
