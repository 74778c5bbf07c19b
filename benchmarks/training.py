"""What the rows of training and sampling share: our side by the workflow's own loop, the plain one, the comparison."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.plain.objectives import DDPMLoss, EDMLoss
from benchmarks.plain.training import Images, PlainTraining, endless
from benchmarks.plain.unet import plain_unet
from benchmarks.recipes import Recipe, assemble, changed, recipes
from benchmarks.row import Agreement, Line, Piece, Setting, Side
from diffprobe.data import augment
from diffprobe.runtime.devices import has_bf16
from diffprobe.runtime.keyed import Draws
from diffprobe.training.loop import fresh, train
from diffprobe.training.optimizers import Options, advance
from diffprobe.training.stream import Stream
from diffprobe.training.tasks.diffusion import Diffusion

CPU = torch.device("cpu")
IMAGES = 1024  # random ones, as large as CIFAR-10's
# A constant learning rate and decay, so that the plain step needs neither ramp; what they cost is in ours.
SAME = ["train.precision=fp32", "train.warmup_kimg=0"]
TINY = ["network.channels=16", "network.groups=8", "network.multipliers=[1, 2]", "network.blocks=1"]


class UNetStep(NamedTuple):
    """A recipe of config/ddae.yaml, changed."""

    recipe: str
    batch: int
    changes: tuple[str, ...] = ()

    def read(self, *more: str) -> Recipe:
        return changed(recipes()[self.recipe], [f"train.batch={self.batch}", *SAME, *self.changes, *more])


def pixels() -> Tensor:
    return torch.randint(256, (IMAGES, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def stream(recipe: Recipe) -> Stream:
    return Stream(pixels(), torch.zeros(IMAGES, dtype=torch.int64), recipe["train"]["seed"], CPU)


def lines(job: str, must: float, go: float) -> tuple[Line, ...]:
    """At equal precision; and where this CPU has units for bf16, by `precision: auto` as well, as recipes have it."""
    same = Line(job, must, go)
    auto = Line(job, must, go, ours="ours_auto", remark="as shipped: `precision: auto`")
    return (same, auto) if has_bf16(CPU) else (same,)


def sides(plain: Side, ours: Callable[[str], Side]) -> dict[str, Side]:
    """The sides that these lines compare; `ours` is given the precision."""
    auto = {"ours_auto": ours("auto")} if has_bf16(CPU) else {}
    return {"plain": plain, "ours": ours("fp32"), **auto}


def ours(step: UNetStep, precision: str) -> Side:
    """Steps of the workflow's loop."""

    def build(setting: Setting) -> Piece:
        recipe = step.read(f"train.precision={precision}")
        task, options, _ = assemble(recipe, CPU)
        state, feed = fresh(task, options), stream(recipe)

        def piece() -> float:
            train(task, feed, options, state, state.step + setting.amount, lambda _: None)
            return setting.amount * options.batch

        return piece

    return build


def plain(step: UNetStep) -> Side:
    def build(setting: Setting) -> Piece:
        recipe = step.read()
        trained, objective, options = plain_side(recipe)
        flip, aug = recipe["train"]["flip"], recipe["train"]["augment"]
        batches = endless(Images(pixels(), flip), options.batch)

        def loss() -> Tensor:
            x, cond = next(batches), ()
            if aug:
                # The peers' augmentation is eager too, and takes a thousandth of this step: ours serves both sides.
                x, label = augment.edm(x, Draws(0, torch.randint(2**31, (len(x),))), aug["p"])
                cond = (label,)
            return objective(trained.network, x, *objective.draw(x), *cond)

        def piece() -> float:
            for _ in range(setting.amount):
                trained.step(loss)
            return setting.amount * options.batch

        return piece

    return build


def plain_side(recipe: Recipe) -> tuple[PlainTraining, nn.Module, Options]:
    """The plain network with the weights that ours begins with."""
    task, options, shape = assemble(recipe, CPU)
    network = plain_unet(recipe["network"], task.module, shape.get("augment", 0))
    objective = EDMLoss() if recipe["process"]["kind"] == "edm" else DDPMLoss()
    betas = options.betas
    return PlainTraining(network, 0.9999, options.clip, lr=options.lr, betas=betas), objective, options


def check(step: UNetStep) -> Callable[[bool], list[Agreement]]:
    """Both sides' loss, gradients and weights after a step, from the same weights, images, levels and noise."""

    def compared(tiny: bool) -> list[Agreement]:
        recipe = step.read("network.dropout=0", *(TINY if tiny else []))
        task, options, _ = assemble(recipe, CPU)
        trained, objective, _ = plain_side(recipe)
        share_weights(task, trained)
        batch = stream(recipe).read(0, 2)
        draws = Draws(options.seed, batch.positions)
        expected = objective(trained.network, *plain_inputs(task, recipe, batch.images, draws))
        return agreements(task, options, trained, task.losses(batch, draws)["loss"], expected)

    return compared


def agreements(
    task: Diffusion, options: Options, trained: PlainTraining, loss: Tensor, expected: Tensor
) -> list[Agreement]:
    """Of both losses, their gradients, and the weights after a step by the plain side's."""
    loss.backward()
    expected.backward()
    return [
        Agreement("losses", abs(loss.item() / expected.item() - 1), 1e-5),
        Agreement("gradients", gradient_difference(task.module, trained.network), 1e-4),
        Agreement("weights after a step", step_difference(task, options, trained), 1e-5),
    ]


def share_weights(task: Diffusion, trained: PlainTraining) -> None:
    """The same weights on both sides, past initial values that hide a branch."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in task.module.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    trained.network.load_state_dict(task.module.state_dict())
    trained.average.load_state_dict(task.module.state_dict())


def plain_inputs(task: Diffusion, recipe: Recipe, images: Tensor, draws: Draws) -> list[Tensor]:
    """Image, level, noise and condition of the plain loss, as our draws make them."""
    x, label = task.view(images, draws) if task.view else (images, None)
    noise = draws.normal("noise", tuple(x.shape[1:]))
    if recipe["process"]["kind"] == "edm":
        level = (-1.2 + 1.2 * draws.normal("sigma")).exp()
    else:
        level = (draws.uniform("t") * 1000).long() + 1
    return [x.contiguous(), level, noise, *([] if label is None else [label])]


def flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.contiguous().flatten() for tensor in tensors])


def gradient_difference(ours: nn.Module, plain: nn.Module) -> float:
    """Of all gradients together, relative."""
    a, b = (flat([parameter.grad for parameter in module.parameters()]) for module in (ours, plain))
    return float((a - b).norm() / b.norm())


def step_difference(task: Diffusion, options: Options, trained: PlainTraining) -> float:
    """The largest difference of weights and averages after optimiser and average have seen the same gradients."""
    state = fresh(task, options)
    for mine, other in zip(task.module.parameters(), trained.network.parameters(), strict=True):
        mine.grad = torch.empty_like(mine).copy_(other.grad)  # fused Adam needs gradients in their weights' layout
    trained.apply()
    advance(state.optimizer, options, options.lr)
    for ema in state.emas.values():
        ema.update(trained.decay)
    pairs = [(task.module, trained.network), *((ema.module, trained.average) for ema in state.emas.values())]
    with torch.no_grad():
        return max(float((flat(list(a.parameters())) - flat(list(b.parameters()))).abs().max()) for a, b in pairs)
