"""What no single field can tell: combinations that cannot work, found before any job starts."""

from collections.abc import Iterator

from diffprobe.config import generation, probes, published
from diffprobe.config.autoencoders import Autoencoder, Trained
from diffprobe.config.datasets import Dataset, Download, Stratified
from diffprobe.config.inferred import ARRAYS, conditional, factor, facts, model_space
from diffprobe.config.latents import Latents
from diffprobe.config.models import Config, Experiment
from diffprobe.config.names import diffusers_config
from diffprobe.config.networks import Diffusers, DiT, UNet
from diffprobe.config.problems import Problem, listed, one_of
from diffprobe.config.processes import Process


def problems(config: Config) -> Iterator[Problem]:
    """Every impossible combination in the config."""
    for name, dataset in config.datasets.items():
        yield from of_dataset(f"datasets.{name}", dataset)
        yield from generation.of_references(f"datasets.{name}.references", dataset, config)
    yield from of_mirrors(config.datasets)
    for name, autoencoder in config.autoencoders.items():
        yield from of_autoencoder(f"autoencoders.{name}", autoencoder, config)
    for name, latents in config.latents.items():
        yield from of_latents(f"latents.{name}", latents, config)
    for name, extractor in config.extractors.items():
        if extractor.kind == "classifier":
            yield from of_classifier(f"extractors.{name}.dataset", extractor.dataset, config)
        elif extractor.kind == "torchscript" and not extractor.trusted:
            yield f"extractors.{name}.trusted", False, f"true, if you trust the code in {extractor.weights} to run"
    for name, experiment in config.experiments.items():
        yield from of_experiment(f"experiments.{name}", experiment, config)
    yield from generation.of_names(config)


def of_dataset(key: str, dataset: Dataset) -> Iterator[Problem]:
    known, split = facts(dataset), dataset.split
    if known.size is None:
        yield f"{key}.size", dataset.size, f"the height and width to bring the images of a {dataset.source.kind} to"
    if dataset.decode == "when_read" and dataset.source.kind in ARRAYS:
        yield f"{key}.decode", dataset.decode, f"once ({dataset.source.kind} comes as arrays, not as files)"
    if split is None:
        return
    if split.kind == "official" and known.official == 0:
        yield f"{key}.split.kind", split.kind, f"stratified or last ({dataset.source.kind} has no test of its own)"
    if split.kind == "last" and known.images and split.select + split.test >= known.images:
        yield f"{key}.split.test", split.test, f"a number that leaves some of {known.images:,} images for train"
    if split.kind == "stratified":
        yield from of_shares(f"{key}.split", split, known.smallest)


def of_mirrors(datasets: dict[str, Dataset]) -> Iterator[Problem]:
    """A public dataset is downloaded once, so from one place."""
    named: dict[str, str | None] = {}
    for name, dataset in datasets.items():
        if isinstance(dataset.source, Download):
            mirror = named.setdefault(dataset.source.kind, dataset.source.mirror)
            if mirror != dataset.source.mirror:
                yield f"datasets.{name}.source.mirror", dataset.source.mirror, f"{mirror}, as in the dataset before"


def of_shares(key: str, split: Stratified, smallest: int | None) -> Iterator[Problem]:
    if split.select + split.test >= 1:
        yield f"{key}.test", split.test, f"a share that leaves some for train beside select = {split.select:g}"
        return
    for part in ("select", "test"):
        share = getattr(split, part)
        if smallest is not None and round(share * smallest) < 1:
            yield f"{key}.{part}", share, "a share that holds an image of every class"


def of_autoencoder(key: str, autoencoder: Autoencoder, config: Config) -> Iterator[Problem]:
    if autoencoder.size % factor(autoencoder):
        yield f"{key}.size", autoencoder.size, f"a multiple of {factor(autoencoder)}, the pixels per latent pixel"
    if autoencoder.kind == "trained":
        yield from of_trained(key, autoencoder, config)
    else:
        told = published.local_problems(autoencoder.model_dump())
        yield from ((f"{key}.{name}", value, allowed) for name, value, allowed in told)


def of_trained(key: str, autoencoder: Trained, config: Config) -> Iterator[Problem]:
    """A network that does not fit the images, or a batch that cannot be divided."""
    network, train = autoencoder.network, autoencoder.train
    if autoencoder.dataset not in config.datasets:
        yield f"{key}.dataset", autoencoder.dataset, one_of(config.datasets)
        return
    known = facts(config.datasets[autoencoder.dataset])
    if any(width % network.groups for width in network.widths):
        yield f"{key}.network.groups", network.groups, f"a divisor of every width ({listed(network.widths)})"
    if known.channels not in (1, network.channels):
        yield f"{key}.network.channels", network.channels, f"{known.channels}, as the images have"
    if autoencoder.resize == "repeat" and known.size and autoencoder.size % known.size:
        yield f"{key}.resize", "repeat", f"bilinear, or a size that is a multiple of the images' {known.size} pixels"
    whole = train.device_batch is None or train.device_batch >= train.batch
    if train.adversary and train.adversary.norm == "batch" and not whole:
        yield (
            f"{key}.train.device_batch",
            train.device_batch,
            "null, or an adversary with norm: group",
        )
    least = {"train.perceptual": 16 if train.perceptual else 0}  # VGG16 halves four times
    least["train.adversary"] = 2 ** (1 + len(train.adversary.widths)) if train.adversary else 0
    for part, size in least.items():
        if autoencoder.size < size:
            yield f"{key}.size", autoencoder.size, f"at least {size}, for {part}"


def of_latents(key: str, latents: Latents, config: Config) -> Iterator[Problem]:
    """Images that the autoencoder does not fit or has seen the test of, and views, scales, batches that cannot be."""
    if latents.dataset not in config.datasets:
        yield f"{key}.dataset", latents.dataset, one_of(config.datasets)
        return
    if latents.autoencoder not in config.autoencoders:
        yield f"{key}.autoencoder", latents.autoencoder, one_of(config.autoencoders)
        return
    autoencoder = config.autoencoders[latents.autoencoder]
    known = facts(config.datasets[latents.dataset])
    if autoencoder.kind == "trained":
        if autoencoder.dataset not in config.datasets:
            return  # said where the autoencoder is
        yield from of_autoencoder_of(key, latents, autoencoder, config)
    else:
        if known.channels not in (1, autoencoder.channels):
            yield f"{key}.autoencoder", latents.autoencoder, f"one of images with {known.channels} channels"
    fitting = not known.size or autoencoder.size % known.size == 0
    if autoencoder.resize == "repeat" and not fitting and getattr(autoencoder, "dataset", None) != latents.dataset:
        allowed = f"one whose size is a multiple of the images' {known.size} pixels"
        yield f"{key}.autoencoder", latents.autoencoder, allowed
    if latents.scale == "published" and autoencoder.kind == "trained":
        yield f"{key}.scale", "published", "measured, or a number: an autoencoder trained here has none"
    if latents.imported:
        yield from of_imported(key, latents)
    elif latents.views[0].kind != "identity":
        yield f"{key}.views", latents.views[0].kind, "identity as the first (features are taken from it)"
    if 256 % latents.batch:
        yield f"{key}.batch", latents.batch, "a divisor of 256, the images of a chunk"
    if isinstance(latents.scale, float) and latents.scale <= 0:
        yield f"{key}.scale", latents.scale, "measured, or a number above 0"


def of_imported(key: str, latents: Latents) -> Iterator[Problem]:
    """What the files alone can tell, or hold in one folder."""
    if [view.kind for view in latents.views] != ["identity"]:
        kinds = listed(view.kind for view in latents.views)
        yield f"{key}.views", kinds, "nothing (the views of imported latents are those of their files)"
    if latents.imported.kind == "npy" and latents.imported.test:
        yield f"{key}.imported.test", latents.imported.test, "null: test_code_0.npy lies in the same folder"


def of_autoencoder_of(key: str, latents: Latents, autoencoder: Trained, config: Config) -> Iterator[Problem]:
    """An autoencoder that was trained on images of another kind, or on this dataset's test."""
    dataset, other = config.datasets[latents.dataset], config.datasets[autoencoder.dataset]
    known, seen = facts(dataset), facts(other)
    if other.source == dataset.source and (other.split, other.per_class) != (dataset.split, dataset.per_class):
        allowed = f"an autoencoder of {latents.dataset}: {autoencoder.dataset} splits the same images otherwise"
        yield f"{key}.autoencoder", latents.autoencoder, f"{allowed}, so it has seen some of this test"
    if seen.channels != known.channels:
        yield f"{key}.autoencoder", latents.autoencoder, f"an autoencoder of images with {known.channels} channels"


def of_classifier(key: str, dataset: str, config: Config) -> Iterator[Problem]:
    if dataset not in config.datasets:
        yield key, dataset, one_of(config.datasets)
    elif facts(config.datasets[dataset]).classes == 0:
        yield key, dataset, "a dataset with labels"


def of_experiment(key: str, experiment: Experiment, config: Config) -> Iterator[Problem]:
    """What an experiment names that is not there, and what of it does not fit together."""
    if experiment.dataset not in config.datasets:
        yield f"{key}.dataset", experiment.dataset, one_of(config.datasets)
        return
    if experiment.latents is not None:
        own = [name for name, latents in config.latents.items() if latents.dataset == experiment.dataset]
        if experiment.latents not in own:
            yield f"{key}.latents", experiment.latents, f"latents of {experiment.dataset}: {one_of(own)}"
            return
        if config.latents[experiment.latents].autoencoder not in config.autoencoders:
            return  # said where the latents are
    _, size = model_space(config, experiment)
    if size is not None:  # else said where the dataset is
        yield from NETWORKS[experiment.network.kind](f"{key}.network", experiment.network, size)
    yield from of_process(f"{key}.process", experiment.process)
    yield from of_training(f"{key}.train", experiment)
    yield from of_sampling(f"{key}.sample.samplers", experiment, conditional(config, experiment))
    if experiment.probe:
        yield from probes.of_probe(f"{key}.probe", experiment, experiment.probe, config)
    if experiment.generation:
        yield from generation.of_generation(key, experiment, experiment.generation, config)


def of_dit(key: str, network: DiT, size: int) -> Iterator[Problem]:
    if size % network.patch:
        yield f"{key}.patch", network.patch, f"a divisor of {size}, the height and width of what it sees"
    if network.width % network.heads:
        yield f"{key}.heads", network.heads, f"a divisor of the width {network.width}"
    if network.width % 4:
        yield f"{key}.width", network.width, "a multiple of 4 (sines and cosines of rows and columns)"


def of_unet(key: str, network: UNet, size: int) -> Iterator[Problem]:
    """A network that cannot be built, or not for these images."""
    levels = len(network.multipliers)
    if size % 2 ** (levels - 1):
        yield f"{key}.multipliers", network.multipliers, f"levels that halve {size} pixels without rest"
    for level in network.attention:
        if not 0 <= level < levels:
            yield f"{key}.attention", level, f"levels 0 to {levels - 1}"
    widths = {network.channels * m for m in (1, *network.multipliers)}
    if any(width % network.groups for width in widths):
        yield f"{key}.groups", network.groups, f"a divisor of every width ({listed(sorted(widths))})"
    if network.channels * network.multipliers[0] % network.head_groups:
        yield (
            f"{key}.head_groups",
            network.head_groups,
            f"a divisor of {network.channels * network.multipliers[0]}",
        )
    if network.channels % 2 or network.channels < 4:
        yield f"{key}.channels", network.channels, "an even number from 4"


def of_diffusers(key: str, network: Diffusers, size: int) -> Iterator[Problem]:
    """A folder that holds no unconditional UNet2DModel."""
    try:
        config = diffusers_config(network.path)
    except (OSError, ValueError):
        yield f"{key}.path", network.path, "a folder of a diffusers model, with its config.json"
        return
    if config.get("_class_name") != "UNet2DModel":
        yield f"{key}.path", network.path, f"a folder of a UNet2DModel, not of a {config.get('_class_name')}"
    elif config.get("class_embed_type") or config.get("num_class_embeds"):
        yield f"{key}.path", network.path, "a model that is told no labels"
    elif size % 2 ** (len(config["block_out_channels"]) - 1):
        yield f"{key}.path", network.path, f"a model whose levels halve {size} pixels without rest"


NETWORKS = {"unet": of_unet, "dit": of_dit, "diffusers": of_diffusers}
SAMPLERS = {"edm": ("heun", "euler"), "flow": ("heun", "euler"), "ddpm": ("ddpm", "ddim")}  # those that a process has


def of_sampling(key: str, experiment: Experiment, conditional: bool) -> Iterator[Problem]:
    """Samplers that the process, the network or its weights do not allow."""
    process = experiment.process
    for name, sampler in experiment.sample.samplers.items():
        if sampler.guidance != 1 and not conditional:
            yield f"{key}.{name}.guidance", sampler.guidance, "1, since this network is told no label"
        elif sampler.guidance != 1 and experiment.network.label_dropout == 0:
            yield f"{key}.{name}.guidance", sampler.guidance, "1, or a network.label_dropout above 0"
        if sampler.kind not in SAMPLERS[process.kind]:
            yield (
                f"{key}.{name}.kind",
                sampler.kind,
                f"{one_of(SAMPLERS[process.kind])}, for the process {process.kind}",
            )
        elif process.kind == "ddpm" and (sampler.steps or 1) > process.steps:
            yield f"{key}.{name}.steps", sampler.steps, f"at most the process's {process.steps} steps"
        if getattr(sampler, "churn", 0) and process.kind != "edm":
            yield f"{key}.{name}.churn", sampler.churn, "0 (only the process edm has levels to go up to)"
        if sampler.clip and experiment.latents is not None:
            yield f"{key}.{name}.clip", True, "false, since latents are not bounded"
        yield from probes.of_weights(f"{key}.{name}.weights", sampler.weights, experiment)


def of_process(key: str, process: Process) -> Iterator[Problem]:
    if process.kind == "edm" and process.sigma_min >= process.sigma_max:
        yield f"{key}.sigma_min", process.sigma_min, f"below sigma_max = {process.sigma_max:g}"
    if process.kind == "ddpm" and process.beta_min > process.beta_max:
        yield f"{key}.beta_min", process.beta_min, f"at most beta_max = {process.beta_max:g}"


def of_training(key: str, experiment: Experiment) -> Iterator[Problem]:
    """Checkpoints, batches and augmentations that cannot be."""
    train = experiment.train
    if train.checkpoints != sorted(set(train.checkpoints)):
        yield f"{key}.checkpoints", train.checkpoints, "rising numbers"
    if train.imported and len(train.checkpoints) > 1:
        yield f"{key}.checkpoints", train.checkpoints, "one, since weights are imported"
    steps = [checkpoint_steps(kimg, train.batch) for kimg in (0, *train.checkpoints)]
    if len(set(steps)) < len(steps):
        yield f"{key}.batch", train.batch, "a batch that gives each checkpoint a step of its own"
    if len(set(train.splits)) < len(train.splits):
        yield f"{key}.splits", train.splits, "each split once"
    if train.devices > train.batch:
        yield f"{key}.devices", train.devices, f"at most the batch's {train.batch} images"
    if "raw" in train.averages:
        yield f"{key}.averages", "raw", "another name (raw are the weights themselves)"
    for name in ("flip", "augment"):
        if getattr(train, name) and experiment.latents is not None:
            yield f"{key}.{name}", True, f"nothing, since this is done to pixels (latents.{experiment.latents}.views)"
    if train.flip and train.augment:
        yield f"{key}.flip", True, "false, since train.augment flips images and tells the network"


def checkpoint_steps(kimg: int, batch: int) -> int:
    """The step at which a checkpoint of so many thousand images is taken: the first that reaches them."""
    return -(-1000 * kimg // batch)
