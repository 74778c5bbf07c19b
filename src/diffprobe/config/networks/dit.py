"""The diffusion transformer."""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from diffprobe.config.base import LATER, Blocks, Number, Pixels, Width
from diffprobe.config.names import dit_named_taps, dit_taps
from diffprobe.config.networks import Network
from diffprobe.config.problems import Problem, listed
from diffprobe.config.processes import Process
from diffprobe.config.processes.flow import Flow

Size = Literal["S/2", "S/4", "S/8", "B/2", "B/4", "B/8", "L/2", "L/4", "L/8", "XL/2", "XL/4", "XL/8"]
LETTERS = {  # of the published sizes (Peebles & Xie 2023, table 1)
    "S": {"width": 384, "depth": 12, "heads": 6},
    "B": {"width": 768, "depth": 12, "heads": 12},
    "L": {"width": 1024, "depth": 24, "heads": 16},
    "XL": {"width": 1152, "depth": 28, "heads": 16},
}


def numbers(size: str) -> dict[str, int]:
    """The keys that a published size such as `XL/2` stands for. Raises KeyError or ValueError for any other text."""
    letter, patch = size.split("/")
    return {**LETTERS[letter], "patch": int(patch)}


class DiT(Network):
    """The diffusion transformer (Peebles & Xie 2023), its relatives with RoPE and GTA, and published forms of it.

    Taps: `block_0`.., the residual stream after each block; by name only, `attn_0`.. and `mlp_0`.., the outputs of each
    block's branches before their gates.
    """

    kind: Literal["dit"]
    build: ClassVar[str] = "diffprobe.networks.dit:DiT"
    steps_from: ClassVar[int] = 0
    has_out_channels: ClassVar[bool] = True
    recomputes: ClassVar[bool] = True
    embeddings: ClassVar[tuple[str, ...]] = ("time", "label")
    usage: ClassVar[tuple[str, ...]] = (*Network.usage, "size")

    size: Size | None = Field(
        None,
        exclude=True,  # the numbers stand in job arguments, so that a name and its numbers are the same network
        description="Published size: sets `width`, `depth`, `heads` and `patch`, which must agree with it where they "
        "are written out too; null: the numbers below.",
    )
    width: Width = Field(384, description="Token width.")
    depth: Blocks = Field(12, description="Number of blocks.")
    heads: Width = Field(6, description="Attention heads; must divide the width.")
    patch: Pixels = Field(2, description="Patch size: height and width of the input that one token covers.")
    mlp_ratio: Number = Field(4.0, gt=0, le=64, description="Hidden width of the MLPs, relative to the token width.")
    time_scale: Number = Field(
        1.0,
        gt=0,
        description="Factor on the noise-level input before its sinusoidal embedding (meant for values to 1000).",
    )
    position: Annotated[Literal["abs", "abs_rows", "rope", "gta"], LATER] = Field(
        "abs",
        description="Position code: a fixed table of sines and cosines, columns in the first half of the channels "
        "(`abs`, as published) or rows (`abs_rows`, DiT-PyTorch); rotated queries and keys (`rope`, Su et al. 2021); "
        "values and outputs rotated too (`gta`, Miyato et al. 2024).",
    )
    qk_norm: Annotated[bool | Literal["layer"], LATER] = Field(
        False,
        description="Normalise queries and keys per head: true by RMS (GTA's code, with every position code), `layer` "
        "by layer norms (REPA's option).",
    )
    time_embedding: Annotated[Literal["dit", "diffusers", "dit_pytorch"], LATER] = Field(
        "dit",
        description="Sinusoids of the noise level: DiT's 256; diffusers', which divide the exponent by 127 where DiT "
        "has 128; or DiT-PyTorch's, as many as the width, sines first.",
    )
    mlp_norm_eps: Annotated[Number, LATER] = Field(
        1e-6, gt=0, description="Epsilon of the layer norm before each MLP; diffusers' default (`norm_eps`): 1e-5."
    )
    reversed_flow: Annotated[bool, LATER] = Field(
        False,
        description="For the process `flow`: time runs from noise to data and the output is image minus noise, as in "
        "SiT's checkpoints.",
    )
    discard_variance: Annotated[bool, LATER] = Field(
        False,
        description="The last layer has twice the channels, and the second half is discarded, as in SiT's checkpoints.",
    )
    # Below: how the network is used rather than built (Network.usage).
    conditional: bool = Field(True, description="Condition on the class label, if there are labels.")
    augment: bool = Field(
        True,
        description="Condition on the augmentation label of a view, so that samples are not augmented.",
    )
    label_dropout: Number = Field(0.1, ge=0, le=1, description="Fraction of labels dropped in training, for guidance.")

    @model_validator(mode="before")
    @classmethod
    def sized(cls, settings: Any) -> Any:
        """A size's numbers, where the settings have none of their own."""
        try:
            return numbers(settings["size"]) | settings
        except (KeyError, TypeError, ValueError, AttributeError):  # no size, or one that its own key refuses
            return settings

    @property
    def taps(self) -> list[str]:
        return dit_taps(self.depth)

    @property
    def named_taps(self) -> list[str]:
        return dit_named_taps(self.depth)

    @property
    def tap_channels(self) -> int:
        return self.width

    @property
    def about_parameters(self) -> int:
        return round(self.depth * self.width**2 * (4 + 2 * self.mlp_ratio + 6))  # attention, MLP, adaLN

    def problems(self, key: str, size: int) -> Iterator[Problem]:
        yield from super().problems(key, size)
        named = numbers(self.size) if self.size else {}
        if others := [f"{name} {getattr(self, name)}" for name in named if getattr(self, name) != named[name]]:
            yield f"{key}.size", self.size, f"null, for {listed(others)}; or {self.size} without them"
        if size % self.patch:
            yield f"{key}.patch", self.patch, f"a divisor of {size}, the input size"
        if self.width % self.heads:
            yield f"{key}.heads", self.heads, f"a divisor of the width {self.width}"
        elif self.position in ("rope", "gta") and self.width // self.heads % 4:
            allowed = f"a number that leaves each head a multiple of 4 channels, for the pairs of {self.position}"
            yield f"{key}.heads", self.heads, allowed
        if self.width * self.mlp_ratio < 1:
            yield f"{key}.mlp_ratio", self.mlp_ratio, f"at least 1 / {self.width}, for a channel in between"
        if self.width % 4:
            yield f"{key}.width", self.width, "a multiple of 4, for the sines and cosines of rows and columns"

    def process_problems(self, key: str, process: Process) -> Iterator[Problem]:
        if self.reversed_flow and not isinstance(process, Flow):
            yield f"{key}.reversed_flow", True, f"false, since the process is {process.kind} and not flow"
        if self.discard_variance and process.learns_variance:
            yield f"{key}.discard_variance", True, f"false, since the process {process.kind} learns the variance"
