"""Computations that are saved part by part or step by step: a job that was killed does the rest, to the same bits."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from test_killed_fits import KilledError
from test_reconstruction import prepared
from torch import Tensor

from diffprobe.config.evaluators.attentive import Attentive
from diffprobe.config.evaluators.dense import Dense
from diffprobe.config.evaluators.noise_classifier import NoiseClassifier
from diffprobe.evaluation.generation.nearest import nearest
from diffprobe.evaluation.generation.reconstruction import reconstruct
from diffprobe.evaluation.representation import attentive, dense, noise_classifier
from diffprobe.evaluation.representation.pixels import FeatureMaps
from diffprobe.evaluation.representation.table import table_of
from diffprobe.runtime import autosave
from diffprobe.runtime.autosave import autosaved

IMAGES = (load_digits().images * 15).astype(np.uint8)[..., None]  # (1797, 8, 8, 1)
PIXELS, LABELS = torch.from_numpy(IMAGES[:200]).flatten(1).float(), torch.from_numpy(load_digits().target[:200])
Reached = Callable[[int], None]  # told of each step


def squares(reached: Reached) -> list[Tensor]:
    """Of numbers; with names that an autosave must keep apart."""

    def square(i: int) -> dict[str, Tensor]:
        reached(i)
        return {"": torch.tensor(i), "a.b": torch.arange(i) ** 2}

    return [tensor for part in autosave.each(range(6), square) for tensor in part.values()]


def neighbours(reached: Reached) -> list[Tensor]:
    def batches() -> Iterator[np.ndarray]:
        for i in range(6):
            reached(i)
            yield IMAGES[100 * i : 100 * i + 100]

    return list(nearest(torch.from_numpy(IMAGES[-50:]), batches(), 3))


def reconstructions(reached: Reached) -> list[Tensor]:
    images, reconstruction = prepared(IMAGES[:24].repeat(3, axis=3), share=0.5, shown=10)
    for done in reconstruct(images, reconstruction, 4):
        reached(done // 4 - 1)
    rows = reconstruction.rows()
    return [reconstruction.pairs, torch.tensor([row["value"] for row in rows], dtype=torch.float64)]


def segmenter(reached: Reached) -> list[Tensor]:
    """Across the places where pixels are drawn anew, every 128 steps."""
    settings, steps = Dense(kind="dense", images=4, networks=3, hidden=[8, 4], steps=300, lr=0.01), 0

    def report(more: int) -> None:
        nonlocal steps
        steps += more
        reached(steps // 60)

    pixels = FeatureMaps([torch.from_numpy(IMAGES[:4]).float()], 8)
    fitted = dense.fit(settings, pixels, torch.from_numpy(IMAGES[:4, ..., 0] > 100).long(), 2, 0, report)
    return list(fitted.networks.state_dict().values())


def attentive_heads(reached: Reached) -> list[Tensor]:
    """Of tokens: the rows of pixels."""
    tokens = replace(table_of(PIXELS[None], LABELS), channels=8)
    settings = Attentive(kind="attentive", queries=2, lr=[0.1, 0.01], epochs=3, batch=32)
    heads = attentive.fit(settings, [tokens], [0], 10, 2**30, torch.device("cpu"))
    return [*heads.parameters, *heads.scale.state]


def noise_classifiers(reached: Reached) -> list[Tensor]:
    """Of two levels."""
    noisy = table_of(torch.cat([PIXELS, PIXELS + 20], 1)[None], LABELS, [64, 64])
    settings = NoiseClassifier(kind="noise_classifier", levels=[0.1, 1.0], shares=[1, 1], epochs=3, batch=32)
    return noise_classifier.fit(settings, [noisy], [0], 10, 2**30, torch.device("cpu")).parameters


@pytest.mark.parametrize(
    "compute", [squares, neighbours, reconstructions, segmenter, attentive_heads, noise_classifiers]
)
def test_a_killed_job_goes_on_bit_for_bit(tmp_path: Path, compute: Callable[[Reached], list[Tensor]]) -> None:
    def job(kill_at: int) -> list[Tensor]:
        def reached(i: int) -> None:
            if i == kill_at:
                raise KilledError

        def note(line: str) -> None:  # "5 of 21 steps"
            reached(int(line.split()[0]) // 4)

        with autosaved(tmp_path / "rows.json", lambda: "this", 0.0, note):
            return compute(reached)

    whole = job(-1)
    assert not list(tmp_path.iterdir())
    for kill_at in (2, 4):
        with pytest.raises(KilledError):
            job(kill_at)
    assert all(map(torch.equal, whole, job(-1))) and not list(tmp_path.iterdir())


def test_saved_parts_are_not_computed_again(tmp_path: Path) -> None:
    computed: list[int] = []

    def reached(i: int) -> None:
        computed.append(i)
        if computed == [0, 1, 2, 3]:
            raise KilledError

    with pytest.raises(KilledError), autosaved(tmp_path / "rows.json", lambda: "this", 0.0, lambda line: None):
        squares(reached)
    with autosaved(tmp_path / "rows.json", lambda: "this", 0.0, lambda line: None):
        squares(reached)
    assert computed == [0, 1, 2, 3, 3, 4, 5]
