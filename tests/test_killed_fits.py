"""Fits of a job that was killed go on where they were saved, to the same bits."""

from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from diffprobe.config.evaluators.linear import Linear
from diffprobe.evaluation.representation import heads
from diffprobe.evaluation.representation.optimizers import OPTIMIZERS
from diffprobe.evaluation.representation.table import table_of
from diffprobe.runtime.autosave import autosaved


class KilledError(Exception):
    """In place of SIGKILL."""


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("standardise", [True, "batch_norm"])
def test_killed_fits_go_on_bit_for_bit(tmp_path: Path, optimizer: str, standardise: bool | str) -> None:
    """Two fits of a job that is killed three times, in the first, in the second and after both."""
    x, y = (torch.from_numpy(array) for array in load_digits(return_X_y=True))
    table = table_of(x[None, :300].float(), y[:300])
    common = {"kind": "linear", "optimizer": optimizer, "standardise": standardise}
    settings = [Linear(epochs=3, lr=[0.01, 0.1], **common), Linear(epochs=2, lr=[0.01], **common)]

    def job(kill_after: int) -> tuple[list[Tensor], int]:
        steps = 0

        def note(line: str) -> None:
            nonlocal steps
            steps += 1
            if steps == kill_after:
                raise KilledError

        with autosaved(tmp_path / "rows.json", lambda: "this", 0.0, note):
            fits = [heads.fit(each, [table], [0], 10, 2**30, torch.device("cpu")) for each in settings]
            if kill_after < 0:
                raise KilledError
        return [group.weight for one in fits for group in one.groups], steps

    whole, every = job(0)
    assert not list(tmp_path.iterdir())
    for kill_after in (every // 3, every // 2, -1):
        with pytest.raises(KilledError):
            job(kill_after)
    resumed, left = job(0)
    assert left == 0 and not list(tmp_path.iterdir())  # all had been fitted
    assert all(map(torch.equal, whole, resumed))
    (tmp_path / "rows.0.part.safetensors").write_bytes(b"damaged")
    assert all(map(torch.equal, whole, job(0)[0]))
