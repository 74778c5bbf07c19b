"""SODA in toy size, for the tests of its training, sampling and codes."""

from pathlib import Path
from typing import Any

import torch

from diffprobe.plan.training_argument import ExperimentArgument, parse_argument
from diffprobe.training import checkpoints
from diffprobe.training.data import Data
from diffprobe.training.optimizers import Options
from diffprobe.training.tasks.soda import CodedDiffusion, make

CPU = torch.device("cpu")
NETWORK = {"kind": "modulated_unet", "channels": 8, "multipliers": [1, 2], "blocks": 1, "groups": 4, "dropout": 0.0}
TASK = {"z": 12, "encoder": {"width": 4, "mean": [0.4], "std": [0.3]}}
OPTIONS = Options(batch=16, lr=2e-3, averages={})


def argument(network: dict[str, Any] | None = None, **task: Any) -> ExperimentArgument:
    """Of a training job, with keys of the network and of the task."""
    parsed = parse_argument(
        {
            "task": "soda",
            "network": NETWORK | (network or {}),
            "process": {"kind": "ddpm", "beta_schedule": "inverted"},
            "train": {"batch": 16},
            **TASK,
            **task,
        }
    )
    assert isinstance(parsed, ExperimentArgument)
    return parsed


def soda(network: dict[str, Any] | None = None, **task: Any) -> CodedDiffusion:
    """The task with fresh weights, for grey images of 8x8 without labels."""
    return make(argument(network, **task), Data((1, 8, 8), 0, ""), CPU, print)


def checkpoint(path: Path, network: dict[str, Any] | None = None) -> Path:
    """A checkpoint whose weights are off their initial ones, so that no layer is silent."""
    made, task = argument(network), soda(network)
    torch.manual_seed(1)
    for parameter in task.module.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    header = {"network": made.network.argument(), "process": made.process.model_dump(), "shape": task.shape}
    checkpoints.write(path, {"ema": task.module.state_dict()}, {**header, "image": [1, 8, 8], **made.described})
    return path
