"""What may be asked for, as typed models; `config/schema.json` and `config/README.md` are made from them."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from diffprobe.config.autoencoders import Autoencoder
from diffprobe.config.base import LATER, Name, NotNegative, Number, Path, Positive, Strict
from diffprobe.config.datasets import Dataset
from diffprobe.config.extractors import Extractor
from diffprobe.config.latents import Latents
from diffprobe.config.networks import Network
from diffprobe.config.probing import Probe
from diffprobe.config.processes import Process
from diffprobe.config.samplers import Sampling
from diffprobe.config.tasks import Task
from diffprobe.config.tasks.diffusion import Diffusion
from diffprobe.config.training import Training


class Generation(Strict):
    """How good the samples are, against the images that the generator may see (`train` and `select`)."""

    extractors: list[Name] = Field(
        description="Entries of `extractors`; the names of the figures say which, and over how many images. "
        "Without any only `nearest` is asked.",
    )
    figures: list[str] | Literal["all"] = Field(
        "all",
        description="`fd` (called fid where it is one), `fid`, `sfid`, `kid`, `is`, `precision`, `recall`, `density`, "
        "`coverage`, or `all` that the extractors can tell. `fid50k` is refused unless 50,000 images are drawn.",
    )
    nearest: NotNegative = Field(
        1000,
        description="Generated images whose nearest training images are sought (in pixels), to see whether they are "
        "copies; 0: none.",
    )


class Experiment(Strict):
    """One model: a dataset, a network, an objective, its training, and what is asked of it."""

    dataset: Name = Field(description="An entry of `datasets`.")
    latents: Name | None = Field(
        None, description="An entry of `latents`, where the diffusion runs there; null: in pixels."
    )
    network: Network = Field(description="The network.")
    process: Process = Field(description="The diffusion process.")
    task: Annotated[Task, LATER] = Field(Diffusion(kind="diffusion"), description="What its training learns.")
    train: Training = Field(description="Its training.")
    sample: Sampling = Field(description="Its samples.")
    generation: Generation | None = Field(None, description="Their quality; null: not measured.")
    probe: Probe | None = Field(None, description="Probes of its features (needs labels); null: none.")

    @property
    def taps(self) -> list[str]:
        """The taps of its model in the order of computation."""
        return self.task.taps(self.network)

    @property
    def probed_taps(self) -> list[str]:
        """Those whose features are probed, in the same order."""
        if self.probe is None:
            return []
        return self.taps if self.probe.taps == "all" else [tap for tap in self.taps if tap in self.probe.taps]


class State(Strict):
    """Keeping of training states, and their display. Changes no result and reruns nothing."""

    keep: Literal["all", "last"] = Field(
        "last",
        description="Training states kept: of every checkpoint, or of the last only "
        "(remaking an older checkpoint then costs retraining).",
    )
    autosave_seconds: Number = Field(
        120, gt=0, description="A killed training, or pass over images, loses at most this."
    )
    keep_features: Literal["chosen", "all"] = Field(
        "chosen",
        description="Features kept: those of the chosen cell, or of all checkpoints, levels and taps too (else a new "
        "grid computes them anew).",
    )
    tensorboard: bool = Field(False, description="Losses also as TensorBoard events, in runs/NAME/tensorboard.")


class MemoryBudget(Strict):
    """How training reads latents, by the size of their store; changes no result. Larger ones than both are streamed,
    two windows (`train.window_mib`) at a time.
    """

    device_gib: Number = Field(8, ge=0, description="Up to this (GiB) all of it is held on a GPU.")
    host_gib: Number = Field(
        2,
        ge=0,
        description="Up to this it is held in memory, once for all processes of a training.",
    )


class Threads(Strict):
    """CPU threads of a job. Another number may round differently, so it stays with a run."""

    train: Positive = Field(2, description="Training jobs.")
    evaluate: Positive = Field(1, description="All others.")
    decode: Positive = Field(2, description="Reading a dataset: processes that decode images; changes no byte.")


class Metrics(Strict):
    """How generated images are measured: one setting for all experiments, so that their figures compare."""

    subset: Positive = Field(
        10_000,
        description="Images of each kind that kernel distance, precision, recall, density and coverage compare, "
        "drawn evenly; the other figures take all.",
    )
    neighbours: Positive = Field(3, description="k of precision and recall.")
    wide_neighbours: Positive = Field(5, description="k of density and coverage.")
    batch: Positive = Field(64, description="Images per pass of an extractor; changes no figure.")
    references: Path = Field(
        "results/references",
        description="Folder of reference statistics, named by content: computed once for all runs that name it.",
    )


class Report(Strict):
    """Plot options; they retrain and re-evaluate nothing."""

    columns: Positive = Field(16, description="Columns of the sample grids.")
    rows: Positive = Field(8, description="Rows of the sample grids.")
    scale: Positive = Field(6, description="Screen pixels per image pixel in the grids.")
    dpi: Positive = Field(110, description="Resolution of the plots.")


class Each(BaseModel):
    """Any keys of an `Experiment`, as deep as they go, merged over every experiment before these are checked: so a
    small file scales any recipe down (`smoke.yaml`).
    """

    model_config = ConfigDict(extra="allow", frozen=True)


class Config(Strict):
    """The whole config."""

    plugins: list[Path] = Field(
        [],
        description="Python files that add kinds of your own: networks, processes, samplers, evaluators, sources, "
        "tasks, extractors (docs/extending.md). They run as part of the workflow.",
    )
    results: str = Field("results", pattern=r"^[^{}]+$", description="Folder of everything that is made.")
    datasets: dict[Name, Dataset] = Field(min_length=1, description="Datasets by name.")
    autoencoders: dict[Name, Autoencoder] = Field({}, description="Autoencoders by name.")
    latents: dict[Name, Latents] = Field({}, description="Stores of latents by name.")
    extractors: dict[Name, Extractor] = Field({}, description="Feature extractors of the distances, by name.")
    experiments: dict[Name, Experiment] = Field(min_length=1, description="Experiments by name.")
    only: list[Name] | Name | None = Field(
        None,
        description="The experiments to run; others, and datasets of theirs alone, are as if not there. Null: all.",
    )
    each: Each | None = Field(None, description="What is merged over every experiment; null: nothing.")
    state: State = Field(default_factory=State, description="Keeping of training states.")
    memory_budget: MemoryBudget = Field(default_factory=MemoryBudget, description="How training reads latents.")
    threads: Threads = Field(default_factory=Threads, description="CPU threads per job.")
    metrics: Metrics = Field(default_factory=Metrics, description="How generated images are measured.")
    report: Report = Field(default_factory=Report, description="Plot options.")
