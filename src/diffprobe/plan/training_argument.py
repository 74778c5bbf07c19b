"""The JSON argument of a training job as a typed model; `build` names the code of its task.

The task of an experiment is a kind of config/tasks/ or of a plugin. The other tasks train autoencoders and
classifiers that experiments use, and fine-tune their networks.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from diffprobe.config.autoencoders import Adversary, AutoencoderNetwork, Perceptual, Resize
from diffprobe.config.base import Number, Positive, Strict
from diffprobe.config.built import BuiltNetwork, Classifier, FineTuned, TaskModel, parse_network
from diffprobe.config.evaluators.finetune import FineTune
from diffprobe.config.names import Pooling
from diffprobe.config.networks import Network
from diffprobe.config.processes import Process
from diffprobe.config.tasks import Task
from diffprobe.config.training import Training
from diffprobe.config.views import RandomView
from diffprobe.plan.probe_arguments import CellSelection, Choice, JoinedCell
from diffprobe.runtime.results import read_result


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

    def decided(self, files: Mapping[str, Path]) -> Self:
        """With what earlier jobs have decided, whose files are its inputs. Raises UserError for a damaged one."""
        return self

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


class FineTuningArgument(TrainingArgument):
    """A run of fine-tuning. The cell, the checkpoint and perhaps the learning rate are decided by earlier jobs."""

    task: Literal["finetuning"]
    network: Network
    process: Process
    model_task: Task | None = None  # the task of its model, where the model is more than the network
    weights: str  # a set of weights of the checkpoint
    checkpoints: list[int]  # in thousands of images, in the order of the inputs `weights.N`
    at: JoinedCell | None = None
    pooling: Pooling
    label: int | None
    code: Literal["encoded", "dropped"] = "encoded"
    zeroed: tuple[Literal["time", "label"], ...] = ()
    lowest: float  # sigma/alpha of the process's lowest level
    evaluator: FineTune
    # Decided:
    tap: str = ""
    sigma: float = 0.0
    kimg: int = 0

    @model_validator(mode="before")
    @classmethod
    def parsed(cls, argument: dict[str, Any]) -> dict[str, Any]:
        return argument | {"network": parse_network(argument["network"])}

    @property
    def build(self) -> str:
        return self.evaluator.build

    @property
    def model(self) -> Network | TaskModel:
        """What is fine-tuned."""
        return TaskModel(self.model_task, self.network) if self.model_task else self.network

    @property
    def clean_taps(self) -> list[str]:
        return self.model_task.clean_taps(self.network) if self.model_task else []

    @property
    def random_view(self) -> RandomView | None:
        """RandAugment as a view of training images."""
        randaugment = self.evaluator.randaugment
        return RandomView(crop=None, randaugment=randaugment) if randaugment else None

    def finetuned(self, shape: dict[str, int]) -> FineTuned:
        """The network that is trained; `shape` is that of its model."""
        task = {"task": self.model_task.model_dump(mode="json")} if self.model_task else {}
        model = {"network": self.network.argument(), **task}
        parts = {"tap": self.tap, "pooling": self.pooling, "norm": self.evaluator.norm}
        return FineTuned(kind="finetuned", model=model, shape=shape, **parts)

    def decided(self, files: Mapping[str, Path]) -> Self:
        choice = read_result(files["choice"], Choice.model_validate)
        (columns,) = choice.columns(CellSelection(combine=[], tokens=False, at=self.at))
        lr = {"lr": read_result(files["setting"], lambda entry: entry["setting"]["lr"])} if "setting" in files else {}
        cell = {"tap": columns["tap"], "sigma": columns["sigma"], "kimg": choice.kimg}
        return self.model_copy(update=cell | {"train": self.train.model_copy(update=lr)})


BESIDE_EXPERIMENTS: dict[str, type[TrainingArgument]] = {
    "autoencoding": AutoencodingArgument,
    "classification": ClassificationArgument,
    "finetuning": FineTuningArgument,
}


def parse_argument(argument: dict[str, Any]) -> TrainingArgument:
    """Parse a training job's JSON. Raises pydantic's ValidationError, a ValueError."""
    return BESIDE_EXPERIMENTS.get(argument["task"], ExperimentArgument).model_validate(argument)
