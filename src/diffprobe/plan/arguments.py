"""The JSON arguments of jobs as typed models: what `job_arguments` writes is parsed back here.

Scripts parse their argument at the top of `main`. Training has a module of its own, `training_argument`, and so have
features and what is fitted on them, `probe_arguments`. Receipts and identities use the argument's plain data, which
these models never change.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, JsonValue

from diffprobe.config.extractors import Extractor
from diffprobe.config.extractors.classifier import ClassifierExtractor
from diffprobe.config.models import Metrics

Columns = dict[str, Any]  # columns that all rows of a job's results share


class Argument(BaseModel):
    """Part of a job's argument. Keys that a model does not declare belong to other parts."""

    model_config = ConfigDict(extra="ignore", frozen=True, defer_build=True)


class DatasetArgument(Argument):
    """Of the baseline on pixels."""

    dataset: str


class DownloadArgument(Argument):
    """Of a download."""

    kind: str  # of source


class FetchArgument(Argument):
    """Of a remote file."""

    sha256: str


class ScaleArgument(Argument):
    """Of the job that completes a store of latents."""

    scale: Literal["measured", "published"] | float


class SummaryArgument(Argument):
    """Of the tables."""

    experiments: list[str]
    probed: list[str]  # those with a choice, in order
    repeats: list[tuple[str, dict[str, tuple[int, int]]]] = []
    """Groups that differ in seeds alone, with their members' seeds; in order, since an object's keys are sorted."""
    histories: list[Columns] = []  # of the inputs history.N


class DrawnSamples(Argument):
    """The samples of an experiment that stand for it."""

    experiment: str
    kimg: int
    sampler: str


class OverviewArgument(Argument):
    """Of the first page of the report."""

    experiments: list[str]
    probed: list[str]  # those with a choice, in order
    drawn: list[DrawnSamples]  # in the order of the inputs samples.N
    dpi: int


class Compared(Argument):
    """An experiment that is compared with others."""

    name: str
    checkpoints: list[int]  # in the order of the inputs
    taps: list[str]  # in the order of computation


class ComparisonArgument(Argument):
    """A comparison of the experiments on a dataset."""

    dataset: str
    experiments: list[Compared]
    dpi: int


# --- samples and their metrics


def parse_extractor(entry: JsonValue | Extractor) -> Extractor:
    """Parse an entry of `job_arguments.extractor`. Raises pydantic's ValidationError for an unknown kind."""
    if isinstance(entry, dict) and set(entry) == {"kind"}:
        # Trained by the workflow. Its weights, an input of their own, hold everything else.
        return ClassifierExtractor.model_construct(kind="classifier", dataset="")
    return Extractor.model_validate(entry)


ExtractorEntry = Annotated[Extractor, BeforeValidator(parse_extractor)]


class SampleArgument(Argument):
    """The samples of one checkpoint by one sampler."""

    seed: int
    sampler: dict[str, Any]
    weights: dict[str, Any]
    keep: int  # images that are written
    images: int | None = None  # images that are measured, if the same job draws them
    strip_stride: int | None = None  # steps from frame to frame of the strip


class GenerationArgument(Argument):
    """How samples are measured."""

    row: Columns
    extractors: dict[str, ExtractorEntry]
    figures: list[str] | Literal["all"]
    metrics: Metrics


class DrawnArgument(SampleArgument):
    """Samples of which only the first are kept."""

    images: int


class GenerateArgument(Argument):
    """Samples drawn and measured in one job."""

    sample: DrawnArgument
    generation: GenerationArgument


class ReferenceArgument(Argument):
    """Reference statistics of one extractor."""

    extractor: ExtractorEntry
    subset: int
    splits: list[str]


class NearestArgument(Argument):
    """A check for memorisation by nearest neighbours."""

    row: Columns
    images: int  # queries
    shown: int  # queries in the picture
    neighbours: int  # beside each query in the picture
    splits: list[str]  # compared with
    few: tuple[int, int] | None = None  # or with so many of their images, by a seed: those that were trained on


class DecodingsArgument(Argument):
    """Test images decoded from their codes."""

    row: Columns
    sample: SampleArgument
    images: int  # that are measured
    shown: int
    variations: int  # of each image that is shown
    steps: int  # between two of them


class ReconstructArgument(Argument):
    """The quality of an autoencoder's reconstructions."""

    latents: str
    dataset: str
    extractors: dict[str, ExtractorEntry]
