"""The weights that a card publishes, and what was made from them and from no others."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from diffprobe.config.models import Config
from diffprobe.plan.inputs import Inputs
from diffprobe.plan.layout import receipt
from diffprobe.reporting.rows import ResultRow
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import recorded, sha256
from diffprobe.runtime.origins import origins, receipt_of
from diffprobe.runtime.results import read_rows


def probed(config: Config, name: str) -> str | None:
    """The weights that an experiment probes; None without a probe."""
    probe = config.experiments[name].probe
    return probe.weights if probe else None


def measured(config: Config, name: str, kimg: int, weights: str, shipped: "Shipped") -> tuple[list[ResultRow], int]:
    """The rows of results about a set of weights of a checkpoint, as far as they exist; and how many are about weights
    that were in its place before.
    """
    samplers = config.experiments[name].sample.samplers
    rows: list[ResultRow] = []
    others = 0
    for file in filter(os.path.exists, Inputs(config).rows([name])):
        paper = receipt_of(Path(file)) or Path(receipt(file))
        own, drawn_with = shipped.made(paper), recorded(paper, "samples", "weights", "name")
        for row in read_rows(Path(file)):
            subject = drawn_with or samplers[row["sampler"]].weights if "sampler" in row else probed(config, name)
            if row.get("kimg", kimg) == kimg and subject == weights:
                rows += [row] if own else []  # type: ignore[list-item]  # of JSON
                others += not own
    return rows, others


@dataclass(frozen=True)
class Shipped:
    """The file of the weights that a card is about."""

    path: Path
    sha256: str

    def made(self, paper: Path) -> bool:
        """Whether what a receipt is about was made from these weights, or from none of this checkpoint."""
        tail = self.path.parts[-4:]  # .../EXPERIMENT/checkpoints/KIMG/FILE
        return all(sha == self.sha256 for path, sha in origins(paper).items() if Path(path).parts[-4:] == tail)


def copy_autoencoder(path: Path, trained: Path, target: Path) -> None:
    """Copy the autoencoder of a model of latents. Raises UserError where it is not the one it was trained with."""
    was = {Path(name).parts[-4:]: sha for name, sha in origins(trained).items()}.get(path.parts[-4:])
    if was not in (None, sha256(path)):
        raise UserError(f"{path}: is another autoencoder than this model was trained with; run the experiment again")
    shutil.copyfile(path, target)
