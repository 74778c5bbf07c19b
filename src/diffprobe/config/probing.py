"""What a model's features are asked: levels, copies of the images, and the evaluators by name."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from diffprobe.config.base import Integer, Name, NotNegative, Number, Positive, Strict

Above = Annotated[Number, Field(gt=0)]  # 0 itself not


class At(Strict):
    """A noise level as the published recipe counts, by one of the two."""

    t: Number | None = Field(
        None,
        ge=0,
        description="`ddpm`: the step, from 1 (DDAE), or from 0 where the network is a `dit` (DiT). `flow`: the time.",
    )
    edm_index: Integer | None = Field(
        None, ge=1, le=18, description="`edm`: of its 18 levels, as DDAE counts: 1 is sigma_min, 18 sigma_max."
    )


Level = Above | At


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


class Joined(Strict):
    """Features beside the chosen ones."""

    tap: str | None = Field(None, description="A layer; null: the chosen one.")
    level: Level | None = Field(None, description="A noise level; null: the chosen one.")


class Evaluated(Strict):
    """What all evaluators have. Where a setting is a list, the best on `select` is taken, and refitted."""

    build: ClassVar[str]
    """The function that fits it, as "package.module:name"; see `evaluation.representation.evaluators.Fit`."""
    setting: ClassVar[str]
    """The key whose list holds the settings to choose among."""
    seeded: ClassVar[bool] = False
    """Whether a seed changes the fit; if not, equal features are fitted once."""
    plain: ClassVar[bool] = False
    """Whether it is always fitted on un-augmented images."""

    combine: list[Joined] = Field(
        [], description="Levels or taps whose features are joined to the chosen ones, in one vector."
    )
    tokens: bool = Field(
        False, description="Features of every position of the chosen tap side by side, instead of pooled (only `test`)."
    )
    average: bool = Field(
        True,
        description="Probabilities (of `knn` features) are averaged over an image's noisy copies; otherwise each copy "
        "is judged alone, as published, and the spread is over copies too.",
    )


class Linear(Evaluated):
    """A linear softmax classifier by gradient descent. Published (DDAE): `lr: [1.0e-3], epochs: 15, weight_decay: 0,
    standardise: false, cosine: epoch, average: false`.
    """

    kind: Literal["linear"]
    build: ClassVar[str] = "diffprobe.evaluation.representation.heads:fit"
    setting: ClassVar[str] = "lr"
    seeded: ClassVar[bool] = True

    optimizer: Literal["adam", "sgd", "lars"] = Field(
        "adam", description="LARS (You et al. 2017) is made for large batches; its rates are 1 to 1,000."
    )
    lr: list[Above] = Field([3e-2], min_length=1, description="Initial learning rates, all tried at once.")
    epochs: Positive = Field(100, description="Passes over the images, each sees another copy of them.")
    batch: Positive = Field(128, description="Images per step.")
    weight_decay: Number = Field(1e-3, ge=0, description="L2 penalty on the weights.")
    momentum: Number = Field(0.9, ge=0, lt=1, description="Of `sgd` and `lars`.")
    standardise: bool = Field(True, description="Features are brought to mean 0 and deviation 1 first.")
    cosine: Literal["step", "epoch"] = Field("step", description="Where the rate falls, to 0 in the end.")


class Ridge(Evaluated):
    """Ridge regression onto the classes, in closed form, for all strengths from one eigendecomposition."""

    kind: Literal["ridge"]
    build: ClassVar[str] = "diffprobe.evaluation.representation.ridge:fit"
    setting: ClassVar[str] = "strength"

    strength: list[Above] = Field(
        [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0],
        min_length=1,
        description="L2 penalties per image, on standardised features.",
    )


class KNN(Evaluated):
    """The k nearest neighbours among the un-augmented images."""

    kind: Literal["knn"]
    build: ClassVar[str] = "diffprobe.evaluation.representation.neighbours:fit"
    setting: ClassVar[str] = "k"
    plain: ClassVar[bool] = True

    k: list[Positive] = Field([10], min_length=1, description="Neighbours that vote.")
    metric: Literal["cosine", "euclidean"] = Field("cosine", description="What is near.")
    weighted: bool = Field(
        False, description="Votes weigh exp(similarity / temperature) (Wu et al. 2018); else each counts one."
    )
    temperature: Number = Field(
        0.07, gt=0, description="Of weighted votes. The similarity is the cosine, or minus the distance's square."
    )


class Logistic(Evaluated):
    """Logistic regression to convergence (L-BFGS) on standardised features."""

    kind: Literal["logistic"]
    build: ClassVar[str] = "diffprobe.evaluation.representation.logistic:fit"
    setting: ClassVar[str] = "strength"

    strength: list[Above] = Field(
        [1e-5, 1e-4, 1e-3, 1e-2], min_length=1, description="L2 penalties per image: 1 / (C N) of scikit-learn."
    )
    iterations: Positive = Field(200, description="At most so many.")


Evaluator = Annotated[Linear | Ridge | KNN | Logistic, Field(discriminator="kind")]


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
