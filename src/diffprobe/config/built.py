"""Every network that a checkpoint's header may describe: those of a config, and those that only jobs write."""

from typing import Any, ClassVar, Literal

from diffprobe.config.autoencoders import AutoencoderNetwork
from diffprobe.config.base import Positive
from diffprobe.config.kinds import Kind
from diffprobe.config.networks import Network


class StoredNetwork(Kind, family=True):
    """A network that no config names: other models decide that a job builds it."""

    @property
    def options(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in type(self).model_fields if name != "kind"}


class DiffusersAutoencoder(StoredNetwork):
    """A published autoencoder, by the content of its config.json."""

    kind: Literal["diffusers_autoencoder"]
    build: ClassVar[str] = "diffprobe.networks.diffusers_autoencoder:diffusers_autoencoder"

    config: dict[str, Any]


class Classifier(StoredNetwork):
    """The network of the extractor `classifier`."""

    kind: Literal["classifier"]
    build: ClassVar[str] = "diffprobe.networks.classifier:SmallClassifier"

    channels: Positive = 32


BuiltNetwork = Network | AutoencoderNetwork | StoredNetwork


def parse_network(described: dict[str, Any]) -> BuiltNetwork:
    """The typed model of a header's `network`. Raises ValueError for a kind that there is not."""
    kind = described.get("kind", "")
    if (model := Network.members.get(kind)) and issubclass(model, Network):
        return model.of_argument(described)
    family = AutoencoderNetwork if kind in AutoencoderNetwork.members else StoredNetwork
    return family.model_validate(described) if kind in family.members else unknown(kind)


def unknown(kind: str) -> BuiltNetwork:
    raise ValueError(f"a network of kind {kind!r}: there is none, or its plugin is missing")
