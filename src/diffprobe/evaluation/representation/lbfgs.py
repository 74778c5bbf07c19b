"""L-BFGS one iteration at a time: the iterates of PyTorch's own loop, bit for bit, with a state that can be saved."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

LISTS = ("old_dirs", "old_stps", "ro")  # of PyTorch's state: the last differences of gradients and iterates
SINGLES = ("d", "t", "H_diag", "prev_flat_grad", "prev_loss")
TOLERANCE_GRADIENT, TOLERANCE_CHANGE = 1e-6, 1e-9


class Descent:
    """Minimises a function of `parameters`, in place, under the strong Wolfe conditions (Nocedal and Wright 2006,
    algorithms 7.5 and 3.5).

    `evaluate` sets the parameters' gradients and returns the loss; it must give the same bits each time.
    """

    def __init__(self, parameters: Sequence[Tensor], evaluate: Callable[[], Tensor], iterations: int) -> None:
        self.parameters, self.evaluate, self.iterations = list(parameters), evaluate, iterations
        self.most_evaluations = 2 * iterations  # a line search seldom needs a second one
        self.optimizer = torch.optim.LBFGS(
            self.parameters,
            max_iter=1,
            tolerance_grad=TOLERANCE_GRADIENT,
            tolerance_change=TOLERANCE_CHANGE,
            history_size=20,  # pairs of steps and gradients in place of the Hessian
            line_search_fn="strong_wolfe",
        )
        self.iteration = 0
        self.evaluations = 1  # as PyTorch's loop counts them: the first point, then those of the line searches
        self.last: tuple[list[Tensor], Tensor, list[Tensor]] | None = None  # parameters, loss, gradients

    def step(self) -> bool:
        """One iteration. Returns whether another is to follow."""
        before = [parameter.detach().clone() for parameter in self.parameters]
        # A step evaluates the point where the step before ended, which `loss` remembers.
        self.optimizer.param_groups[0]["max_eval"] = self.most_evaluations - self.evaluations + 1
        counted = self.state.get("func_evals", 0)
        self.optimizer.step(self.loss)
        if self.state["n_iter"] == self.iteration:
            return False  # the gradient vanishes at the start
        self.iteration = self.state["n_iter"]
        self.evaluations += self.state["func_evals"] - counted - 1
        if self.iteration == self.iterations or self.evaluations >= self.most_evaluations:
            return False
        if all(map(torch.equal, before, self.parameters)):
            return False  # no direction leads down
        loss = float(self.loss())
        steepest = max(float(gradient(parameter).abs().max()) for parameter in self.parameters)
        moved = float(self.state["d"].mul(self.state["t"]).abs().max())
        change = abs(loss - self.state["prev_loss"])
        return steepest > TOLERANCE_GRADIENT and moved > TOLERANCE_CHANGE and change >= TOLERANCE_CHANGE

    def loss(self) -> Tensor:
        """The loss, its gradients set; those of the last point are remembered."""
        if self.last is not None and all(map(torch.equal, self.last[0], self.parameters)):
            for parameter, known in zip(self.parameters, self.last[2], strict=True):
                gradient(parameter).copy_(known)
            return self.last[1]
        with torch.enable_grad():
            loss = self.evaluate().detach()
        point = [parameter.detach().clone() for parameter in self.parameters]
        self.last = point, loss, [gradient(parameter).clone() for parameter in self.parameters]
        return loss

    @property
    def state(self) -> dict:
        """PyTorch's, which it keeps with the first parameter."""
        return self.optimizer.state[self.parameters[0]]

    def saved(self) -> dict[str, Tensor]:
        """All that decides the next iterations, by name. Python's numbers are float64, which no tensor here is."""
        counts = {"iteration": torch.tensor(self.iteration), "evaluations": torch.tensor(self.evaluations)}
        points = {f"parameter.{i}": parameter.detach() for i, parameter in enumerate(self.parameters)}
        lists = {f"{name}.{i:02d}": x for name in LISTS for i, x in enumerate(self.state[name])}
        return counts | points | lists | {name: as_tensor(self.state[name]) for name in SINGLES}

    def restore(self, saved: Mapping[str, Tensor]) -> None:
        """Go on from what `saved` returned."""
        # Copied, since in a file tensors begin anywhere: a product's rounding depends on where its factors do.
        self.iteration, self.evaluations = int(saved["iteration"]), int(saved["evaluations"])
        device = self.parameters[0].device
        with torch.no_grad():
            for i, parameter in enumerate(self.parameters):
                parameter.copy_(saved[f"parameter.{i}"])
        for name in LISTS:
            self.state[name] = [saved[key].to(device, copy=True) for key in sorted(saved) if key.startswith(f"{name}.")]
        for name in SINGLES:
            x = saved[name]
            self.state[name] = x.item() if x.dtype == torch.float64 else x.to(device, copy=True)
        self.state.update(n_iter=self.iteration, func_evals=0)


def as_tensor(value: Tensor | float) -> Tensor:
    return value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)


def gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad
