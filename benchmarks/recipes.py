"""Shared by the benchmarks of training: a recipe of config/ddae.yaml or soda.yaml as plain data, and its job in memory.

The job is the workflow's own (workflow/scripts/train.py). A borrowed machine may lack packages that the job imports and
these benchmarks do not use; mocks stand in for them. A recipe's defaults come from the typed models, which need
pydantic; without it from a plan, a file that `throughput.py --write-plan` writes.
"""

import json
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import torch
import yaml

ROOT = Path(__file__).parents[1]
CONFIGS = [ROOT / "config" / name for name in ("ddae.yaml", "soda.yaml")]
LACKING = ("imagecodecs", "zarr")
NO_OPTIONS = (
    "kind",
    "build",
    "schedule",
    "learns_variance",
    "output_shape",
    "code_parts",
    "conditional",
    "augment",
    "label_dropout",
    "size",
)  # of networks and processes
SHARE = {"conv": 128, "block": 64}  # images of a batch that one GPU had in DDAE's runs, by the network's resampling

Recipe = dict[str, Any]


class StandIn(ModuleType):
    """A missing package: everything in it is a mock."""

    __path__: list[str] = []  # noqa: RUF012 (as a package's is)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return MagicMock(name=f"{self.__name__}.{name}")


class StandIns(MetaPathFinder, Loader):
    """The last finder, so that it only gets the names of packages that are not installed."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(name, self, is_package=True) if name.partition(".")[0] in LACKING else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None: ...


sys.meta_path.append(StandIns())
sys.path.insert(0, str(ROOT / "src"))

from diffprobe.diffusion.build import Sampler, build_process, build_sampler  # noqa: E402
from diffprobe.evaluation.model import Model  # noqa: E402
from diffprobe.networks.flops import flops, on_meta, training_flops  # noqa: E402
from diffprobe.runtime.devices import memory_format  # noqa: E402
from diffprobe.runtime.located import located  # noqa: E402
from diffprobe.training.data import Data  # noqa: E402
from diffprobe.training.optimizers import Options  # noqa: E402
from diffprobe.training.tasks.base import Task  # noqa: E402


def recipes(plan: Path | None = None) -> dict[str, Recipe]:
    """All recipes by name, from a plan or from the configs: network, process, task, train, samplers, image (C, H, W),
    and classes where there are any.

    `build` of networks, processes, tasks, averages and samplers names their code.
    """
    if plan is not None:
        return json.loads(plan.read_text())
    from diffprobe.config.inferred import model_space
    from diffprobe.config.load import load

    return {
        name: recipe_of(experiment, *model_space(config, experiment))
        for config in map(load, CONFIGS)
        for name, experiment in config.experiments.items()
    }


def recipe_of(experiment: Any, channels: int, size: int) -> Recipe:
    averages = {key: coded(average) for key, average in experiment.train.averages.items()}
    network = experiment.network
    return {
        "network": coded(network) | {"code_parts": network.code_parts},
        "process": process_of(experiment.process) | {"output_shape": experiment.process.output_shape(channels)},
        "task": coded(experiment.task) | {"model": experiment.task.model},
        "train": dumped(experiment.train) | {"averages": averages},
        "samplers": {key: coded(sampler) for key, sampler in experiment.sample.samplers.items()},
        "image": [channels, size, size],
    }


def dumped(model: Any) -> Recipe:
    """All fields, including those that a job's argument leaves out while they have their default."""
    return {name: getattr(model, name) for name in type(model).model_fields} | model.model_dump(mode="json")


def coded(model: Any) -> Recipe:
    return dumped(model) | {"build": model.build}


def process_of(model: Any) -> Recipe:
    """A process's settings, and what of it is no setting but is asked for."""
    return coded(model) | {"schedule": model.schedule, "learns_variance": model.learns_variance}


def settings(part: Recipe) -> Any:
    """A part of a recipe with its keys as attributes, as in the typed models; `options` are those of its code."""
    options = {key: value for key, value in part.items() if key not in NO_OPTIONS}
    return SimpleNamespace(**part, options=options)


def nested(part: Any) -> Any:
    """A part of a recipe with all keys within it as attributes."""
    return SimpleNamespace(**{key: nested(value) for key, value in part.items()}) if isinstance(part, dict) else part


def training(recipe: Recipe) -> Any:
    """The same for the `train` of a recipe."""
    train = recipe["train"]
    averages = {name: settings(average) for name, average in train["averages"].items()}
    return settings(train | {"averages": averages, "augment": train["augment"] and settings(train["augment"])})


def changed(recipe: Recipe, settings: list[str]) -> Recipe:
    """The recipe with keys set as on a command line, `network.channels=32`."""
    recipe = json.loads(json.dumps(recipe))
    for setting in settings:
        path, _, text = setting.partition("=")
        *parents, last = path.split(".")
        inner = recipe
        for key in parents:
            inner = inner[key]
        if last not in inner:
            sys.exit(f"{path}: no such key; there are {', '.join(inner)}")
        inner[last] = yaml.safe_load(text)
    return recipe


def device() -> torch.device:
    """The GPU, or the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    torch.set_float32_matmul_precision("high")  # as the jobs do
    return torch.device("cuda")


def device_name(where: torch.device) -> str:
    return torch.cuda.get_device_name() if where.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"


def assemble(recipe: Recipe, where: torch.device) -> tuple[Task, Options, dict[str, int]]:
    """The task on the device, its options, and the network's shape from the data, built as in the job."""
    channels, size, _ = recipe["image"]
    train, process = training(recipe), settings(recipe["process"])
    process.output_shape = lambda _: recipe["process"]["output_shape"]
    network, task_settings = settings(recipe["network"]), nested(recipe["task"])
    more = SimpleNamespace(build=task_settings.model, options={"network": network, "task": task_settings})
    argument: Any = SimpleNamespace(
        network=network, process=process, task=task_settings, train=train, model=more if more.build else network
    )
    data = Data((channels, size, size), recipe.get("classes", 0), content="")
    task = located(recipe["task"]["build"])(argument, data, where, print)
    task.module.to(where).to(memory_format=memory_format(where))
    options = Options.of(train, where, task.module, train.device_batch)
    return task, options, task.shape


def work(recipe: Recipe, shape: dict[str, int]) -> tuple[int, int]:
    """FLOPs per image: forward and backward, and forward alone."""
    module, inputs = on_meta(settings(recipe["network"]), tuple(recipe["image"]), **shape)
    return training_flops(module, inputs), flops(lambda: module(*inputs))


def as_model(recipe: Recipe, network: Any, shape: dict[str, int]) -> Model:
    """A network in memory, in the form in which evaluations read a checkpoint."""
    channels, height, width = recipe["image"]
    head = {"network": recipe["network"], "process": recipe["process"], "shape": shape, "image": recipe["image"]}
    process = build_process(settings(recipe["process"]))
    return Model(network, process, head, (channels, height, width), (height, width, channels), 0, None, lambda x: x)


def sampler_of(recipe: Recipe, name: str) -> Sampler:
    return build_sampler(settings(recipe["samplers"][name]), settings(recipe["process"]))
