"""What may be asked for, as typed models; `config/schema.json` and `config/README.md` are made from them."""

from typing import Annotated, Literal

from pydantic import Field

from diffprobe.config.base import Integer, Name, NotNegative, Number, Path, Positive, Strict
from diffprobe.config.datasets import Dataset
from diffprobe.config.extractors import Extractor
from diffprobe.config.latents import Autoencoder, Latents

# --- experiments --------------------------------------------------------------------------------------------


class UNet(Strict):
    """The U-Net of DDPM as DDAE trains it. Taps: `in_1`.. (encoder), `mid`, `out_1`.. (decoder)."""

    kind: Literal["unet"]
    channels: Positive = Field(128, description="Base width.")
    multipliers: list[Positive] = Field(
        [1, 2, 2, 2],
        min_length=1,
        description="Width of each level, in base widths; each level halves the resolution.",
    )
    blocks: Positive = Field(2, description="Residual blocks per level of the encoder (the decoder has one more).")
    attention: list[Integer] = Field([1], description="Levels with self-attention, counted from 0 at full resolution.")
    dropout: Number = Field(0.1, ge=0, lt=1, description="Dropout in residual blocks.")
    groups: Positive = Field(32, description="Groups of the group norms; must divide every width.")
    head_groups: Positive = Field(8, description="Groups of the last norm.")
    resample: Literal["conv", "block"] = Field(
        "conv", description="Resampling by convolution (DDPM) or by residual block (DDPM++)."
    )


class DiT(Strict):
    """The diffusion transformer (Peebles & Xie 2023). Taps: `block_0`.. (the residual stream after each block)."""

    kind: Literal["dit"]
    width: Positive = Field(384, description="Width of the tokens.")
    depth: Positive = Field(12, description="Blocks.")
    heads: Positive = Field(6, description="Heads of the attention; must divide the width.")
    patch: Positive = Field(2, description="Height and width of a token's patch.")
    mlp_ratio: Number = Field(4.0, gt=0, description="Width of the MLPs, in widths.")
    time_scale: Number = Field(
        1.0, gt=0, description="Factor on the noise level's input before its sinusoids, made for values up to 1000."
    )
    conditional: bool = Field(True, description="Whether it is told the label (where there are labels).")
    augment: bool = Field(
        True,
        description="Whether it is told what a view has done to the image, so that it draws images as they are.",
    )
    label_dropout: Number = Field(0.1, ge=0, le=1, description="Share of labels hidden in training, for guidance.")


Network = Annotated[UNet | DiT, Field(discriminator="kind")]


class EDM(Strict):
    """The EDM objective (Karras et al. 2022): preconditioning, log-normal noise levels in training."""

    kind: Literal["edm"]
    sigma_data: Number = Field(
        0.5, gt=0, description="Standard deviation that the preconditioning takes the data to have."
    )
    p_mean: Number = Field(-1.2, description="Mean of ln(sigma) in training.")
    p_std: Number = Field(1.2, gt=0, description="Standard deviation of ln(sigma) in training.")
    sigma_min: Number = Field(0.002, gt=0, description="Lowest noise level that may be asked for.")
    sigma_max: Number = Field(
        80.0, gt=0, description="Highest noise level that may be asked for; sampling starts there."
    )


class Training(Strict):
    """The one training loop: Adam or AdamW, images as clock, a checkpoint at each listed count."""

    checkpoints: list[Positive] = Field(
        min_length=1,
        description="Checkpoints, in thousands of images seen; each is trained from the one before. "
        "A longer list trains only what is new.",
    )
    batch: Positive = Field(128, description="Images per step.")
    lr: Number = Field(1e-3, gt=0, description="Learning rate, constant after the warm-up.")
    weight_decay: Number = Field(0.0, ge=0, description="Decoupled weight decay (AdamW); 0 is Adam.")
    warmup_kimg: Number = Field(0, ge=0, description="Linear warm-up, in thousands of images.")
    ema_kimg: Number = Field(
        500, gt=0, description="Half-life of the moving average of the weights, in thousands of images."
    )
    ema_ramp: Number = Field(0.05, gt=0, description="The half-life is at most this share of the images seen so far.")
    clip: Number | None = Field(None, gt=0, description="Bound on the norm of the gradient; null for none.")
    seed: Integer = Field(0, description="Seed of weights, order and noise.")
    splits: list[Literal["train", "select"]] = Field(
        ["train", "select"], min_length=1, description="The images that the generator may see."
    )


class Sampler(Strict):
    """EDM's deterministic Heun sampler (Karras et al. 2022, algorithm 1)."""

    kind: Literal["heun"]
    steps: Integer = Field(18, ge=2, description="Noise levels; 2 * steps - 1 evaluations of the network per image.")
    rho: Number = Field(7.0, gt=0, description="How the levels crowd near zero.")
    guidance: Number = Field(
        1.0,
        ge=0,
        description="Classifier-free guidance of a conditional network: 0 ignores the label, 1 follows it, more "
        "exaggerates it (at twice the evaluations).",
    )


class Sampling(Strict):
    """What is drawn from each checkpoint's moving average."""

    samplers: dict[Name, Sampler] = Field(min_length=1, description="Samplers by name.")
    images: Positive = Field(
        50_000, description="Images per sampler and checkpoint; image i depends on the seed and i alone."
    )
    keep_samples: Positive | Literal["all"] = Field(
        "all",
        description="Images that are written: `all`, or the first so many, for the grids. With a number all are drawn, "
        "decoded and measured in one job, and the others are never written, so that other figures mean drawing anew.",
    )
    batch: Positive = Field(256, description="Images per batch (256 at most of those that are kept); changes no image.")
    seed: Integer = Field(0, description="Seed of the start noise.")


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


class Heads(Strict):
    """Linear heads on frozen features: Adam with a cosine, cross-entropy, standardised features."""

    epochs: Positive = Field(100, description="Passes over the images.")
    batch: Positive = Field(128, description="Images per step.")
    lr: Number = Field(3e-2, gt=0, description="Initial learning rate.")
    weight_decay: Number = Field(1e-3, ge=0, description="L2 penalty on the weights.")


class Probe(Strict):
    """What the model has learned: layer x noise grid on `select`, then linear probe and kNN of the choice."""

    levels: list[Number] = Field(
        min_length=1, description="Noise levels (sigma) of the grid, within the process's range."
    )
    taps: list[str] | Literal["all"] = Field(
        "all", description="Layers of the grid: names of the network's taps, or `all`."
    )
    draws: Positive = Field(2, description="Noisy copies of each image.")
    batch: Positive = Field(256, description="Images per forward pass; changes no feature.")
    noise_seed: Integer = Field(0, description="Seed of the noise.")
    seeds: list[Integer] = Field(
        [0, 1, 2],
        min_length=1,
        description="Seeds of the linear heads; accuracies are given as mean and spread over them.",
    )
    linear: Heads = Field(default_factory=Heads, description="Training of the linear heads.")
    neighbours: Positive = Field(10, description="k of the kNN classifier.")


class Experiment(Strict):
    """One model: a dataset, a network, an objective, its training, and what is asked of it."""

    dataset: Name = Field(description="An entry of `datasets`.")
    latents: Name | None = Field(
        None, description="An entry of `latents`, where the diffusion runs there; null: in pixels."
    )
    network: Network = Field(description="The network.")
    process: EDM = Field(description="The diffusion process.")
    train: Training = Field(description="Its training.")
    sample: Sampling = Field(description="Its samples.")
    generation: Generation | None = Field(None, description="Their quality; null: not measured.")
    probe: Probe | None = Field(None, description="Its features and what they tell (needs labels); null: not asked.")


# --- the run ------------------------------------------------------------------------------------------------


class State(Strict):
    """Keeping of training states. Changes no result and reruns nothing."""

    keep: Literal["all", "last"] = Field(
        "last",
        description="Training states kept: of every checkpoint, or of the last only "
        "(remaking an older checkpoint then costs retraining).",
    )
    autosave_seconds: Number = Field(
        120, gt=0, description="A killed training, or pass over images, loses at most this."
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


class Config(Strict):
    """The whole config."""

    results: str = Field("results", pattern=r"^[^{}]+$", description="Folder of everything that is made.")
    datasets: dict[Name, Dataset] = Field(min_length=1, description="Datasets by name.")
    autoencoders: dict[Name, Autoencoder] = Field({}, description="Autoencoders by name.")
    latents: dict[Name, Latents] = Field({}, description="Stores of latents by name.")
    extractors: dict[Name, Extractor] = Field({}, description="Feature extractors of the distances, by name.")
    experiments: dict[Name, Experiment] = Field(min_length=1, description="Experiments by name.")
    state: State = Field(default_factory=State, description="Keeping of training states.")
    threads: Threads = Field(default_factory=Threads, description="CPU threads per job.")
    metrics: Metrics = Field(default_factory=Metrics, description="How generated images are measured.")
    report: Report = Field(default_factory=Report, description="Plot options.")
