"""What is known of a dataset before it is read: needed to check a config and to describe its cost.

Of folders and zips little is known; None stands for what only reading will tell.
"""

from typing import NamedTuple

from diffprobe.config.autoencoders import Autoencoder, Pretrained
from diffprobe.config.datasets import CelebAHQ, Dataset, Official, Stratified
from diffprobe.config.models import Config, Experiment
from diffprobe.config.names import AUGMENT_LABEL, VIEW_LABEL, diffusers_config, diffusers_taps, dit_taps, unet_taps

FLOAT16 = 2  # bytes


class Facts(NamedTuple):
    """Images of (channels, size, size) in `classes` classes (0: no labels), the smallest of `smallest` images.

    Of the `images`, the last `official` are a test split of the dataset's own.
    """

    images: int | None
    size: int | None
    channels: int
    classes: int | None
    smallest: int | None
    official: int | None = 0


FACTS = {
    "digits": Facts(images=1797, size=8, channels=1, classes=10, smallest=174),
    "mnist": Facts(images=70_000, size=28, channels=1, classes=10, smallest=5_421, official=10_000),
    "cifar10": Facts(images=60_000, size=32, channels=3, classes=10, smallest=5_000, official=10_000),
    "cifar100": Facts(images=60_000, size=32, channels=3, classes=100, smallest=500, official=10_000),
    "tiny_imagenet": Facts(images=110_000, size=64, channels=3, classes=200, smallest=500, official=10_000),
    "celebahq": Facts(images=30_000, size=None, channels=3, classes=0, smallest=30_000),
    "imagenet": Facts(images=1_331_167, size=None, channels=3, classes=1000, smallest=732, official=50_000),
}
ARRAYS = ("digits", "mnist", "cifar10", "cifar100")  # that come as arrays, not as files to be decoded
UNKNOWN = Facts(images=None, size=None, channels=3, classes=None, smallest=None, official=None)


def facts(dataset: Dataset) -> Facts:
    """What is known of the dataset as the config asks for it."""
    source = dataset.source
    known = FACTS.get(source.kind, UNKNOWN)
    if isinstance(source, CelebAHQ) and source.attribute:
        known = known._replace(classes=2, smallest=None)
    if not getattr(source, "labels", True):
        known = known._replace(classes=0)
    known = known._replace(size=dataset.size or known.size, channels=dataset.channels or known.channels)
    return limited(known, dataset.per_class) if dataset.per_class else known


def limited(known: Facts, per_class: int) -> Facts:
    """With only the first images of each class, of train and of an official test."""
    if known.images is None or known.classes is None or known.official is None:
        return known
    classes = max(known.classes, 1)
    train = min(known.images - known.official, per_class * classes)
    official = min(known.official, per_class * classes)
    smallest = known.smallest and min(known.smallest, per_class)
    return known._replace(images=train + official, official=official, smallest=smallest)


def split_of(dataset: Dataset) -> Stratified | Official | None:
    """The split rule that holds; None where only reading tells whether there is an official test."""
    if dataset.split:
        return dataset.split
    official = facts(dataset).official
    return None if official is None else Official(kind="official") if official else Stratified(kind="stratified")


def split_rows(dataset: Dataset) -> dict[str, int] | None:
    """Rows of each split, right to a few (classes are taken to be of equal size); None where unknown."""
    known, rule = facts(dataset), split_of(dataset)
    if known.images is None or rule is None:
        return None
    if rule.kind == "last":
        select, test = rule.select, rule.test
    elif rule.kind == "official":
        select, test = round(rule.select * (known.images - known.official)), known.official
    else:
        classes = max(known.classes or 1, 1)
        sizes = [known.images // classes + (i < known.images % classes) for i in range(classes)]
        select, test = (sum(round(share * size) for size in sizes) for share in (rule.select, rule.test))
    return {"train": known.images - select - test, "select": select, "test": test}


def model_space(config: Config, experiment: Experiment) -> tuple[int, int]:
    """(channels, size) of what the experiment's network sees: the dataset's pixels, or its latents."""
    if experiment.latents is None:
        known = facts(config.datasets[experiment.dataset])
        return known.channels, known.size
    return latent_space(config.autoencoders[config.latents[experiment.latents].autoencoder])


def latent_space(autoencoder: Autoencoder) -> tuple[int, int]:
    """(channels, size) of an autoencoder's latents."""
    known = autoencoder if isinstance(autoencoder, Pretrained) else autoencoder.network
    return known.latent_channels, autoencoder.size // factor(autoencoder)


def latent_bytes(config: Config, name: str, rows: dict[str, int] | None = None) -> int | None:
    """About the bytes of a store of latents: mean and log-variance of every view of train, and of the other splits as
    they are; of imported latents, these alone. None where only reading the dataset tells its `rows`.
    """
    latents = config.latents[name]
    rows = rows or split_rows(config.datasets[latents.dataset])
    if rows is None:
        return None
    channels, size = latent_space(config.autoencoders[latents.autoencoder])
    images = latents.versions * rows["train"] + rows["select"] + rows["test"]
    return images * (1 if latents.imported else 2) * channels * size**2 * FLOAT16


def factor(autoencoder: Autoencoder) -> int:
    """Pixels per latent pixel, in height and width."""
    if isinstance(autoencoder, Pretrained):
        return autoencoder.factor
    return 2 ** (len(autoencoder.network.widths) - 1)


def augment_label(config: Config, experiment: Experiment) -> int:
    """The length of what the experiment's network is told of an image's augmentation; 0 where it is not."""
    if not getattr(experiment.network, "augment", False):
        return 0
    if experiment.latents is None:
        return AUGMENT_LABEL if experiment.train.augment else 0
    latents = config.latents[experiment.latents]
    told = not latents.imported and latents.versions > 1  # what views from elsewhere have done is not known
    return VIEW_LABEL if told else 0


def asking_labels(config: Config, dataset: str) -> list[str]:
    """The keys of the config that need labels of a dataset."""
    keys = [
        f"extractors.{name}.dataset"
        for name, extractor in config.extractors.items()
        if extractor.kind == "classifier" and extractor.dataset == dataset
    ]
    for name, experiment in config.experiments.items():
        if experiment.dataset == dataset and experiment.probe:
            keys.append(f"experiments.{name}.probe")
        if experiment.dataset == dataset and conditional(config, experiment):
            guided = (sampler for sampler, found in experiment.sample.samplers.items() if found.guidance != 1)
            keys += [f"experiments.{name}.sample.samplers.{sampler}.guidance" for sampler in guided]
    return keys


def conditional(config: Config, experiment: Experiment) -> bool:
    """Whether the experiment's network is told labels; where only reading tells whether there are any, it is."""
    return getattr(experiment.network, "conditional", False) and facts(config.datasets[experiment.dataset]).classes != 0


def network_taps(experiment: Experiment) -> list[str]:
    """The taps of an experiment's network, in the order of computation."""
    if experiment.network.kind == "dit":
        return dit_taps(experiment.network.depth)
    if experiment.network.kind == "diffusers":
        return diffusers_taps(diffusers_config(experiment.network.path))
    return unet_taps(len(experiment.network.multipliers), experiment.network.blocks)
