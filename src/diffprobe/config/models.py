"""What may be asked for, as typed models; `config/schema.json` and `config/README.md` are made from them."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from diffprobe.config.autoencoders import Autoencoder
from diffprobe.config.base import Integer, Name, NotNegative, Number, Path, Positive, Strict
from diffprobe.config.datasets import Dataset
from diffprobe.config.extractors import Extractor
from diffprobe.config.latents import Latents
from diffprobe.config.probing import Probe

# --- experiments --------------------------------------------------------------------------------------------


class UNet(Strict):
    """The U-Net of DDPM as DDAE trains it; other values of `head_groups`, `down_padding`, `norm_eps`, `skip_scale` and
    `init` are those of DDPM (Ho et al. 2020) and EDM. Taps: `in_1`.. (encoder), `mid`, `out_1`.. (decoder).
    """

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
    down_padding: Literal["both", "right"] = Field(
        "both", description="Sides on which downsampling convolutions pad; DDPM: `right` (and below)."
    )
    norm_eps: Number = Field(1e-5, gt=0, description="Epsilon of the group norms; DDPM and EDM: 1e-6.")
    skip_scale: Number = Field(1.0, gt=0, description="Factor on every residual sum; EDM: sqrt(0.5) = 0.70710678.")
    time_scale: Number = Field(1.0, gt=0, description="Factor on the noise level's input before its sinusoids.")
    init: Literal["torch", "ddpm", "edm"] = Field("torch", description="Initial weights: PyTorch's, DDPM's or EDM's.")
    conditional: bool = Field(False, description="Whether it is told the label (where there are labels).")
    augment: bool = Field(
        True,
        description="Whether it is told how a training image was augmented, so that it draws images as they are.",
    )
    label_dropout: Number = Field(0.1, ge=0, le=1, description="Share of labels hidden in training, for guidance.")


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


class Diffusers(Strict):
    """Any diffusers `UNet2DModel`, as it is. Taps: `in_1`.. (encoder), `mid`, `out_1`.. (decoder), its residual blocks
    with their attention.
    """

    kind: Literal["diffusers"]
    path: Path = Field(description="A folder with its config.json.")


Network = Annotated[UNet | DiT | Diffusers, Field(discriminator="kind")]


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
    reduction: Literal["mean", "sum"] = Field(
        "mean",
        description="The loss is the mean over an image's elements (DDAE), or their sum (the paper): alike for Adam, "
        "not for `clip`.",
    )


class DDPM(Strict):
    """The DDPM objective (Ho et al. 2020): discrete steps t = 1 .. `steps`, the noise predicted."""

    kind: Literal["ddpm"]
    steps: Integer = Field(1000, ge=2, description="Steps T.")
    beta_min: Number = Field(1e-4, gt=0, lt=1, description="beta_1; betas rise linearly.")
    beta_max: Number = Field(0.02, gt=0, lt=1, description="beta_T.")
    time_input: Literal["index", "fraction"] = Field(
        "index", description="What the network is told: t - 1 (the paper's code), or t/T (DDAE)."
    )


class Flow(Strict):
    """Flow matching on the straight path (Lipman et al. 2023): x_t = (1 - t) x + t n, the velocity n - x predicted. The
    network is told t; `network.time_scale` of 1000 suits its sinusoids.
    """

    kind: Literal["flow"]
    t: Literal["uniform", "logit_normal"] = Field("uniform", description="How t is drawn in training.")
    t_mean: Number = Field(0.0, description="Mean of the logit of t, for `logit_normal`.")
    t_std: Number = Field(1.0, gt=0, description="Its standard deviation.")


Process = Annotated[EDM | DDPM | Flow, Field(discriminator="kind")]


class HalfLife(Strict):
    """An average in which a weight counts half after so many images (Karras et al. 2022, appendix F.2)."""

    kind: Literal["half_life"]
    kimg: Number = Field(500, gt=0, description="Half-life, in thousands of images.")
    ramp: Number = Field(0.05, gt=0, description="The half-life is at most this share of the images seen so far.")


class DDAERamp(Strict):
    """DDAE's average: at its s-th update, from 0 on, the decay is min(`decay`, 1 - (1 + s)^(-2/3)), for any batch."""

    kind: Literal["ddae"]
    decay: Number = Field(0.9999, gt=0, lt=1, description="Decay per step that is reached in the end (if it is).")


Average = Annotated[HalfLife | DDAERamp, Field(discriminator="kind")]


class Augment(Strict):
    """EDM's non-leaking augmentation (Karras et al. 2022, appendix F.2): flips, scale, rotation, stretch, shift."""

    p: Number = Field(0.12, gt=0, le=1, description="Probability of each; images are flipped left to right always.")


class Training(Strict):
    """The one training loop: images as clock, a checkpoint at each listed count."""

    checkpoints: list[Positive] = Field(
        min_length=1,
        description="Checkpoints, in thousands of images seen; each is trained from the one before. "
        "A longer list trains only what is new.",
    )
    imported: Path | None = Field(
        None,
        description="Weights from elsewhere, as `diffprobe import` writes them: nothing is trained, they are the one "
        "checkpoint.",
    )
    batch: Positive = Field(128, description="Images per step, over all devices.")
    optimizer: Literal["adam", "adamw"] = Field("adamw", description="They differ in `weight_decay` alone.")
    lr: Number = Field(1e-3, gt=0, description="Learning rate after the warm-up.")
    beta1: Number = Field(0.9, ge=0, lt=1, description="Adam's decay of its first moment.")
    beta2: Number = Field(0.999, ge=0, lt=1, description="Adam's decay of its second moment.")
    weight_decay: Number = Field(0.0, ge=0, description="Decoupled (AdamW), or added to the gradient (Adam).")
    warmup_kimg: Number = Field(0, ge=0, description="Linear warm-up, in thousands of images.")
    cosine_kimg: Number | None = Field(
        None,
        gt=0,
        description="The learning rate falls to 0 as a cosine up to so many thousand images; null: constant.",
    )
    averages: dict[Name, Average] = Field(
        default_factory=lambda: {"ema": HalfLife(kind="half_life")},
        min_length=1,
        description="Moving averages of the weights by name; what is drawn and probed says which it takes.",
    )
    clip: Number | None = Field(None, gt=0, description="Bound on the norm of the gradient; null for none.")
    flip: bool = Field(False, description="Images flipped left to right with probability 0.5 (in pixels).")
    augment: Augment | None = Field(
        None, description="EDM's augmentation, of which the network is told (in pixels); null: none."
    )
    seed: Integer = Field(0, description="Seed of weights, order and noise.")
    splits: list[Literal["train", "select"]] = Field(
        ["train", "select"], min_length=1, description="The images that the generator may see."
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="Of the network's arithmetic; weights are float32. `auto`: bf16 on a GPU, else fp32."
    )
    compile: Literal["auto", "always", "never"] = Field(
        "auto", description="torch.compile. `auto`: on a GPU, where a slice is long enough to pay for it."
    )
    resident_gib: Number = Field(
        8, ge=0, description="Images (as bytes, in GiB) up to which they are held on the device; more are streamed."
    )
    latents_as: Literal["sample", "mean"] = Field(
        "sample", description="A latent is drawn anew from its posterior each time, or is its mean."
    )
    window_mib: Number = Field(
        48,
        gt=0,
        description="Latents (in MiB) that are permuted together: chunks of 256 come in a new order each epoch, then "
        "the rows of as many chunks as this holds are mixed.",
    )
    devices: Positive = Field(
        1, description="GPUs (without any, processes) that train together and share each batch; changes only rounding."
    )
    device_batch: Positive | None = Field(
        None,
        description="Images that a device takes at once, its share of a batch being accumulated; null: all. Changes "
        "only rounding.",
    )


class Drawn(Strict):
    """What all samplers have."""

    guidance: Number = Field(
        1.0,
        ge=0,
        description="Classifier-free guidance of a conditional network: 0 ignores the label, 1 follows it, more "
        "exaggerates it (at twice the evaluations).",
    )
    weights: Name = Field("ema", description="Which of `train.averages` draws, or `raw`.")
    clip: bool = Field(False, description="Estimates of the image are held within [-1, 1] (DDPM, DDAE; in pixels).")
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="Of the network's arithmetic; on a GPU convolutions of fp32 multiply in TF32."
    )


class Ancestral(Drawn):
    """DDPM's sampler (Ho et al. 2020, algorithm 2), for the process `ddpm`."""

    kind: Literal["ddpm"]
    steps: Integer | None = Field(None, ge=1, description="Evenly spaced steps; null: all of the process's.")
    variance: Literal["large", "small"] = Field(
        "large", description="Of a step's noise: beta_t, or that of the posterior."
    )


class DDIM(Drawn):
    """DDIM (Song et al. 2021), for the process `ddpm`."""

    kind: Literal["ddim"]
    steps: Integer = Field(100, ge=1, description="Evenly spaced steps; as many evaluations of the network.")
    eta: Number = Field(0.0, ge=0, le=1, description="0 is deterministic, 1 as noisy as DDPM.")
    table: Literal["exact", "ddae"] = Field(
        "exact", description="Noise levels as in training, or those that DDAE's code reads, off by one."
    )


class Heun(Drawn):
    """Heun's second-order steps (Karras et al. 2022, algorithm 1 and 2), for `edm` and `flow`."""

    kind: Literal["heun"]
    steps: Integer = Field(18, ge=2, description="Noise levels; 2 * steps - 1 evaluations of the network per image.")
    rho: Number = Field(7.0, gt=0, description="How EDM's levels crowd near zero.")
    shift: Number = Field(1.0, gt=0, description="How flow matching's times crowd near noise; 1: evenly spaced.")
    churn: Number = Field(
        0.0,
        ge=0,
        description="Noise added before steps (EDM's S_churn); 0: none. DDAE's eta: churn / (0.4142 steps).",
    )
    churn_min: Number = Field(0.01, ge=0, description="Lowest level at which it is (S_min).")
    churn_max: Number = Field(1.0, gt=0, description="Highest level at which it is (S_max).")
    churn_noise: Number = Field(1.007, gt=0, description="Factor on it (S_noise).")


class Euler(Drawn):
    """Euler's first-order steps, for `edm` and `flow`."""

    kind: Literal["euler"]
    steps: Integer = Field(50, ge=1, description="Noise levels, and evaluations of the network per image.")
    rho: Number = Field(7.0, gt=0, description="How EDM's levels crowd near zero.")
    shift: Number = Field(1.0, gt=0, description="How flow matching's times crowd near noise; 1: evenly spaced.")


Sampler = Annotated[Ancestral | DDIM | Heun | Euler, Field(discriminator="kind")]


class Sampling(Strict):
    """What is drawn from each checkpoint."""

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
    seed: Integer = Field(0, description="Seed of the start noise and of the steps' noise.")


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
    train: Training = Field(description="Its training.")
    sample: Sampling = Field(description="Its samples.")
    generation: Generation | None = Field(None, description="Their quality; null: not measured.")
    probe: Probe | None = Field(None, description="Its features and what they tell (needs labels); null: not asked.")


# --- the run ------------------------------------------------------------------------------------------------


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
