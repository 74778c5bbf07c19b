"""What the benchmarks of training share: a recipe of config/ddae.yaml as plain data, and its training job in memory.

The job is that of the workflow (workflow/scripts/train.py). A lent machine lacks packages that are imported for it and
not used by these benchmarks: where they are missing, stand-ins take their names. A recipe's defaults come from the
typed models, which need pydantic; elsewhere from a plan, a file that `throughput.py --write-plan` makes.
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
CONFIG = ROOT / "config" / "ddae.yaml"
LACKING = ("imagecodecs", "zarr")
SHARE = {"conv": 128, "block": 64}  # images of a batch that one GPU had in DDAE's runs, by the network's resampling

Recipe = dict[str, Any]


class StandIn(ModuleType):
    """A package that is only named: everything in it is a mock."""

    __path__: list[str] = []  # noqa: RUF012 (as a package's is)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return MagicMock(name=f"{self.__name__}.{name}")


class StandIns(MetaPathFinder, Loader):
    """Comes last, so that it is asked only for what is not installed."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(name, self, is_package=True) if name.partition(".")[0] in LACKING else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None: ...


sys.meta_path.append(StandIns())
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "workflow" / "scripts")]

import train as job  # noqa: E402 (the workflow's script, found by the line above)

from diffprobe.evaluation.model import Model  # noqa: E402
from diffprobe.networks.flops import flops, on_meta, training_flops  # noqa: E402
from diffprobe.training.loop import Options  # noqa: E402
from diffprobe.training.tasks import Task  # noqa: E402


def recipes(plan: Path | None = None) -> dict[str, Recipe]:
    """All recipes by name, from a plan or from the config: network, process, train, samplers, image (C, H, W)."""
    if plan is not None:
        return json.loads(plan.read_text())
    from diffprobe.config.inferred import model_space
    from diffprobe.config.load import load

    config, found = load(CONFIG), {}
    for name, experiment in config.experiments.items():
        channels, size = model_space(config, experiment)
        dumped = experiment.model_dump(mode="json", include={"network", "process", "train", "sample"})
        samplers = dumped.pop("sample")["samplers"]
        found[name] = dumped | {"samplers": samplers, "image": [channels, size, size]}
    return found


def changed(recipe: Recipe, settings: list[str]) -> Recipe:
    """The recipe with keys set as on a command line, `network.channels=32`."""
    recipe = json.loads(json.dumps(recipe))
    for setting in settings:
        path, _, text = setting.partition("=")
        *way, last = path.split(".")
        inner = recipe
        for key in way:
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
    """The task on the device, its options, and what of the network follows from the data; as the job makes them."""
    channels, size, _ = recipe["image"]
    config = {"task": "diffusion", **{key: recipe[key] for key in ("network", "process", "train")}}
    data = job.Data({"channels": channels, "size": size, "classes": []})
    device_batch = {"device_batch": recipe["train"]["device_batch"]} if recipe["train"]["device_batch"] else {}
    options = job.make_options(SimpleNamespace(config=config, device=where, options=device_batch))
    shape = job.network_shape(config, data)
    task = job.make_task(config, data, shape, options.seed)
    task.module.to(where, memory_format=torch.channels_last)
    return task, options, shape


def work(recipe: Recipe, shape: dict[str, int]) -> tuple[int, int]:
    """FLOPs per image: forward and backward, and forward alone."""
    told = {name: count for name, count in shape.items() if name != "image_channels"}
    module, inputs = on_meta(recipe["network"], tuple(recipe["image"]), **told)
    return training_flops(module, inputs), flops(lambda: module(*inputs))


def as_model(recipe: Recipe, network: Any, shape: dict[str, int]) -> Model:
    """A network in memory as evaluations see a checkpoint."""
    channels, height, width = recipe["image"]
    head = {"network": recipe["network"], "process": recipe["process"], "shape": shape, "image": recipe["image"]}
    process = job.build_process(recipe["process"])
    return Model(network, process, head, (channels, height, width), (height, width, channels), 0, None, lambda x: x)
