"""From the statistics of two sets of images to the figures of generation. A name always says over how many images."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch

from diffprobe.config.names import OF_SUBSET, count_name, figure_name, promised_figure
from diffprobe.evaluation.generation.extractors import Extractor
from diffprobe.evaluation.generation.frechet import frechet_distance
from diffprobe.evaluation.generation.kernel import SUBSETS, kernel_distance, subset_size
from diffprobe.evaluation.generation.manifold import manifold, refuse_few_neighbours
from diffprobe.evaluation.generation.reference import Reference
from diffprobe.evaluation.generation.statistics import Plan, Statistics
from diffprobe.runtime.errors import UserError

FID = "inception_2048"  # FID is the Frechet distance of these features and of nothing else
MANIFOLD = ("precision", "recall", "density", "coverage")
ALL = ("fd", "sfid", "kid", "is", *MANIFOLD)  # `all`: as far as extractor and reference can tell

Asked = Sequence[str] | str  # [fid50k, kid] or "all"
Options = Mapping[str, int]  # neighbours (precision, recall) and wide_neighbours (density, coverage)
Found = tuple[float, float | None]  # a value, its spread where it has one


def wanted(asked: Asked) -> tuple[str, ...]:
    """The figures that a config asks for, without the numbers of images that it may state."""
    return ALL if asked == "all" else tuple(dict.fromkeys(promised_figure(text)[0] for text in asked))


def figures(
    asked: Asked,
    extractors: Mapping[str, Extractor],
    references: Mapping[str, Reference],
    samples: Mapping[str, Statistics],
    options: Options,
    device: torch.device | str = "cpu",
) -> list[dict[str, Any]]:
    """Rows of results (extractor, evaluator, value, spread, images): each figure that each extractor can tell.

    Extractors, references and statistics go by the extractors' names in the config. Raises UserError as `refuse`.
    """
    for found in samples.values():
        refuse(asked, extractors, references, found.plan, options)
    rows = []
    for name, extractor in extractors.items():
        told = [figure for figure in wanted(asked) if not lacking(figure, extractor, references[name])]
        found = of_one(told, extractor, references[name], samples[name], options, device)
        rows += [{"extractor": name} | row for row in found]
    return rows


def refuse(
    asked: Asked,
    extractors: Mapping[str, Extractor],
    references: Mapping[str, Reference],
    plan: Plan,
    options: Options,
) -> None:
    """What can be known to be in vain before hours are spent on it; references may be yet to come.

    Raises UserError where a figure is asked for by name that no extractor can tell, or over another number of images
    than there are, and where images are too few.
    """
    refuse_untold(asked, extractors, references)
    refuse_other_numbers(asked, plan)
    for name, reference in references.items():
        told = [figure for figure in wanted(asked) if not lacking(figure, extractors[name], reference)]
        if set(told) & set(OF_SUBSET):
            refuse_few(told, len(reference.features), plan.subset, options)


def refuse_few(told: Collection[str], real: int, fake: int, options: Options) -> None:
    """Figures that compare so many real and generated images one by one need some of both."""
    if "kid" in told and subset_size(real, fake) < 2:
        raise UserError(f"kid needs 4 images of each kind, here are {real} real and {fake} generated: bring more")
    if set(told) & set(MANIFOLD):
        refuse_few_neighbours(real, fake, options["neighbours"], options["wide_neighbours"])


def refuse_untold(asked: Asked, extractors: Mapping[str, Extractor], references: Mapping[str, Reference]) -> None:
    """A figure that is asked for by name must be told by one extractor at least; references may be yet to come."""
    for figure in wanted(asked) if asked != "all" else ():
        why = [lacking(figure, extractor, references.get(name)) for name, extractor in extractors.items()]
        if all(why):
            raise UserError(f"{figure} cannot be told: {'; '.join(why)}")


def of_one(
    told: Sequence[str],
    extractor: Extractor,
    reference: Reference,
    samples: Statistics,
    options: Options,
    device: torch.device | str,
) -> list[dict[str, Any]]:
    """The rows of one extractor, each name once."""
    found: dict[str, Found] = {}
    rows: dict[str, dict[str, Any]] = {}
    for figure in told:
        if figure not in found:
            found |= computed(figure, reference, samples, options, device)
        (value, spread), n = found[figure], images_of(figure, samples.plan)
        name = figure_name(printed(figure, extractor), n, extractor.name)
        rows[name] = {"evaluator": name, "value": value, "spread": spread, "images": n}
    return list(rows.values())


def printed(figure: str, extractor: Extractor) -> str:
    """The Frechet distance is called fid where it is one, and only there."""
    return ("fid" if extractor.name == FID else "fd") if figure in ("fd", "fid") else figure


def images_of(figure: str, plan: Plan) -> int:
    """Over how many generated images a figure is."""
    return plan.subset if figure in OF_SUBSET else plan.n


def refuse_other_numbers(asked: Asked, plan: Plan) -> None:
    """`fid50k` is a promise: over another number of images it is another figure."""
    for text in () if asked == "all" else asked:
        figure, number = promised_figure(text)
        has = images_of(figure, plan)
        where = "there" if has == plan.n else "in the subset"
        if number not in (None, has):
            raise UserError(
                f"{text} is asked for, but {has:,} images are {where}: "
                f"ask for {figure}{count_name(has)}, or bring {number:,} images"
            )


def lacking(figure: str, extractor: Extractor, reference: Reference | None) -> str:
    """What a figure lacks, as far as is known before there is a reference; empty where it lacks nothing."""
    match figure:
        case "fid" if extractor.name != FID:
            return f"FID is of {FID} and nothing else; of {extractor.name} it is called fd"
        case "sfid" if not extractor.spatial:
            return f"{extractor.name} has no map of features"
        case "is" if not extractor.classes:
            return f"{extractor.name} has no logits"
        case "sfid" if reference and reference.spatial is None:
            return f"{reference.origin} holds no mu_s and sigma_s"
    if figure in OF_SUBSET and reference and reference.features is None:
        return f"{reference.origin} holds no images or features, only their mean and covariance"
    return ""


def computed(
    figure: str, reference: Reference, samples: Statistics, options: Options, device: torch.device | str
) -> dict[str, Found]:
    """A figure, and those that come with it at no cost."""
    match figure:
        case "fd" | "fid":
            value = frechet_distance(reference.mu, reference.sigma, samples.moments.mu, samples.moments.sigma)
            return {"fd": (value, None), "fid": (value, None)}
        case "sfid":
            return {figure: (frechet_distance(*reference.spatial, samples.spatial.mu, samples.spatial.sigma), None)}
        case "is":
            return {figure: samples.scores.score()}
    real, fake = reference.features.to(device), samples.subset.features.to(device)
    if figure == "kid":
        return {figure: kernel_distance(real, fake)}
    balls = manifold(real, fake, options["neighbours"], options["wide_neighbours"])
    return {name: (getattr(balls, name), None) for name in MANIFOLD}


def about(extractor: Extractor, reference: Reference, samples: Statistics, options: Options) -> dict[str, Any]:
    """What a receipt says of one extractor's figures, beside the samples' own story."""
    used: dict[str, Any] = dict(options)
    if samples.scores is not None:
        used["inception_score_splits"] = len(samples.scores.counts)
    if reference.features is not None and samples.subset.size:
        used["kernel_subsets"] = SUBSETS
        used["kernel_subset_size"] = subset_size(len(reference.features), samples.plan.subset)
    return {
        "extractor": extractor.identity,
        "reference": {"origin": reference.origin, "images": reference.n, **reference.about},
        "images": samples.n,
        "subset": samples.plan.about,
        "options": used,
    }
