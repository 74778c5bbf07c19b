"""Attentive probes."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from diffprobe.config.base import Above0, Number, Positive, Repeats, Width
from diffprobe.config.evaluators.trained import Trained
from diffprobe.config.problems import Problem

if TYPE_CHECKING:
    from diffprobe.config.datasets import Dataset


class Attentive(Trained):
    """The head of Efficient Probing (Psomas et al., ICLR 2026) on the tokens of a tap: learned queries attend to the
    tokens, each pools its share of a linear map of them, and a linear softmax classifier sees all shares, after batch
    norm. As published: `protocol: ep`, and `queries: 128` for the DiT-XL/2 of its board.
    """

    kind: Literal["attentive"]
    build: ClassVar[str] = "diffprobe.evaluation.representation.attentive:fit"

    tokens: bool = Field(True, description="The tokens of the chosen tap, or of `at` (`test` only). Always true.")
    queries: Width = Field(32, description="Learned queries; must divide the width of the tap.")
    lr: list[Above0] = Field([1e-3, 3e-3], min_length=1, description="Initial learning rates to try, in parallel.")
    epochs: Repeats = Field(30, description="Passes over the images; each uses another noisy copy.")
    norm_batch: Positive | None = Field(
        256, description="Images that are computed, and that batch norm takes the moments of, at a time; null: a batch."
    )
    weight_decay: Number = Field(0.0, ge=0, description="L2 penalty on the weights.")

    def problems(self, key: str, dataset: "Dataset") -> Iterator[Problem]:
        yield from super().problems(key, dataset)
        if not self.tokens:
            yield f"{key}.tokens", False, "true, since attention pools tokens (or an evaluator of kind linear)"
        if self.combine:
            yield f"{key}.combine", len(self.combine), "none, since attention sees one tap (see at)"
        if self.normalise:
            yield f"{key}.normalise", self.normalise, "null, since it would divide all tokens of an image by one norm"

    def tap_problems(self, key: str, channels: int) -> Iterator[Problem]:
        if channels % self.queries:
            yield f"{key}.queries", self.queries, f"a divisor of {channels}, the width of the taps"
