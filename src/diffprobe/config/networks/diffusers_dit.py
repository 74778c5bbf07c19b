"""Wrapped transformers of the diffusers library."""

import pathlib
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from pydantic import Field

from diffprobe.config.base import Number, Path
from diffprobe.config.diffusers_models import TransformerConfig, read_object
from diffprobe.config.names import dit_taps
from diffprobe.config.networks import Network
from diffprobe.config.problems import Problem
from diffprobe.config.processes import Process
from diffprobe.runtime.errors import one_line

CLASS = "DiTTransformer2DModel"
PLACES = ("", "transformer")  # the model's own folder, or that of a pipeline


class DiffusersDiT(Network):
    """Any diffusers `DiTTransformer2DModel`, unchanged. Taps: `block_0`.., the residual stream after each block."""

    kind: Literal["diffusers_dit"]
    build: ClassVar[str] = "diffprobe.networks.wrapped_dit:WrappedDiT"
    steps_from: ClassVar[int] = 0
    has_out_channels: ClassVar[bool] = True

    path: Path = Field(description="Folder that holds its config.json, or a pipeline's with that in `transformer`.")
    conditional: bool = Field(
        True, description="Condition on the class label, of as many classes as the model has; false: its null label."
    )
    label_dropout: Number = Field(0.1, ge=0, le=1, description="Fraction of labels dropped in training, for guidance.")

    @property
    def taps(self) -> list[str]:
        return dit_taps(self.config.get("num_layers", 28))

    @property
    def folder(self) -> pathlib.Path:
        folders = [pathlib.Path(self.path, place) for place in PLACES]
        return next((folder for folder in folders if (folder / "config.json").is_file()), folders[0])

    @property
    def config(self) -> dict[str, Any]:
        """The content of its config.json. Raises OSError or ValueError where it is missing or of another form."""
        return read_object(self.folder / "config.json", TransformerConfig)

    def argument(self) -> dict[str, Any]:
        """With the model's config in place of the folder, so that checkpoints are self-contained."""
        usage = {"conditional": self.conditional, "label_dropout": self.label_dropout}
        return {"kind": self.kind, "config": self.config, **usage}

    @classmethod
    def of_argument(cls, data: dict[str, Any]) -> Network:
        return StoredDiffusersDiT(**data)

    def problems(self, key: str, size: int) -> Iterator[Problem]:
        try:
            config = self.config
        except (OSError, ValueError) as error:
            reason = f" ({one_line(error)})" if isinstance(error, ValueError) else ""
            yield f"{key}.path", self.path, f"a folder with the config.json of a diffusers {CLASS}{reason}"
            return
        patch = config.get("patch_size", 2)
        if config.get("_class_name") != CLASS:
            yield f"{key}.path", self.path, f"a {CLASS}, not a {config.get('_class_name')}"
        elif not patch or size % patch:
            yield f"{key}.path", self.path, f"a model whose patches divide {size} pixels evenly"
        else:
            yield from super().problems(key, size)

    def process_problems(self, key: str, process: Process) -> Iterator[Problem]:
        try:
            config = self.config
        except (OSError, ValueError):  # reported as a problem of the path
            return
        channels = config.get("in_channels", 4)
        doubled = (config.get("out_channels") or channels) == 2 * channels
        if doubled != process.learns_variance:
            outputs = "the noise and its variance" if doubled else "no variance"
            line = f"a model for the process {process.kind}, not one that predicts {outputs}"
            yield f"{key}.path", self.path, line


class StoredDiffusersDiT(Network):
    """A `DiffusersDiT` network in job arguments and checkpoints: with the model's config in place of the folder."""

    kind: str = "diffusers_dit"
    build: ClassVar[str] = DiffusersDiT.build
    steps_from: ClassVar[int] = 0
    has_out_channels: ClassVar[bool] = True

    config: dict[str, Any]
    conditional: bool = True
    label_dropout: Number = 0.1

    @property
    def taps(self) -> list[str]:
        return dit_taps(self.config.get("num_layers", 28))
