"""Probes of a model's features: noise levels, noisy copies of the images, and evaluators."""

from typing import Annotated, Literal

from pydantic import Field

from diffprobe.config.base import (
    LATER,
    Batch,
    Images,
    Integer,
    Name,
    NotNegative,
    Number,
    Positive,
    Repeats,
    Strict,
)
from diffprobe.config.evaluators import Evaluator
from diffprobe.config.evaluators.knn import KNN
from diffprobe.config.evaluators.linear import Linear
from diffprobe.config.monitors import Monitor
from diffprobe.config.monitors.similarity import Neighbours
from diffprobe.config.names import Pooling
from diffprobe.config.noise import GridLevel, Level
from diffprobe.config.pictures import Pictures
from diffprobe.config.views import Crop, RandomView

Embedding = Literal["time", "label"]


class Search(Strict):
    """Search for noise levels by ridge regression: evenly spaced in log-SNR, then refined around the best."""

    low: Level = Field(description="Lowest noise level.")
    high: Level = Field(description="Highest noise level.")
    coarse: Integer = Field(7, ge=3, le=1000, description="Levels in the first round.")
    rounds: NotNegative = Field(
        2, le=1000, description="Refinement rounds; each tries one level on either side of the best so far."
    )
    keep: Repeats = Field(3, description="Number of best levels that enter the grid.")


class Subset(Strict):
    """The images whose features are compared without labels: a fixed random part of a split."""

    split: Literal["train", "select"] = Field("select", description="Split.")
    images: Images = Field(
        1000, ge=32, le=20_000, description="Number of images; all of the split, if it has fewer. More contain fewer."
    )

    @property
    def name(self) -> str:
        """As in file names: `select1000`."""
        return f"{self.split}{self.images}"


class Similarity(Strict):
    """Maps of similarity, linear CKA and CKNNA, of the features of `subset`: between the cells of a checkpoint, between
    checkpoints at the chosen cell, and between the cells of the chosen checkpoint and those of other experiments.
    """

    checkpoints: Literal["last", "all"] = Field("last", description="Checkpoints whose cells are compared.")
    experiments: list[Name] = Field(
        [], description="Other experiments on the same dataset, with a probe that has the same `subset`."
    )
    neighbours: Neighbours = Field(10, description="Nearest neighbours k of CKNNA.")

    @property
    def figures(self) -> list[str]:
        """The names of its rows: of the chosen cell's similarity over training, and to other experiments."""
        measures = "cka", f"cknna{self.neighbours}"
        return [f"{measure}_{name}" for name in ("chosen", *self.experiments) for measure in measures]


class Probe(Strict):
    """What the model has learned: a layer x noise grid on `select`, then all evaluators at the chosen cell."""

    weights: Name = Field("ema", description="Weights to probe: an entry of `train.averages`, or `raw`.")
    levels: list[GridLevel] = Field(
        [],
        max_length=1000,
        description="Noise levels of the grid: sigma/alpha (`ddpm` uses the nearest step), `{t: 11}` or `{edm_index: "
        "4}`; `clean` for layers that see the image as it is, as in SODA's encoder, or all with `zeroed: [time]`.",
    )
    search: Search | None = Field(None, description="Search for levels, instead of `levels`; null: no search.")
    taps: list[str] | Literal["all"] = Field(
        "all", description="Layers of the grid: tap names of the network, or `all` that the levels have."
    )
    pooling: Pooling = Field(
        "mean",
        description="Pooling over positions: the mean; mean and standard deviation, concatenated; or the means of the "
        "four quadrants, which keep where something is.",
    )
    label: NotNegative | None = Field(
        None,
        description="Class label that a conditional network gets for every image; null: unconditional (recommended).",
    )
    code: Annotated[Literal["encoded", "dropped"], LATER] = Field(
        "encoded",
        description="What a decoder that is guided by a code of the image, such as SODA's, gets at noise levels: the "
        "code of the clean image, or none (the unconditional model).",
    )
    input: Annotated[Literal["noisy", "clean"], LATER] = Field(
        "noisy",
        description="What the network is shown at a noise level: the image with that noise, or the image without "
        "noise, which it is told has that noise. `clean` separates what the network makes of a level from what noise "
        "hides.",
    )
    zeroed: Annotated[list[Embedding], LATER] = Field(
        [],
        description="Embeddings that are replaced by zeros: `time`, of the noise level, which opens the level `clean` "
        "to networks that are otherwise told of noise; `label`, of the class or of no class. The board of Efficient "
        "Probing read DiT so, `[time, label]` at `clean`; no network is trained that way.",
    )
    augmented: NotNegative = Field(
        0,
        le=10_000,
        description="Augmented, independently noised copies of each image for fitting heads; each epoch uses one of "
        "them. 0: unaugmented images. 15 copies with 15 epochs match the published recipe draw for draw. In latent "
        "space the store's views are used.",
    )
    crop: Crop = Field(default_factory=Crop, description="How augmented copies are made, in pixels.")
    view: Annotated[RandomView | None, LATER] = Field(
        None,
        description="How augmented copies are made instead, in pixels: random views, as of SODA's training; null: by "
        "`crop`. As published for its probes: `{crop: {p: 0.65}, randaugment: null}`.",
    )
    mirrored: Annotated[bool, LATER] = Field(
        False,
        description="Mirror every second copy of an unaugmented image left to right, in pixels. Heads are fitted on "
        "both and average the probabilities of both, on `select` and `test` too. `draws` is even then.",
    )
    latents_as: Literal["sample", "mean"] = Field(
        "sample", description="In latent space: sample each copy from its posterior, or use its mean."
    )
    draws: Integer = Field(
        2, ge=2, le=10_000, description="Noisy copies of each unaugmented image (per seed on `test`)."
    )
    batch: Batch = Field(256, description="Images per forward pass. Changes no feature.")
    precision: Literal["auto", "fp32", "bf16"] = Field("fp32", description="Compute precision, as in `train`.")
    noise_seed: Integer = Field(0, description="Seed for the noise.")
    seeds: list[Integer] = Field(
        [0, 1, 2],
        min_length=1,
        max_length=1000,
        description="Seeds for the heads, and for the noise on `test`. Accuracies are reported as mean and spread.",
    )
    selection: Literal["select", "published"] = Field(
        "select",
        description="Split on which layer, level, checkpoint and settings are chosen. `published`: on `test`, as in "
        "the papers; the tables then say so.",
    )
    evaluators: dict[Name, Evaluator] = Field(
        default_factory=lambda: {"linear": Linear(kind="linear"), "knn": KNN(kind="knn")},
        min_length=1,
        description="Evaluators of the features, by name.",
    )
    scorer: Name | None = Field(
        None, description="Evaluator that scores the grid, of kind `linear` or `ridge`; null: the first of these kinds."
    )
    subset: Annotated[Subset, LATER] = Field(
        default_factory=Subset, description="Images of `monitors` and `similarity`, each in two noisy copies."
    )
    monitors: Annotated[list[Monitor], LATER] = Field(
        [], description="Label-free figures of every cell of the grid, at every checkpoint."
    )
    similarity: Annotated[Similarity | None, LATER] = Field(
        None, description="Maps of similarity between layers, noise levels, checkpoints, experiments; null: none."
    )
    pictures: Annotated[Pictures | None, LATER] = Field(
        None, description="Maps of principal components and a plane of images by t-SNE, at the choice; null: none."
    )
    transfer: Annotated[list[Name], LATER] = Field(
        [],
        description="Other datasets on whose features, by this model at the chosen layer, level and checkpoint, the "
        "evaluators are fitted and scored too: rows `DATASET_EVALUATOR`. Their images are brought to this dataset's "
        "size (`crop`: halved by a box filter, then bicubic) and channels (grey is repeated, colour becomes ITU-R 601 "
        "luma). A model of latents sees the other dataset's by the same autoencoder, which need an entry of `latents`, "
        "in the scale of its own.",
    )
    baselines: Annotated[list[Name], LATER] = Field(
        [],
        description="Entries of `extractors` on whose features of this dataset the same evaluators are fitted and "
        "scored, for comparison: rows `EXTRACTOR_EVALUATOR`. Evaluators that name layers or levels are left out, and "
        "images are not augmented.",
    )
    levels_per_job: Positive | None = Field(
        None, description="Noise levels per feature job; null: all levels of a checkpoint in one job."
    )
    memory_gib: Number = Field(
        2, gt=0.05, description="Features that a job holds in memory, in GiB; larger sets are streamed in windows."
    )

    @property
    def clean(self) -> bool:
        """Whether the grid has the level `clean`."""
        return "clean" in self.levels

    @property
    def noisy(self) -> bool:
        """Whether the grid has levels with noise."""
        return self.search is not None or any(level != "clean" for level in self.levels)

    @property
    def heads(self) -> dict[str, Evaluator]:
        """The evaluators that are fitted on stored features."""
        return {name: evaluator for name, evaluator in self.evaluators.items() if evaluator.sees_stored_features}

    @property
    def encoders(self) -> list[str]:
        """The extractors that monitors compare with."""
        return list(dict.fromkeys(monitor.encoder for monitor in self.monitors if monitor.encoder))

    @property
    def plain_heads(self) -> dict[str, Evaluator]:
        """Those of them that name neither layers nor levels, and so can be fitted on any features."""
        named = ("combine", "at", "tokens", "levels")
        return {name: e for name, e in self.heads.items() if not any(getattr(e, key) for key in named)}

    @property
    def scoring(self) -> str:
        """The evaluator that scores the grid: the configured one, or the first that can."""
        return self.scorer or next(name for name, evaluator in self.evaluators.items() if evaluator.scores)
