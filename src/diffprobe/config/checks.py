"""What no single field can tell: combinations that cannot work, found before any job starts."""

from collections.abc import Iterator

from diffprobe.config import generation
from diffprobe.config.datasets import Dataset, Download, Stratified
from diffprobe.config.facts import conditional, facts, model_space, split_rows
from diffprobe.config.latents import Autoencoder, Latents
from diffprobe.config.models import Config, DiT, Experiment, Probe, UNet
from diffprobe.config.names import dit_taps, level_name, unet_taps
from diffprobe.config.words import Problem, listed, one_of


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
    for name, experiment in config.experiments.items():
        yield from of_experiment(f"experiments.{name}", experiment, config)
    yield from generation.of_names(config)


def of_dataset(key: str, dataset: Dataset) -> Iterator[Problem]:
    known, split = facts(dataset), dataset.split
    if known.size is None:
        yield f"{key}.size", dataset.size, f"the height and width to bring the images of a {dataset.source.kind} to"
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
    network = autoencoder.network
    if autoencoder.dataset not in config.datasets:
        yield f"{key}.dataset", autoencoder.dataset, one_of(config.datasets)
        return
    known = facts(config.datasets[autoencoder.dataset])
    if autoencoder.size % 2 ** (len(network.widths) - 1):
        yield f"{key}.size", autoencoder.size, f"a multiple of {2 ** (len(network.widths) - 1)}, for the widths' levels"
    if any(width % network.groups for width in network.widths):
        yield f"{key}.network.groups", network.groups, f"a divisor of every width ({listed(network.widths)})"
    if known.channels not in (1, network.channels):
        yield f"{key}.network.channels", network.channels, f"{known.channels}, as the images have"
    if autoencoder.resize == "repeat" and known.size and autoencoder.size % known.size:
        yield f"{key}.resize", "repeat", f"bilinear, or a size that is a multiple of the images' {known.size} pixels"


def of_latents(key: str, latents: Latents, config: Config) -> Iterator[Problem]:
    """Images that the autoencoder does not fit or has seen the test of, and views, scales, batches that cannot be."""
    if latents.dataset not in config.datasets:
        yield f"{key}.dataset", latents.dataset, one_of(config.datasets)
        return
    if latents.autoencoder not in config.autoencoders:
        yield f"{key}.autoencoder", latents.autoencoder, one_of(config.autoencoders)
        return
    autoencoder = config.autoencoders[latents.autoencoder]
    if autoencoder.dataset not in config.datasets:
        return  # said where the autoencoder is
    dataset, other = config.datasets[latents.dataset], config.datasets[autoencoder.dataset]
    known, seen = facts(dataset), facts(other)
    fitting = autoencoder.dataset == latents.dataset or not known.size or autoencoder.size % known.size == 0
    if autoencoder.resize == "repeat" and not fitting:
        yield (
            f"{key}.autoencoder",
            latents.autoencoder,
            f"one whose size is a multiple of the images' {known.size} pixels",
        )
    if other.source == dataset.source and (other.split, other.per_class) != (dataset.split, dataset.per_class):
        allowed = f"an autoencoder of {latents.dataset}: {autoencoder.dataset} splits the same images otherwise"
        yield f"{key}.autoencoder", latents.autoencoder, f"{allowed}, so it has seen some of this test"
    if seen.channels != known.channels:
        yield f"{key}.autoencoder", latents.autoencoder, f"an autoencoder of images with {known.channels} channels"
    if latents.views[0].kind != "identity":
        yield f"{key}.views", latents.views[0].kind, "identity as the first (features are taken from it)"
    if 256 % latents.batch:
        yield f"{key}.batch", latents.batch, "a divisor of 256, the images of a chunk"
    if isinstance(latents.scale, float) and latents.scale <= 0:
        yield f"{key}.scale", latents.scale, "measured, or a number above 0"


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
    dataset = config.datasets[experiment.dataset]
    _, size = model_space(config, experiment)
    if size is not None:  # else said where the dataset is
        of_network = of_dit if experiment.network.kind == "dit" else of_unet
        yield from of_network(f"{key}.network", experiment.network, size)
    yield from of_training(key, experiment)
    yield from of_sampling(f"{key}.sample.samplers", experiment, conditional(config, experiment))
    if experiment.probe:
        yield from of_probe(f"{key}.probe", experiment, experiment.probe, dataset)
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


def of_sampling(key: str, experiment: Experiment, conditional: bool) -> Iterator[Problem]:
    for name, sampler in experiment.sample.samplers.items():
        if sampler.guidance != 1 and not conditional:
            yield f"{key}.{name}.guidance", sampler.guidance, "1, since this network is told no label"
        elif sampler.guidance != 1 and experiment.network.label_dropout == 0:
            yield f"{key}.{name}.guidance", sampler.guidance, "1, or a network.label_dropout above 0"


def of_training(key: str, experiment: Experiment) -> Iterator[Problem]:
    train, process = experiment.train, experiment.process
    if train.checkpoints != sorted(set(train.checkpoints)):
        yield f"{key}.train.checkpoints", train.checkpoints, "rising numbers"
    steps = [checkpoint_steps(kimg, train.batch) for kimg in (0, *train.checkpoints)]
    if len(set(steps)) < len(steps):
        yield f"{key}.train.batch", train.batch, "a batch that gives each checkpoint a step of its own"
    if len(set(train.splits)) < len(train.splits):
        yield f"{key}.train.splits", train.splits, "each split once"
    if process.sigma_min >= process.sigma_max:
        yield f"{key}.process.sigma_min", process.sigma_min, f"below sigma_max = {process.sigma_max:g}"


def of_probe(key: str, experiment: Experiment, probe: Probe, dataset: Dataset) -> Iterator[Problem]:
    """Levels, taps and heads that the model or the data do not have."""
    process = experiment.process
    if facts(dataset).classes == 0:
        yield key, "a probe", f"null, since {experiment.dataset} has no labels"
    for sigma in probe.levels:
        if not process.sigma_min <= sigma <= process.sigma_max:
            yield (
                f"{key}.levels",
                sigma,
                f"{process.sigma_min:g} to {process.sigma_max:g} (the process's sigma_min, sigma_max)",
            )
    names = [level_name(sigma) for sigma in probe.levels]
    if len(set(names)) < len(names):
        yield f"{key}.levels", probe.levels, "levels that differ within six significant digits"
    known = network_taps(experiment)
    if probe.taps != "all":
        for tap in probe.taps:
            if tap not in known:
                yield f"{key}.taps", tap, one_of(known)
        if len(set(probe.taps)) < len(probe.taps) or not probe.taps:
            yield f"{key}.taps", probe.taps, "at least one tap, each once"
    if len(set(probe.seeds)) < len(probe.seeds):
        yield f"{key}.seeds", probe.seeds, "each seed once"
    rows = split_rows(dataset)
    if rows and probe.neighbours > max(rows["train"], 1):  # where none are left, the split's own line says so
        yield f"{key}.neighbours", probe.neighbours, f"at most the images of train (about {rows['train']:,})"


def network_taps(experiment: Experiment) -> list[str]:
    """The taps of an experiment's network, in the order of computation."""
    if experiment.network.kind == "dit":
        return dit_taps(experiment.network.depth)
    return unet_taps(len(experiment.network.multipliers), experiment.network.blocks)


def checkpoint_steps(kimg: int, batch: int) -> int:
    """The step at which a checkpoint of so many thousand images is taken: the first that reaches them."""
    return -(-1000 * kimg // batch)
