"""The whole config as typed models, from which `config/schema.json` and `config/README.md` are generated."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from diffprobe.config.autoencoders import Autoencoder
from diffprobe.config.base import (
    LATER,
    Batch,
    Folder,
    Images,
    Name,
    NotNegative,
    Number,
    Path,
    Positive,
    Repeats,
    Strict,
)
from diffprobe.config.datasets import Dataset
from diffprobe.config.extractors import Extractor
from diffprobe.config.latents import Latents
from diffprobe.config.networks import Network
from diffprobe.config.noise import CLEAN
from diffprobe.config.probing import Probe
from diffprobe.config.processes import Process
from diffprobe.config.samplers import Sampling
from diffprobe.config.tasks import Task
from diffprobe.config.tasks.diffusion import Diffusion
from diffprobe.config.trackers import Tracker
from diffprobe.config.training import Training

Count = Annotated[Positive, Field(le=64)]  # in a picture
Shown = Annotated[Count, Field(ge=2)]


class Decodings(Strict):
    """Test images decoded from their codes, by a model with an encoder."""

    images: Images = Field(256, description="Test images whose decodings are compared with them.")
    shown: Shown = Field(8, description="Of these, those in the pictures; two neighbours are a pair.")
    variations: Count = Field(4, description="Decodings of each by different noise.")
    steps: Shown = Field(8, description="Decodings between the codes of a pair, ends included.")


class Generation(Strict):
    """Quality of the samples, measured against the images the generator may see (`train` and `select`)."""

    extractors: list[Name] = Field(
        description="Entries of `extractors`. Metric names include the extractor and the number of images. Empty: "
        "only `nearest` is computed.",
    )
    figures: list[str] | Literal["all"] = Field(
        "all",
        description="`fd` (reported as fid where it is one), `fid`, `sfid`, `kid`, `is`, `precision`, `recall`, "
        "`density`, `coverage`, or `all` that the extractors support. `fid50k` is refused unless 50,000 images are "
        "drawn.",
    )
    nearest: NotNegative = Field(
        1000,
        le=10_000_000,
        description="Number of samples checked for memorisation, by their nearest training images in pixel space; 0: "
        "none.",
    )
    decodings: Annotated[Decodings | None, LATER] = Field(
        None, description="Test images decoded from their codes, for the task `soda`; null: none."
    )


class Experiment(Strict):
    """One model: dataset, network, objective, training and evaluation."""

    dataset: Name = Field(description="Entry of `datasets`.")
    latents: Name | None = Field(
        None, description="Entry of `latents`, for diffusion in latent space; null: in pixels."
    )
    network: Network = Field(description="Network.")
    process: Process = Field(description="Diffusion process.")
    task: Annotated[Task, LATER] = Field(Diffusion(kind="diffusion"), description="Training task.")
    train: Training = Field(description="Training.")
    sample: Sampling = Field(default_factory=Sampling, description="Sampling.")
    generation: Generation | None = Field(None, description="Quality of the samples; null: not measured.")
    probe: Probe | None = Field(None, description="Probes of the features (needs labels); null: none.")

    @property
    def taps(self) -> list[str]:
        """The taps of its model, in order of computation."""
        return self.task.taps(self.network)

    @property
    def named_taps(self) -> list[str]:
        """Those and the taps that have to be named, since `all` leaves them out, in order of computation."""
        return self.network.named_taps if self.taps == self.network.taps else self.taps

    @property
    def clean_taps(self) -> list[str]:
        """Those of them that see images as they are."""
        return self.task.clean_taps(self.network)

    @property
    def probed_taps(self) -> list[str]:
        """The taps that are probed, in order of computation: those named, or all that the grid's levels have."""
        if self.probe is None:
            return []
        if self.probe.taps != "all":
            return [tap for tap in self.named_taps if tap in self.probe.taps]
        clean, probe = self.clean_taps, self.probe
        return [tap for tap in self.taps if not clean or (probe.clean if tap in clean else probe.noisy)]

    def probed_at(self, ratio: float) -> list[str]:
        """The taps that are probed at a level, by its sigma/alpha: all, where none sees images as they are alone."""
        clean = self.clean_taps
        if not clean:
            return self.probed_taps
        return [tap for tap in self.probed_taps if (tap in clean) == (ratio == CLEAN)]


class State(Strict):
    """What is kept besides results, and logging. Changes no result. Triggers no rerun, but for features that are to be
    kept and are gone.
    """

    keep: Literal["all", "last"] = Field(
        "last",
        description="Training states to keep: of every checkpoint, or only of the last (remaking an older checkpoint "
        "then means retraining).",
    )
    autosave_seconds: Number = Field(
        120, gt=0, description="Interval of autosaves: a killed job loses at most this much work."
    )
    keep_features: Literal["chosen", "all"] = Field(
        "chosen",
        description="Features to keep: of the chosen cell only, or of all checkpoints, levels and taps, which saves "
        "recomputing them for a new grid.",
    )
    tensorboard: bool = Field(False, description="Also write losses as TensorBoard events to runs/NAME/tensorboard.")
    trackers: list[Tracker] = Field([], description="Services that show losses while trainings run.")


class MemoryBudget(Strict):
    """Where training holds its latents, by the size of their store. Stores above both limits are read in windows, two
    (`train.window_mib`) at a time: from mapped files if the page cache can hold the store, else streamed from the disk.
    Changes no result.
    """

    device_gib: Number = Field(8, ge=0, description="Stores up to this size, in GiB, are held on the GPU.")
    host_gib: Number = Field(
        2,
        ge=0,
        description="Stores up to this size, in GiB, are held in host memory, shared by all processes of a run.",
    )
    mapped: Literal["checked", "unchecked", "never"] = Field(
        "checked",
        description="Stores above both limits that take at most three quarters of the available memory are read from "
        "mapped files, and each chunk's checksum is compared the first time that a process reads it, or not at all; "
        "never: always streamed, with every checksum compared at every read.",
    )


class Threads(Strict):
    """CPU threads per job. The number can change rounding, so keep it fixed within a run."""

    train: Repeats = Field(2, description="Threads of training jobs.")
    evaluate: Repeats = Field(1, description="Threads of all other jobs.")
    decode: Annotated[Positive, Field(le=1024)] = Field(
        2, description="Processes that decode images when a dataset is read. Does not change the store."
    )


class Metrics(Strict):
    """How generated images are measured: shared by all experiments, so that their metrics are comparable."""

    subset: Images = Field(
        10_000,
        description="Generated and reference images, evenly spaced, used for kernel distance, precision, recall, "
        "density and coverage; other metrics use all images.",
    )
    neighbours: Repeats = Field(3, description="Nearest neighbours k for precision and recall.")
    wide_neighbours: Repeats = Field(5, description="Nearest neighbours k for density and coverage.")
    batch: Batch = Field(64, description="Images per forward pass of an extractor. Changes no metric.")
    references: Path = Field(
        "results/references",
        description="Folder of reference statistics, named by content and shared by all runs that use this folder.",
    )


class Report(Strict):
    """Plot options. They trigger no retraining and no re-evaluation."""

    columns: Positive = Field(16, le=256, description="Columns of the sample grids.")
    rows: Positive = Field(8, le=1024, description="Rows of the sample grids.")
    scale: Positive = Field(6, le=256, description="Screen pixels per image pixel in the grids.")
    dpi: Positive = Field(110, le=1200, description="Resolution of the plots.")


class Each(BaseModel):
    """Any keys of an `Experiment`, at any depth, merged over every experiment before validation. A small file such as
    `smoke.yaml` can thus scale down any recipe.
    """

    model_config = ConfigDict(extra="allow", frozen=True)


class Config(Strict):
    """The whole config."""

    plugins: list[Path] = Field(
        [],
        description="Python files that define kinds of your own: networks, processes, samplers, evaluators, sources, "
        "tasks, extractors (see docs/extending.md). They are executed by the workflow.",
    )
    results: Folder = Field("results", description="Folder for all outputs.")
    datasets: dict[Name, Dataset] = Field(min_length=1, description="Datasets by name.")
    autoencoders: dict[Name, Autoencoder] = Field({}, description="Autoencoders by name.")
    latents: dict[Name, Latents] = Field({}, description="Stores of latents by name.")
    extractors: dict[Name, Extractor] = Field(
        {}, description="Feature extractors by name, for the metrics of generation."
    )
    experiments: dict[Name, Experiment] = Field(min_length=1, description="Experiments by name.")
    only: list[Name] | Name | None = Field(
        None,
        description="Experiments to run; all others, and datasets that only they use, are ignored. null: all.",
    )
    each: Each | None = Field(None, description="Keys merged over every experiment; null: none.")
    state: State = Field(default_factory=State, description="Training states to keep, and logging.")
    memory_budget: MemoryBudget = Field(default_factory=MemoryBudget, description="Where training holds latents.")
    threads: Threads = Field(default_factory=Threads, description="CPU threads per job.")
    metrics: Metrics = Field(default_factory=Metrics, description="Metrics of generation.")
    report: Report = Field(default_factory=Report, description="Plot options.")
