"""The figures of an experiment's report: from which results each is drawn, and how the report lists it.

One job draws all figures of an experiment, since a figure takes less time than the start of a job.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from diffprobe.config.models import Config, Experiment
from diffprobe.config.probing import Probe
from diffprobe.plan.layout import Layout

# The subcategory of each kind in the report, and its name there.
LISTED = {
    "samples": ("samples", "samples"),
    "strip": ("samples", "denoising"),
    "nearest": ("samples", "nearest training images"),
    "decodings": ("samples", "decodings of codes"),
    "grid": ("layer x noise", "layer x noise"),
    "noise": ("layer x noise", "noise over training"),
    "monitors": ("without labels", "label-free figures"),
    "monitor_curves": ("without labels", "label-free figures over training"),
    "similarity": ("similarity", "between layers and noise levels"),
    "similarity_training": ("similarity", "between checkpoints"),
    "similarity_experiments": ("similarity", "to other experiments"),
    "maps": ("features", "principal components"),
    "plane": ("features", "plane of images"),
    "confusion": ("layer x noise", "confusion on test"),
    "fewshot": ("few labels", "accuracy over labels"),
    "masks": ("segmentation", "masks on test"),
    "losses": ("training", "loss"),
    "curves": ("generation and representation", "distance and accuracy"),
}
# Those whose data are not written beside them as a table: they are pictures, and nothing else.
PICTURES = ("samples", "strip", "decodings", "masks")
WHOLE = (  # over all checkpoints
    "losses", "curves", "noise", "monitor_curves", "similarity_training", "similarity_experiments",
)  # fmt: skip


@dataclass(frozen=True)
class PlannedFigure:
    """One figure. `inputs` are pairs of a name, unique among all figures of an experiment, and a file."""

    kind: str  # a key of LISTED, a caption of workflow/report, a function of workflow/scripts/plot.py
    inputs: tuple[tuple[str, str], ...]
    kimg: int | None = None
    sampler: str = ""

    @property
    def name(self) -> str:
        """Its path among the plots, without the suffix: grid/28, samples/28.heun."""
        names = [str(name) for name in (self.kimg, self.sampler) if name]
        return f"{self.kind}/{'.'.join(names)}" if names else self.kind

    @property
    def has_data(self) -> bool:
        """Whether a table of what it shows is written beside it."""
        return self.kind not in PICTURES

    @property
    def labels(self) -> dict[str, str]:
        """Its columns in the report."""
        whole = "all" if self.kind in WHOLE else ""
        return {"figure": LISTED[self.kind][1], "kimg": str(self.kimg or whole), "sampler": self.sampler}


def figures(layout: Layout, name: str, experiment: Experiment) -> Iterator[PlannedFigure]:
    """The figures of an experiment, whose name may be a wildcard."""
    checkpoints, samplers, generation = experiment.train.checkpoints, experiment.sample.samplers, experiment.generation
    measured, selected = [], []  # rows
    for kimg in checkpoints:
        for sampler in samplers:
            at = f"{kimg}.{sampler}"
            yield PlannedFigure("samples", ((f"samples/{at}", layout.samples(name, kimg, sampler)),), kimg, sampler)
            if generation and generation.nearest:
                pairs = layout.nearest_pairs(name, kimg, sampler)
                yield PlannedFigure("nearest", ((f"pairs/{at}", pairs),), kimg, sampler)
            if generation and generation.decodings:
                pictures = layout.decodings_pictures(name, kimg, sampler)
                yield PlannedFigure("decodings", ((f"decodings/{at}", pictures),), kimg, sampler)
            if generation and generation.extractors:
                measured.append((f"generation/{at}", layout.generation(name, kimg, sampler)))
        if experiment.probe:
            selected.append((f"select/{kimg}", layout.select(name, kimg)))
            yield PlannedFigure("grid", ((f"grid/{kimg}", layout.grid(name, kimg)), selected[-1]), kimg)
    if experiment.probe:
        yield from label_free(layout, name, checkpoints, experiment.probe)
        if experiment.probe.noisy and len(checkpoints) > 1:
            grids = [(f"grid/{kimg}", layout.grid(name, kimg)) for kimg in checkpoints]
            yield PlannedFigure("noise", (*grids, *selected))
    last = checkpoints[-1]
    for sampler in samplers:
        yield PlannedFigure("strip", ((f"strip/{last}.{sampler}", layout.strip(name, last, sampler)),), last, sampler)
    if experiment.probe:
        test = ("test", layout.test(name, experiment.probe.scoring))
        yield PlannedFigure("confusion", (test,))
        if experiment.probe.pictures:
            features = ("pictures", layout.feature_pictures(name))
            yield from (PlannedFigure(kind, (features,)) for kind in ("maps", "plane"))
        few = [one for one, evaluator in experiment.probe.evaluators.items() if any(evaluator.few_labels)]
        if few:
            yield PlannedFigure("fewshot", (test, *((f"few/{one}", layout.test(name, one)) for one in few)))
        drawn = [one for one, evaluator in experiment.probe.evaluators.items() if evaluator.pictures]
        if drawn:
            yield PlannedFigure("masks", tuple((f"masks/{one}", layout.pictures(name, one)) for one in drawn))
    if not experiment.train.imported:
        run = layout.run(name)
        stats = [(f"stats/{kimg}", layout.checkpoint(run, kimg, "stats.jsonl")) for kimg in checkpoints]
        yield PlannedFigure("losses", tuple(stats))
    if rows := measured + selected:
        choice = [("choice", layout.choice(name))] if experiment.probe else []
        yield PlannedFigure("curves", (*rows, *choice))


def label_free(layout: Layout, name: str, checkpoints: list[int], probe: Probe) -> Iterator[PlannedFigure]:
    """The figures of monitors, and the maps of similarity."""
    if probe.monitors:
        monitors = [(f"monitors/{kimg}", layout.monitors(name, kimg)) for kimg in checkpoints]
        for kimg, file in zip(checkpoints, monitors, strict=True):
            yield PlannedFigure("monitors", (file,), kimg)
        grids = [(f"grid/{kimg}", layout.grid(name, kimg)) for kimg in checkpoints]
        yield PlannedFigure("monitor_curves", (*monitors, *grids, ("choice", layout.choice(name))))
    if probe.similarity:
        maps = (("similarity", layout.similarity(name)),)
        for kimg in checkpoints if probe.similarity.checkpoints == "all" else checkpoints[-1:]:
            yield PlannedFigure("similarity", maps, kimg)
        if len(checkpoints) > 1:
            yield PlannedFigure("similarity_training", maps)
        if probe.similarity.experiments:
            yield PlannedFigure("similarity_experiments", maps)


def alike(config: Config) -> list[list[str]]:
    """The experiments, those with the same figures together: a rule of Snakemake has one list of outputs."""
    groups: dict[tuple[PlannedFigure, ...], list[str]] = {}
    for name, experiment in config.experiments.items():
        groups.setdefault(tuple(figures(Layout(""), "", experiment)), []).append(name)
    return list(groups.values())


def figure_rule(number: int) -> str:
    """The name of the rule that draws the figures of the group of experiments with this number."""
    return f"plots_{number + 1}" if number else "plots"
