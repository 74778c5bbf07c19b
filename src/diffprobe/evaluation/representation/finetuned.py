"""Scores of fine-tuned models, which see each image in several draws of noise."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from diffprobe.config.built import parse_model
from diffprobe.config.processes import Process
from diffprobe.diffusion.build import build_process
from diffprobe.diffusion.finetuned import FineTuned, Sight
from diffprobe.evaluation.representation.evaluators import ProbeScores, confusion_counts, summed_scores
from diffprobe.evaluation.representation.inputs import ModelInputs
from diffprobe.runtime import autosave
from diffprobe.runtime.devices import is_bf16
from diffprobe.runtime.keyed import Key, normal
from diffprobe.training import checkpoints


@dataclass(frozen=True)
class Classifier:
    """A fine-tuned model and how it sees images; noise is drawn by `seed`, image and draw."""

    module: FineTuned
    sight: Sight
    latents: str | None  # content hash of those that it was trained on
    seed: int
    device: torch.device
    bf16: bool

    @classmethod
    def load(cls, path: Path, seed: int, precision: str, device: torch.device) -> "Classifier":
        """From a checkpoint of fine-tuning. Raises UserError where that is damaged."""
        module, header = checkpoints.load(path, device, parse_model)
        assert isinstance(module, FineTuned)
        sight = Sight.of(build_process(Process.member(header["process"])), **header["sight"])
        latents = header["latents"]["content"] if "latents" in header else None
        return cls(module, sight, latents, seed, device, is_bf16(precision, device, module))

    @torch.inference_mode()
    def probabilities(self, data: ModelInputs, part: slice, draw: int) -> Tensor:
        """(n, K) of the images of a split in one draw of noise, and of their latents."""
        rows = torch.from_numpy(data.rows[part]).to(self.device)
        x = data.read(part, Key(self.seed, "finetuned/posterior"), draw, False)  # (n, C, H, W)
        key = Key(self.seed, f"finetuned/{self.sight.level.name}")
        noise = normal(key, rows, tuple(x.shape[1:]), draw) if self.sight.draws else None
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bf16):
            return self.sight.logits(self.module, x, noise).softmax(dim=1)


def score(
    classifier: Classifier,
    data: ModelInputs,
    labels: Tensor,
    draws: Sequence[int],
    average: bool,
    batch: int,
    report: Callable[[int], None] = lambda images: None,
) -> ProbeScores:
    """Of one model, as of one seed and setting. With `average` an image's draws count as one, by mean probabilities.

    labels int64 (N,). Draws that see the same are computed once. `report` is given the number of images done. In a job
    that saves its computations, a killed one goes on behind the batches that it has scored.
    """
    draws = draws if classifier.sight.draws or data.sampled else draws[:1]
    classes = classifier.module.head.out_features

    def of_batch(part: slice) -> dict[str, Tensor]:
        y = labels[part].to(classifier.device)
        p = torch.stack([classifier.probabilities(data, part, draw) for draw in draws])  # (P, n, K)
        p = (p.mean(0, keepdim=True) if average else p)[None, :, None, None]  # (1, P, 1, 1, n, K)
        sums = torch.stack(summed_scores(p, y))  # (3, 1, P, 1, 1)
        return {"sums": sums.cpu(), "confusion": confusion_counts(p.argmax(-1), y, classes).cpu()}

    batches = [slice(start, min(start + batch, len(labels))) for start in range(0, len(labels), batch)]
    parts = []
    for rows, part in zip(batches, autosave.each(batches, of_batch), strict=True):
        parts.append(part)
        report(rows.stop - rows.start)
    correct, in_top5, loss = torch.stack([part["sums"] for part in parts]).double().sum(0) / len(labels)
    return ProbeScores(correct, in_top5, loss, torch.stack([part["confusion"] for part in parts]).sum(0))


def joined(scores: Sequence[ProbeScores], over: Literal["seeds", "settings"]) -> ProbeScores:
    """The scores of several models as those of several seeds, or of several settings."""
    dim = {"seeds": 0, "settings": 3}[over]
    accuracy, top5, nll = (
        torch.cat([getattr(each, name) for each in scores], dim) for name in ("accuracy", "top5", "nll")
    )
    counts = torch.cat([each.confusion for each in scores], dim=1)  # (1, H, K, K)
    return ProbeScores(accuracy, top5, nll, counts.sum(1, keepdim=True) if over == "seeds" else counts)
