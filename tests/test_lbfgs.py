"""L-BFGS in single iterations: PyTorch's own loop to the last bit, and the same after a stop at any of them."""

from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from diffprobe.config.evaluators.logistic import Logistic
from diffprobe.evaluation.representation.lbfgs import Descent
from diffprobe.evaluation.representation.logistic import fit_table, objective
from diffprobe.evaluation.representation.standardise import statistics
from diffprobe.evaluation.representation.table import Table, table_of
from diffprobe.runtime.autosave import autosaved

CPU = torch.device("cpu")


class KilledError(Exception):
    pass


@pytest.fixture(scope="module")
def table() -> Table:
    x, y = (torch.from_numpy(array) for array in load_digits(return_X_y=True))
    return table_of(x[None, :600].float(), y[:600])


def start(table: Table) -> list[Tensor]:
    return [torch.zeros(*shape, requires_grad=True) for shape in ((sum(table.widths), 10), (1, 10))]


@pytest.mark.parametrize(("strength", "iterations"), [(1e-1, 200), (1e-3, 200), (1e-4, 7), (1e-6, 30)])
def test_single_iterations_are_pytorchs_loop(table: Table, strength: float, iterations: int) -> None:
    """To convergence and to the last iteration; and with no more evaluations of all rows than a few."""
    ours, theirs = start(table), start(table)
    counts = [0, 0]

    def counted(which: int, point: list[Tensor]):
        loss = objective(table, *point, *statistics(table, CPU), strength)

        def evaluate() -> Tensor:
            counts[which] += 1
            return loss()

        return evaluate

    options = {"tolerance_grad": 1e-6, "tolerance_change": 1e-9, "history_size": 20, "line_search_fn": "strong_wolfe"}
    torch.optim.LBFGS(theirs, max_iter=iterations, max_eval=2 * iterations, **options).step(counted(1, theirs))
    descent = Descent(ours, counted(0, ours), iterations)
    while descent.step():
        pass
    assert all(map(torch.equal, ours, theirs))
    assert descent.evaluations == counts[1]
    assert counts[0] <= 1.1 * counts[1] + 1


def test_a_curved_valley_is_descended_as_pytorch_does() -> None:
    """Rosenbrock's function: long line searches, whose last evaluation is not the best."""

    def valley(x: Tensor):
        def evaluate() -> Tensor:
            x.grad = None
            loss = (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
            loss.backward()
            return loss.detach()

        return evaluate

    ours, theirs = (torch.tensor([-1.2, 1.0], requires_grad=True) for _ in range(2))
    options = {"tolerance_grad": 1e-6, "tolerance_change": 1e-9, "history_size": 20, "line_search_fn": "strong_wolfe"}
    torch.optim.LBFGS([theirs], max_iter=60, max_eval=120, **options).step(valley(theirs))
    descent = Descent([ours], valley(ours), 60)
    while descent.step():
        pass
    assert torch.equal(ours, theirs)
    torch.testing.assert_close(ours.detach(), torch.ones(2), atol=1e-3, rtol=0)


@pytest.mark.parametrize("stops", [[1], [2, 5, 40], [60]])
def test_a_stopped_fit_goes_on_bit_for_bit(table: Table, tmp_path: Path, stops: list[int]) -> None:
    settings = Logistic(kind="logistic", strength=[1e-3, 1e-1], iterations=50)
    whole = fit_table(settings, table, 10, CPU)
    reports: list[tuple[int, int]] = []

    def fit(stop: int | None):
        def report(iterations: int, most: int) -> None:
            reports.append((iterations, most))
            if iterations == stop:
                raise KilledError

        with autosaved(tmp_path / "rows.json", lambda: "this", 0, lambda note: None):
            return fit_table(settings, table, 10, CPU, report)

    for stop in stops:
        with pytest.raises(KilledError):
            fit(stop)
    resumed = fit(None)
    assert torch.equal(whole.weight, resumed.weight) and torch.equal(whole.bias, resumed.bias)
    iterations, most = reports[-1]
    assert iterations == most  # nothing is left
    assert len(reports) == 1 + iterations + 2 * len(stops)  # each stop lost the one iteration that was not yet saved
