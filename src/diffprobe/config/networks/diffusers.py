"""Wrapped networks of the diffusers library."""

import pathlib
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from pydantic import Field

from diffprobe.config.base import Path
from diffprobe.config.diffusers_models import UNet2DConfig, read_object
from diffprobe.config.names import diffusers_taps
from diffprobe.config.networks import Network
from diffprobe.config.problems import Problem
from diffprobe.runtime.errors import one_line


class Diffusers(Network):
    """Any diffusers `UNet2DModel`, unchanged. Taps: `in_1`.. (encoder), `mid`, `out_1`.. (decoder): its residual blocks
    with their attention.
    """

    kind: Literal["diffusers"]
    build: ClassVar[str] = "diffprobe.networks.wrapped:Wrapped"

    path: Path = Field(description="Folder that holds its config.json.")

    @property
    def taps(self) -> list[str]:
        return diffusers_taps(self.config)

    @property
    def config(self) -> dict[str, Any]:
        """The content of its config.json. Raises OSError or ValueError where it is missing or not a UNet2DModel's."""
        return read_object(pathlib.Path(self.path, "config.json"), UNet2DConfig)

    def argument(self) -> dict[str, Any]:
        """With the model's config in place of the folder, so that checkpoints are self-contained."""
        return {"kind": self.kind, "config": self.config}

    @classmethod
    def of_argument(cls, data: dict[str, Any]) -> Network:
        return StoredDiffusers(config=data["config"])

    def problems(self, key: str, size: int) -> Iterator[Problem]:
        try:
            config = self.config
        except (OSError, ValueError) as error:
            reason = f" ({one_line(error)})" if isinstance(error, ValueError) else ""
            yield f"{key}.path", self.path, f"a folder with the config.json of a diffusers UNet2DModel{reason}"
            return
        # Only what `networks.wrapped` can drive: one class, no labels, no rest when it downsamples.
        if config.get("_class_name") != "UNet2DModel":
            yield f"{key}.path", self.path, f"a UNet2DModel, not a {config.get('_class_name')}"
        elif config.get("class_embed_type") or config.get("num_class_embeds"):
            yield f"{key}.path", self.path, "a model without label conditioning"
        elif size % 2 ** (len(config["block_out_channels"]) - 1):
            yield f"{key}.path", self.path, f"a model whose downsampling divides {size} pixels evenly"
        else:
            yield from super().problems(key, size)


class StoredDiffusers(Network):
    """A `Diffusers` network in job arguments and checkpoints: with the model's config in place of the folder."""

    kind: str = "diffusers"
    build: ClassVar[str] = Diffusers.build

    config: dict[str, Any]

    @property
    def taps(self) -> list[str]:
        return diffusers_taps(self.config)
