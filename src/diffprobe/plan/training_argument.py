"""The JSON argument of a training job as a typed model; `build` names the code of its task.

The task of an experiment is a kind of config/tasks/ or of a plugin. The other two tasks train autoencoders and
classifiers that experiments use.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from diffprobe.config.autoencoders import Adversary, AutoencoderNetwork, Perceptual, Resize
from diffprobe.config.base import Number, Positive, Strict
from diffprobe.config.built import BuiltNetwork, Classifier, TaskModel, parse_network
from diffprobe.config.networks import Network
from diffprobe.config.processes import Process
from diffprobe.config.tasks import Task
from diffprobe.config.training import Training


class TrainSettings(Training):
    """Training settings in a job's argument: those of the config that change the result."""

    checkpoints: list[Positive] = Field([], description="Never part of the argument.")


class TrainingArgument(Strict):
    """Base class: what the arguments of all tasks share."""

    network: BuiltNetwork
    train: TrainSettings
    latents: dict[str, Any] | None = None  # settings that the store of latents must match

    @property
    def build(self) -> str:
        """The function that constructs the task (see `training.tasks.base`)."""
        raise NotImplementedError

    @property
    def described(self) -> dict[str, Any]:
        """Entries of a checkpoint's header that describe the task, if its model is more than the network."""
        return {}


class ExperimentArgument(TrainingArgument):
    """An experiment's run. The task's settings are at the top level of the JSON and in `task` here."""

    task: Task
    network: Network
    process: Process

    @model_validator(mode="before")
    @classmethod
    def nested(cls, argument: dict[str, Any]) -> dict[str, Any]:
        # Keys that no field of this model takes are the task's own settings.
        beside = {key: value for key, value in argument.items() if key not in cls.model_fields}
        shared = {key: value for key, value in argument.items() if key in cls.model_fields}
        network = parse_network(argument["network"])
        return shared | {"task": {"kind": argument["task"], **beside}, "network": network}

    @property
    def build(self) -> str:
        return self.task.build

    @property
    def model(self) -> Network | TaskModel:
        """What is built: the network, or more where the task's model is."""
        return TaskModel(self.task, self.network) if self.task.model else self.network

    @property
    def described(self) -> dict[str, Any]:
        return {"task": self.task.model_dump(mode="json")} if self.task.model else {}


class Losses(Strict):
    """The terms of an autoencoder's loss."""

    reconstruction: Literal["mse", "l1"] = "mse"
    kl_weight: Annotated[Number, Field(ge=0)] = 1e-6
    perceptual: Perceptual | None = None
    adversary: Adversary | None = None


class AutoencodingArgument(TrainingArgument):
    """The training of an autoencoder."""

    task: Literal["autoencoding"]
    network: AutoencoderNetwork
    size: Positive
    resize: Resize
    losses: Losses

    @property
    def build(self) -> str:
        return "diffprobe.training.tasks.autoencoding:make"


class ClassificationArgument(TrainingArgument):
    """The training of a classifier."""

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
    """Parse a training job's JSON. Raises pydantic's ValidationError, a ValueError."""
    return BESIDE_EXPERIMENTS.get(argument["task"], ExperimentArgument).model_validate(argument)
