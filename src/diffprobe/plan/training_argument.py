"""The JSON argument of a training job as a typed model; `build` names the code of its task.

An experiment's task is a kind of config/tasks/, ours or a plugin's. The other two tasks train what experiments need.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from diffprobe.config.autoencoders import Adversary, AutoencoderNetwork, Perceptual, Resize
from diffprobe.config.base import Number, Positive, Strict
from diffprobe.config.built import BuiltNetwork, Classifier, parse_network
from diffprobe.config.networks import Network
from diffprobe.config.processes import Process
from diffprobe.config.tasks import Task
from diffprobe.config.training import Training


class TrainSettings(Training):
    """The `train` of a job's argument: `train` of the config without what changes no result."""

    checkpoints: list[Positive] = Field([], description="Not part of the argument.")


class TrainingArgument(Strict):
    """What the arguments of all tasks have."""

    network: BuiltNetwork
    train: TrainSettings
    latents: dict[str, Any] | None = None  # what the store of latents must have been made with

    @property
    def build(self) -> str:
        """The function that makes the task of this argument (see `training.tasks.base`)."""
        raise NotImplementedError

    @property
    def described(self) -> dict[str, Any]:
        """What a checkpoint's header says of the task, where the trained model is more than its network."""
        return {}


class ExperimentArgument(TrainingArgument):
    """Of an experiment's run: its task's own settings stand beside these keys, and are in `task` here."""

    task: Task
    network: Network
    process: Process

    @model_validator(mode="before")
    @classmethod
    def nested(cls, argument: dict[str, Any]) -> dict[str, Any]:
        beside = {key: value for key, value in argument.items() if key not in cls.model_fields}
        shared = {key: value for key, value in argument.items() if key in cls.model_fields}
        network = parse_network(argument["network"])
        return shared | {"task": {"kind": argument["task"], **beside}, "network": network}

    @property
    def build(self) -> str:
        return self.task.build

    @property
    def described(self) -> dict[str, Any]:
        return {"task": self.task.model_dump(mode="json")} if self.task.model else {}


class Losses(Strict):
    """What an autoencoder's loss is made of."""

    reconstruction: Literal["mse", "l1"] = "mse"
    kl_weight: Annotated[Number, Field(ge=0)] = 1e-6
    perceptual: Perceptual | None = None
    adversary: Adversary | None = None


class AutoencodingArgument(TrainingArgument):
    task: Literal["autoencoding"]
    network: AutoencoderNetwork
    size: Positive
    resize: Resize
    losses: Losses

    @property
    def build(self) -> str:
        return "diffprobe.training.tasks.autoencoding:make"


class ClassificationArgument(TrainingArgument):
    task: Literal["classification"]
    network: Classifier

    @property
    def build(self) -> str:
        return "diffprobe.training.tasks.classification:make"


BESIDE_EXPERIMENTS: dict[str, type[TrainingArgument]] = {
    "autoencoding": AutoencodingArgument,
    "classification": ClassificationArgument,
}


def parse_argument(argument: dict[str, Any]) -> TrainingArgument:
    """The typed model of a job's JSON. Raises pydantic's ValidationError, a ValueError."""
    return BESIDE_EXPERIMENTS.get(argument["task"], ExperimentArgument).model_validate(argument)
