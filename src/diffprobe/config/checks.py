"""What no single field can tell: combinations that cannot work, found before any job starts."""

from collections.abc import Iterator

from diffprobe.config.facts import facts
from diffprobe.config.models import Config, Dataset, Experiment
from diffprobe.config.names import level_name, unet_taps

Problem = tuple[str, object, str]  # the key, its value, what is allowed


def problems(config: Config) -> Iterator[Problem]:
    """Every impossible combination in the config."""
    for name, dataset in config.datasets.items():
        yield from of_dataset(f"datasets.{name}", dataset)
    for name, extractor in config.extractors.items():
        if extractor.kind == "classifier" and extractor.dataset not in config.datasets:
            yield f"extractors.{name}.dataset", extractor.dataset, one_of(config.datasets)
    for name, experiment in config.experiments.items():
        key = f"experiments.{name}"
        if experiment.dataset not in config.datasets:
            yield f"{key}.dataset", experiment.dataset, one_of(config.datasets)
            continue
        dataset = config.datasets[experiment.dataset]
        yield from of_network(f"{key}.network", experiment, dataset)
        yield from of_training(key, experiment)
        yield from of_probe(f"{key}.probe", experiment, dataset)
        yield from of_generation(key, experiment, dataset, config)


def of_dataset(key: str, dataset: Dataset) -> Iterator[Problem]:
    split = dataset.split
    if split.select + split.test >= 1:
        yield (
            f"{key}.split.test",
            split.test,
            f"a share that leaves some for train beside select = {split.select:g}",
        )
        return
    for part in ("select", "test"):
        share = getattr(split, part)
        if round(share * facts(dataset).smallest) < 1:
            yield f"{key}.split.{part}", share, "a share that holds an image of every class"


def of_network(key: str, experiment: Experiment, dataset: Dataset) -> Iterator[Problem]:
    """A network that cannot be built, or not for these images."""
    network, size = experiment.network, facts(dataset).size
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


def of_probe(key: str, experiment: Experiment, dataset: Dataset) -> Iterator[Problem]:
    """Levels, taps and heads that the model or the data do not have."""
    probe, process = experiment.probe, experiment.process
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
    rows = int(facts(dataset).images * (1 - dataset.split.select - dataset.split.test))
    if probe.neighbours > max(rows, 1):  # where none are left, the split's own line says so
        yield f"{key}.neighbours", probe.neighbours, f"at most the images of train (about {rows:,})"


def of_generation(key: str, experiment: Experiment, dataset: Dataset, config: Config) -> Iterator[Problem]:
    """Samples and references too few for their figures, or of another dataset."""
    generation = experiment.generation
    if generation.extractor not in config.extractors:
        yield f"{key}.generation.extractor", generation.extractor, one_of(config.extractors)
        return
    extractor = config.extractors[generation.extractor]
    if extractor.kind == "classifier" and extractor.dataset != experiment.dataset:
        yield (
            f"{key}.generation.extractor",
            generation.extractor,
            f"a classifier of {experiment.dataset}, or an Inception",
        )
    if experiment.sample.images <= generation.neighbours:
        allowed = f"more than generation.neighbours = {generation.neighbours}"
        yield f"{key}.sample.images", experiment.sample.images, allowed
    seen = facts(dataset).images * (1 - dataset.split.test)  # the reference: train and select
    if generation.neighbours >= max(int(seen), 2):
        yield f"{key}.generation.neighbours", generation.neighbours, f"below the reference's {int(seen):,} images"


def network_taps(experiment: Experiment) -> list[str]:
    """The taps of an experiment's network, in the order of computation."""
    return unet_taps(len(experiment.network.multipliers), experiment.network.blocks)


def checkpoint_steps(kimg: int, batch: int) -> int:
    """The step at which a checkpoint of so many thousand images is taken: the first that reaches them."""
    return -(-1000 * kimg // batch)


def listed(values: object) -> str:
    return ", ".join(map(str, values))


def one_of(names: object) -> str:
    return listed(names) or "nothing (none is defined)"
