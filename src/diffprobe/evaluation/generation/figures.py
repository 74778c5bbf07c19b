"""The figures of generation from the statistics of two sets of images; their names include the number of images."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TypedDict

import torch

from diffprobe.config.models import Metrics
from diffprobe.config.names import OF_SUBSET, count_name, figure_name, promised_figure
from diffprobe.evaluation.generation.extractors import FeatureExtractor
from diffprobe.evaluation.generation.frechet import frechet_distance
from diffprobe.evaluation.generation.kernel import SUBSETS, kernel_distance, subset_size
from diffprobe.evaluation.generation.manifold import manifold, refuse_few_neighbours
from diffprobe.evaluation.generation.reference import Reference
from diffprobe.evaluation.generation.statistics import Statistics, SubsetPlan
from diffprobe.runtime.errors import UserError

FID = "inception_2048"  # FID is the Fréchet distance of these features and of no others
MANIFOLD = ("precision", "recall", "density", "coverage")
ALL = ("fd", "sfid", "kid", "is", *MANIFOLD)  # `all`: those that extractor and reference allow

Request = Sequence[str] | Literal["all"]  # [fid50k, kid] or "all"
Value = tuple[float, float | None]  # a figure, with its spread where it has one


class Subject(NamedTuple):
    """An extractor, and the reference that samples are compared with, unless that is yet to come."""

    name: str  # of the extractor in the config
    extractor: FeatureExtractor
    reference: Reference | None

    def allows(self, figure: str) -> bool:
        return not lacking(figure, self.extractor, self.reference)


class FigureRow(TypedDict):
    """A row of results."""

    extractor: str
    evaluator: str
    value: float
    spread: float | None
    images: int


def figure_names(request: Request) -> tuple[str, ...]:
    """The requested figures, without the numbers of images that a request may name."""
    return ALL if request == "all" else tuple(dict.fromkeys(figure for figure, _ in parsed(request)))


def parsed(request: Request) -> list[tuple[str, int | None]]:
    """Figures requested by name, each with its number of images or None. Raises UserError for unknown names."""
    pairs = []
    for text in () if request == "all" else request:
        if (pair := promised_figure(text)) is None:
            raise UserError(f"{text}: no such figure; expected {', '.join(ALL)} or fid")
        pairs.append(pair)
    return pairs


def compute_figures(
    request: Request,
    subjects: Sequence[Subject],
    statistics: Sequence[Statistics],
    metrics: Metrics,
    device: torch.device,
) -> list[FigureRow]:
    """Every requested figure by each extractor that allows it, from its statistics. Raises UserError as `refuse`."""
    rows: list[FigureRow] = []
    for subject, samples in zip(subjects, statistics, strict=True):
        refuse(request, subjects, samples.plan, metrics)
        values: dict[str, Value] = {}
        by_label: dict[str, FigureRow] = {}  # fd and fid may have the same label
        for figure in filter(subject.allows, figure_names(request)):
            assert subject.reference is not None
            if figure not in values:
                values |= compute(figure, subject.reference, samples, metrics, device)
            (value, spread), n = values[figure], image_count(figure, samples.plan)
            label = figure_name(printed(figure, samples.extractor), n, samples.extractor.name)
            by_label[label] = FigureRow(extractor=subject.name, evaluator=label, value=value, spread=spread, images=n)
        rows += by_label.values()
    return rows


def compute(
    figure: str, reference: Reference, samples: Statistics, metrics: Metrics, device: torch.device
) -> dict[str, Value]:
    """A figure that lacks nothing, and those that come with it at no cost."""
    match figure:
        case "fd" | "fid":
            value = frechet_distance(reference.mu, reference.sigma, samples.moments.mu, samples.moments.sigma)
            return {"fd": (value, None), "fid": (value, None)}
        case "sfid":
            assert reference.spatial is not None and samples.spatial is not None
            return {figure: (frechet_distance(*reference.spatial, samples.spatial.mu, samples.spatial.sigma), None)}
        case "is":
            assert samples.scores is not None
            return {figure: samples.scores.score()}
    assert reference.features is not None and samples.subset.features is not None
    real, fake = reference.features.to(device), samples.subset.features.to(device)
    if figure == "kid":
        return {figure: kernel_distance(real, fake)}
    balls = manifold(real, fake, metrics.neighbours, metrics.wide_neighbours)
    return {name: (getattr(balls, name), None) for name in MANIFOLD}


def printed(figure: str, extractor: FeatureExtractor) -> str:
    """The figure's name in results: the Fréchet distance is called fid where it is one, and only there."""
    return ("fid" if extractor.name == FID else "fd") if figure in ("fd", "fid") else figure


def image_count(figure: str, plan: SubsetPlan) -> int:
    """The number of generated images that a figure is computed over."""
    return plan.subset if figure in OF_SUBSET else plan.n


# --- refused before hours are spent on a pass -----------------------------------------------------------------


def refuse(request: Request, subjects: Sequence[Subject], plan: SubsetPlan, metrics: Metrics) -> None:
    """Raises UserError for figures that no extractor allows, or over another number of images, or over too few."""
    for figure, number in parsed(request):
        reasons = [lacking(figure, subject.extractor, subject.reference) for subject in subjects]
        if all(reasons):
            raise UserError(f"{figure} is unavailable: {'; '.join(reasons)}")
        n = image_count(figure, plan)
        if number not in (None, n):  # `fid50k` is a promise: over fewer images it is another figure
            where = "there are" if n == plan.n else "the subset has"
            raise UserError(
                f"{figure}{count_name(number)} needs {number:,} images, but {where} {n:,}: "
                f"request {figure}{count_name(n)}, or provide {number:,} images"
            )
    for subject in subjects:
        if subject.reference is None or subject.reference.features is None:
            continue
        available = list(filter(subject.allows, figure_names(request)))
        real, fake = len(subject.reference.features), plan.subset
        if "kid" in available and subset_size(real, fake) < 2:
            raise UserError(f"kid needs 4 images of each kind, here are {real} real and {fake} generated: provide more")
        if set(available) & set(MANIFOLD):
            refuse_few_neighbours(real, fake, metrics.neighbours, metrics.wide_neighbours)


def lacking(figure: str, extractor: FeatureExtractor, reference: Reference | None) -> str:
    """What a figure lacks, empty where nothing; without a reference, what the extractor lacks."""
    match figure:
        case "fid" if extractor.name != FID:
            return f"FID is defined by {FID} alone; of {extractor.name} the distance is called fd"
        case "sfid" if not extractor.spatial:
            return f"{extractor.name} has no map of features"
        case "is" if not extractor.classes:
            return f"{extractor.name} has no logits"
        case "sfid" if reference and reference.spatial is None:
            return f"{reference.origin} holds no mu_s and sigma_s"
    if figure in OF_SUBSET and reference and reference.features is None:
        return f"{reference.origin} holds no images or features, only their mean and covariance"
    return ""


def about(reference: Reference, samples: Statistics, metrics: Metrics) -> dict[str, Any]:
    """For the receipt: all that one extractor's figures depend on besides the samples."""
    options: dict[str, int] = metrics.model_dump(include={"neighbours", "wide_neighbours"})
    if samples.scores is not None:
        options["inception_score_splits"] = len(samples.scores.counts)
    if reference.features is not None and samples.subset.size:
        options["kernel_subsets"] = SUBSETS
        options["kernel_subset_size"] = subset_size(len(reference.features), samples.plan.subset)
    return {
        "extractor": samples.extractor.identity,
        "reference": {"origin": reference.origin, "images": reference.n, **reference.about},
        "images": samples.n,
        "subset": samples.plan.about,
        "options": options,
    }
