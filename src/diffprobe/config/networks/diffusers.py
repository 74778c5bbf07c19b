"""Networks of diffusers as they are, wrapped."""

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from pydantic import Field

from diffprobe.config.base import Path
from diffprobe.config.names import diffusers_config, diffusers_taps
from diffprobe.config.networks import Network
from diffprobe.config.problems import Problem


class Diffusers(Network):
    """Any diffusers `UNet2DModel`, as it is. Taps: `in_1`.. (encoder), `mid`, `out_1`.. (decoder), its residual blocks
    with their attention.
    """

    kind: Literal["diffusers"]
    build: ClassVar[str] = "diffprobe.networks.wrapped:Wrapped"

    path: Path = Field(description="A folder with its config.json.")

    @property
    def taps(self) -> list[str]:
        return diffusers_taps(diffusers_config(self.path))

    def argument(self) -> dict[str, Any]:
        """What the folder says of the model, so that a checkpoint of it can stand alone."""
        return {"kind": self.kind, "config": diffusers_config(self.path)}

    @classmethod
    def of_argument(cls, data: dict[str, Any]) -> Network:
        return StoredDiffusers(config=data["config"])

    def problems(self, key: str, size: int) -> Iterator[Problem]:
        try:
            config = diffusers_config(self.path)
        except (OSError, ValueError):
            yield f"{key}.path", self.path, "a folder of a diffusers model, with its config.json"
            return
        if config.get("_class_name") != "UNet2DModel":
            yield f"{key}.path", self.path, f"a folder of a UNet2DModel, not of a {config.get('_class_name')}"
        elif config.get("class_embed_type") or config.get("num_class_embeds"):
            yield f"{key}.path", self.path, "a model without label conditioning"
        elif size % 2 ** (len(config["block_out_channels"]) - 1):
            yield f"{key}.path", self.path, f"a model whose levels halve {size} pixels without rest"


class StoredDiffusers(Network):
    """The same as jobs and checkpoints hold it: the model's config in place of the folder."""

    kind: str = "diffusers"
    build: ClassVar[str] = Diffusers.build

    config: dict[str, Any]

    @property
    def taps(self) -> list[str]:
        return diffusers_taps(self.config)
