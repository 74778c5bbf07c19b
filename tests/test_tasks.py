"""The seam of training: a task of one's own, job arguments as typed models, rooms that run without pydantic."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Literal

import pytest
import torch
from torch import Tensor, nn
from toy_training import equal, run_once, slice_of, stream

from diffprobe.config import tasks
from diffprobe.config.processes.flow import Flow
from diffprobe.config.training import HalfLife
from diffprobe.data.augment import random_flip
from diffprobe.data.batch import Batch
from diffprobe.diffusion.build import build_process, build_sampler
from diffprobe.diffusion.edm import EDM
from diffprobe.diffusion.guidance import guided
from diffprobe.diffusion.levels import CLEAN, Level
from diffprobe.diffusion.process import Denoised
from diffprobe.diffusion.samplers import Trajectory
from diffprobe.networks.condition import NOTHING, Condition
from diffprobe.plan.training_argument import ExperimentArgument, parse_argument
from diffprobe.runtime.keyed import Draws
from diffprobe.runtime.located import located
from diffprobe.training.data import Data
from diffprobe.training.ema import EMA
from diffprobe.training.loop import fresh, train
from diffprobe.training.optimizers import Options
from diffprobe.training.state import State, restore, save
from diffprobe.training.stream import Stream
from diffprobe.training.tasks.base import ParameterGroup, Task, second_view
from diffprobe.training.tasks.diffusion import Diffusion

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")
AVERAGES = {"ema": HalfLife(kind="half_life", kimg=0.05, ramp=1.0)}
OPTIONS = Options(batch=8, lr=0.01, averages=AVERAGES)


# --- a task of two modules, two views and rates of their own


class Encoder(nn.Module):
    """With a batch norm, whose statistics are floats and whose count of batches is an integer, and with a parameter
    that has no gradient at first.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.BatchNorm1d(4))
        self.late = nn.Parameter(torch.zeros(4))

    def forward(self, x: Tensor, late: bool) -> Tensor:
        return self.layers(x) + self.late if late else self.layers(x)  # (B, 4)


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16 + 4, 16)

    def forward(self, x: Tensor, c_noise: Tensor, cond: Condition = NOTHING, *_: object) -> tuple[Tensor, dict]:
        assert cond.z is not None and cond.z_mask is not None
        z = cond.z * cond.z_mask  # (B, 4)
        return self.layer(torch.cat([x.flatten(1), z], dim=1)).view_as(x), {}


class TwoViews(Task):
    """As SODA (Hudson et al. 2023): the code of one view guides the denoising of another one."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.encoder, self.decoder, self.process = Encoder(), Decoder(), EDM()
        super().__init__(nn.ModuleDict({"encoder": self.encoder, "decoder": self.decoder}))

    def losses(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        batch = second_view(batch, lambda x, draws: (random_flip(x, draws), None), draws)
        assert batch.second is not None
        z = self.encoder(batch.second, late=int(batch.positions[0]) >= 16)  # from the third step on
        cond = Condition(z=z, z_mask=draws.uniform("z")[:, None] > 0.1)
        loss = self.process.loss(self.decoder, batch.images, draws, cond)
        return {"loss": loss, "size of z": z.square().mean()}

    def parameter_groups(self) -> list[ParameterGroup]:
        encoder, decoder = (list(module.parameters()) for module in (self.encoder, self.decoder))
        return [ParameterGroup(encoder, rate=2.0, weight_decay=0.0), ParameterGroup(decoder)]


def images() -> Stream:
    return stream(size=4, channels=1, n=20)


def trained(options: Options, stop: int) -> State:
    task = TwoViews()
    state = fresh(task, options)
    train(task, images(), options, state, stop, lambda _: None)
    return state


def test_groups_learn_at_their_own_rates() -> None:
    """SGD's first step is lr times the gradient."""
    options = replace(OPTIONS, optimizer="sgd", lr=0.1, averages={})
    task, before = TwoViews(), TwoViews()
    batch = images().read(0, 8)
    before.losses(batch, Draws(0, batch.positions))["loss"].backward()
    train(task, images(), options, fresh(task, options), 1, lambda _: None)
    for part, rate in (("encoder", 0.2), ("decoder", 0.1)):
        for old, new in zip(before.module[part].parameters(), task.module[part].parameters(), strict=True):
            torch.testing.assert_close(new, old if old.grad is None else old - rate * old.grad)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "muon", "sgd"])
def test_any_optimiser_goes_on_bit_for_bit(tmp_path: Path, optimizer: str) -> None:
    """Momentum of SGD and Muon, moments and counts of Adam; two modules, a batch norm's buffers and their averages."""
    options = replace(OPTIONS, optimizer=optimizer, weight_decay=0.1)
    save(tmp_path / "state.safetensors", trained(options, 3), {})
    task = TwoViews()
    resumed = fresh(task, options)
    restore(tmp_path / "state.safetensors", resumed)
    train(task, images(), options, resumed, 7, lambda _: None)
    assert equal(resumed, trained(options, 7))
    kept = {"sgd": {"momentum_buffer"}, "muon": {"momentum_buffer", "exp_avg_sq"}}.get(optimizer, {"exp_avg_sq"})
    assert kept <= {name.split(".")[0] for name in resumed.tensors()}


def test_losses_besides_the_loss_are_logged(tmp_path: Path) -> None:
    _, rows, _ = run_once(slice_of(tmp_path, 1, 0, 3), TwoViews(), images(), OPTIONS)
    assert set(rows[-1]) == {"step", "images", "lr", "loss", "size of z"}


def test_a_second_view_has_draws_of_its_own_and_stored_ones_stay() -> None:
    batch = images().read(0, 8)
    draws = Draws(0, batch.positions)

    def noise(x: Tensor, draws: Draws) -> tuple[Tensor, None]:
        return draws.normal("n", tuple(x.shape[1:])), None

    noisy = second_view(batch, noise, draws)
    assert noisy.second is not None and not torch.equal(noisy.second, noise(batch.images, draws)[0])
    assert second_view(noisy, noise, draws) is noisy


def test_averages_are_of_floating_buffers_too_and_counts_are_copied() -> None:
    module = nn.BatchNorm1d(1)
    ema = EMA(module)
    module.running_mean.fill_(4.0)
    module.num_batches_tracked.fill_(7)
    ema.update(0.75)
    assert ema.module.running_mean.item() == 1.0 and ema.module.num_batches_tracked.item() == 7


def test_a_share_of_the_labels_is_dropped_in_training() -> None:
    """Independently for each image; the others are as they were."""
    n, labels = 20_000, torch.arange(20_000) % 10
    batch = Batch(torch.zeros(n, 1, 1, 1), labels, torch.arange(n))
    task = Diffusion(nn.Linear(1, 1), build_process(Flow(kind="flow")), label_dropout=0.1)
    seen = task.view_and_condition(batch, Draws(0, batch.positions))[1].label
    dropped = seen == -1
    assert dropped.float().mean() == pytest.approx(0.1, abs=0.01) and torch.equal(seen[~dropped], labels[~dropped])
    plain = Diffusion(nn.Linear(1, 1), build_process(Flow(kind="flow")))
    assert torch.equal(plain.view_and_condition(batch, Draws(0, batch.positions))[1].label, labels)


# --- a learned variance, a clean level


def test_a_learned_variance_reaches_the_sampler_through_guidance() -> None:
    """The conditional one, on a model whose estimate and variance are its label."""

    def denoise(x: Tensor, level: Level, label: Tensor) -> Denoised:
        values = label[:, None, None, None].expand_as(x).float()
        return Denoised(values, variance_share=values)

    denoised = guided(denoise, torch.tensor([3]), 2.0)(torch.zeros(1, 1, 2, 2), CLEAN)
    assert denoised.image.unique().tolist() == [7] and denoised.variance_share.unique().tolist() == [3]


def test_a_sampler_of_ones_own_needs_a_function_and_settings() -> None:
    settings: Any = SimpleNamespace(build=f"{__name__}:follow_variance", clip=False, steps=4)
    built = build_sampler(settings, Flow(kind="flow"))
    ones = torch.ones(1, 1, 2, 2)
    images = built.run(lambda x, _: Denoised(x, variance_share=ones), ones, lambda _: ones)
    assert images.unique().tolist() == [5.0]


def follow_variance(trajectory: Trajectory, x: Tensor, settings: Any) -> Tensor:
    for _, now, _ in trajectory.steps():
        x = x + trajectory.denoised(x, now).variance_share
    return x


def test_a_clean_level() -> None:
    assert (CLEAN.name, CLEAN.alpha, CLEAN.sigma, CLEAN.log_snr) == ("clean", 1, 0, float("inf"))
    assert EDM().level(0.0).name == "clean"


# --- arguments


def arguments() -> list[dict]:
    """Of every training job of the shipped recipes, as the dry run before this seam wrote them."""
    return json.loads((ROOT / "tests" / "data" / "training_arguments.json").read_text())


@pytest.mark.parametrize("argument", arguments(), ids=lambda argument: argument["task"])
def test_arguments_of_shipped_recipes_are_read_and_told_again(argument: dict) -> None:
    """The network and the process in headers, the kinds of tasks and their settings in `task`."""
    parsed = parse_argument(argument)
    dumped = parsed.model_dump(mode="json", exclude_unset=True)
    if not isinstance(argument["task"], str) or argument["task"] == "diffusion":
        dumped["task"] = dumped["task"]["kind"]
    assert dumped == argument


def test_the_argument_of_a_task_of_ones_own_has_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kind of task is a config model; its keys stand beside those of all tasks."""
    monkeypatch.setattr(tasks.Task, "members", dict(tasks.Task.members))

    class Mine(tasks.Task):
        kind: Literal["mine"]
        build: ClassVar[str] = f"{__name__}:make"

        weight: float = 1.0

    diffusion = next(argument for argument in arguments() if argument["task"] == "diffusion")
    parsed = parse_argument(diffusion | {"task": "mine", "weight": 2.0})
    assert isinstance(parsed, ExperimentArgument)
    assert parsed.task == Mine(kind="mine", weight=2.0) and located(parsed.build) is make
    with pytest.raises(ValueError, match="wieght"):
        parse_argument(diffusion | {"task": "mine", "wieght": 2.0})


def make(argument: ExperimentArgument, data: Data, device: torch.device, say: Callable[[str], object]) -> Task:
    return TwoViews()


# --- without pydantic


def test_training_runs_without_pydantic() -> None:
    """Every module of the rooms that a plain GPU machine runs, and two steps of a diffusion model."""
    code = """if True:
        import sys, importlib, pkgutil
        sys.modules["pydantic"] = None
        from types import SimpleNamespace
        for room in ("diffusion", "networks", "training"):
            package = importlib.import_module(f"diffprobe.{room}")
            for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
                importlib.import_module(module.name)
        import torch
        from diffprobe.training.data import Data
        from diffprobe.training.loop import fresh, train
        from diffprobe.training.optimizers import Options
        from diffprobe.training.stream import Stream
        from diffprobe.training.tasks.diffusion import make

        def settings(build, **keys):
            return SimpleNamespace(build=build, options=keys, **keys)

        average = settings("diffprobe.training.ema:half_life", kimg=1.0, ramp=0.05)
        argument = SimpleNamespace(
            network=settings("diffprobe.networks.dit:DiT", width=8, depth=1, heads=2, patch=2, augment=True),
            process=settings("diffprobe.diffusion.flow:Flow"),
            train=SimpleNamespace(seed=0, augment=None, flip=True),
        )
        cpu = torch.device("cpu")
        task = make(argument, Data((1, 4, 4), 0, ""), cpu, print)
        assert (task.identity, task.superseded) == ({"draws": "2"}, [{}])
        argument.train.augment = SimpleNamespace(p=0.12)
        del argument.network.options["augment"]  # here from the data
        augmented = make(argument, Data((1, 4, 4), 0, ""), cpu, print)
        assert (augmented.identity, augmented.superseded) == (
            {"draws": "2", "augmentation": "2"},
            [{}, {"draws": "2"}, {"augmentation": "2"}],
        )
        options = Options(batch=4, lr=0.01, averages={"ema": average})
        state = fresh(task, options)
        stream = Stream(torch.zeros(8, 4, 4, 1, dtype=torch.uint8), torch.zeros(8, dtype=torch.int64), 0, cpu)
        train(task, stream, options, state, 2, lambda _: None)
        assert state.step == 2 and not any(name.startswith("pydantic.") for name in sys.modules)
    """
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
