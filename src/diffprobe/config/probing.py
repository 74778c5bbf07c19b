"""What is probed of a model: levels, copies of the images, and the evaluators by name."""

from typing import Literal

from pydantic import Field

from diffprobe.config.base import Integer, Name, NotNegative, Number, Positive, Strict
from diffprobe.config.evaluators import Evaluator
from diffprobe.config.evaluators.knn import KNN
from diffprobe.config.evaluators.linear import Linear
from diffprobe.config.noise import Level


class Search(Strict):
    """Levels found by search: evenly spread in log-SNR, then ever closer around the best, by ridge regression."""

    low: Level = Field(description="The least noise.")
    high: Level = Field(description="The most noise.")
    coarse: Integer = Field(7, ge=3, description="Levels of the first round.")
    rounds: NotNegative = Field(2, description="Rounds that follow, each of two levels beside the best so far.")
    keep: Positive = Field(3, description="The best levels, which go into the grid.")


class Crop(Strict):
    """How augmented copies are made in pixels: the published way is a flip, and a crop of the padded image."""

    pad: Positive = Field(4, description="Pixels of padding on each side.")
    fill: Literal["zero", "edge"] = Field("zero", description="What the padding holds: black, or the border repeated.")
    flip: bool = Field(True, description="Half of the copies are mirrored first.")


class Probe(Strict):
    """What the model has learned: layer x noise grid on `select`, then the evaluators at the choice."""

    weights: Name = Field("ema", description="Which of `train.averages` is probed, or `raw`.")
    levels: list[Level] = Field(
        [],
        description="Noise levels of the grid: sigma/alpha (of `ddpm` the nearest), `{t: 11}` or `{edm_index: 4}`.",
    )
    search: Search | None = Field(None, description="In place of `levels`: where to look for them.")
    taps: list[str] | Literal["all"] = Field(
        "all", description="Layers of the grid: names of the network's taps, or `all`."
    )
    pooling: Literal["mean", "mean_std"] = Field(
        "mean", description="Over positions: the mean, or mean and standard deviation side by side."
    )
    label: NotNegative | None = Field(
        None, description="The class that a conditional network is told of every image; null: none, as it should be."
    )
    augmented: NotNegative = Field(
        0,
        description="Augmented, freshly noised copies V of each image that heads are fitted on, one of which each "
        "epoch sees; 0: on the un-augmented ones. 15 with 15 epochs is the published recipe, draw for draw. In latents "
        "they are the store's views.",
    )
    crop: Crop = Field(default_factory=Crop, description="How they are made, in pixels.")
    latents_as: Literal["sample", "mean"] = Field(
        "sample", description="In latents: each copy is drawn anew from its posterior, or is its mean."
    )
    draws: Integer = Field(2, ge=2, description="Noisy copies of each un-augmented image (of each seed, on `test`).")
    batch: Positive = Field(256, description="Images per forward pass; changes no feature.")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="Of the network's arithmetic.")
    noise_seed: Integer = Field(0, description="Seed of the noise.")
    seeds: list[Integer] = Field(
        [0, 1, 2],
        min_length=1,
        description="Seeds of the heads, and of the noise on `test`; accuracies are mean and spread over them.",
    )
    selection: Literal["select", "published"] = Field(
        "select",
        description="Layer, level, checkpoint and settings are chosen on `select`; or, as the papers did, on `test` "
        "itself, which the tables then say.",
    )
    evaluators: dict[Name, Evaluator] = Field(
        default_factory=lambda: {"linear": Linear(kind="linear"), "knn": KNN(kind="knn")},
        min_length=1,
        description="What is asked of the features, by name.",
    )
    scorer: Name | None = Field(
        None, description="The evaluator that scores the grid, `linear` or `ridge`; null: the first of these kinds."
    )
    levels_per_job: Positive | None = Field(
        None, description="Levels of a checkpoint whose features one job computes; null: all."
    )
    memory_gib: Number = Field(
        2, gt=0.05, description="Features that a job holds in memory at a time; of more, windows are streamed."
    )
