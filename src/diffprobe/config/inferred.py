"""What follows from several entries of a config together, before any data is read; None where only reading shows."""

from diffprobe.config.models import Config, Experiment
from diffprobe.config.names import AUGMENT_LABEL, VIEW_LABEL

FLOAT16 = 2  # bytes


def model_space(config: Config, experiment: Experiment) -> tuple[int, int | None]:
    """(channels, size) of what the experiment's network sees: the dataset's pixels, or its latents."""
    if experiment.latents is None:
        facts = config.datasets[experiment.dataset].facts
        return facts.channels, facts.size
    return config.autoencoders[config.latents[experiment.latents].autoencoder].latent_space


def latent_bytes(config: Config, name: str, rows: dict[str, int] | None = None) -> int | None:
    """About the bytes of a store of latents: mean and log-variance of every view of train, and of the other splits as
    they are; of imported latents, these alone. None where only reading the dataset shows its `rows`.
    """
    latents = config.latents[name]
    rows = rows or config.datasets[latents.dataset].split_rows
    if rows is None:
        return None
    channels, size = config.autoencoders[latents.autoencoder].latent_space
    images = latents.versions * rows["train"] + rows["select"] + rows["test"]
    return images * (1 if latents.imported else 2) * channels * size**2 * FLOAT16


def augment_label(config: Config, experiment: Experiment) -> int:
    """The length of the label that tells the network how an image was augmented; 0 where it has none."""
    if not experiment.network.conditional_on_views:
        return 0
    if experiment.latents is None:
        return AUGMENT_LABEL if experiment.train.augment else 0
    latents = config.latents[experiment.latents]
    # What the views of imported latents have done to an image is in none of their files.
    return VIEW_LABEL if not latents.imported and latents.versions > 1 else 0


def conditional(config: Config, experiment: Experiment) -> bool:
    """Whether the experiment's network is conditioned on labels; yes where only reading shows if there are any."""
    return experiment.network.conditional_on_labels and config.datasets[experiment.dataset].facts.classes != 0


def keys_that_need_labels(config: Config, dataset: str) -> list[str]:
    """The keys of the config that need labels of a dataset."""
    keys = [f"extractors.{name}.dataset" for name, e in config.extractors.items() if e.trained_on == dataset]
    for name, experiment in config.experiments.items():
        if experiment.dataset == dataset and experiment.probe:
            keys.append(f"experiments.{name}.probe")
        if experiment.dataset == dataset and conditional(config, experiment):
            guided = [sampler for sampler, setting in experiment.sample.samplers.items() if setting.guidance != 1]
            keys += [f"experiments.{name}.sample.samplers.{sampler}.guidance" for sampler in guided]
    return keys
