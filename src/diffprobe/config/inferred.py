"""Facts that follow from several config entries before any data is read; None if only reading shows."""

from diffprobe.config.models import Config, Experiment
from diffprobe.config.names import AUGMENT_LABEL, VIEW_LABEL

FLOAT16 = 2  # bytes


def model_space(config: Config, experiment: Experiment) -> tuple[int, int | None]:
    """(channels, size) of the network's input: the dataset's pixels, or its latents."""
    if experiment.latents is None:
        facts = config.datasets[experiment.dataset].facts
        return facts.channels, facts.size
    return config.autoencoders[config.latents[experiment.latents].autoencoder].latent_space


def latent_bytes(config: Config, name: str, rows: dict[str, int] | None = None) -> int | None:
    """Approximate size of a store of latents in bytes: mean and log-variance (for imported latents, one value) of every
    view of train, and of the other splits without views. None if only reading the dataset shows its `rows`.
    """
    latents = config.latents[name]
    rows = rows or config.datasets[latents.dataset].split_rows
    if rows is None:
        return None
    channels, size = config.autoencoders[latents.autoencoder].latent_space
    # Only train has several views.
    images = latents.versions * rows["train"] + rows["select"] + rows["test"]
    # Encoding stores mean and log-variance, imports the latents alone.
    return images * (1 if latents.imported else 2) * channels * size**2 * FLOAT16


def augment_label(config: Config, experiment: Experiment) -> int:
    """Length of the augmentation label that the network is conditioned on; 0: unconditioned."""
    if not experiment.network.conditional_on_views:
        return 0
    if experiment.latents is None:
        return AUGMENT_LABEL if experiment.train.augment else 0
    latents = config.latents[experiment.latents]
    # Files of imported latents do not record which augmentation made each view.
    return VIEW_LABEL if not latents.imported and latents.versions > 1 else 0


def transferred_latents(config: Config, experiment: Experiment, dataset: str) -> str | None:
    """The store of another dataset's latents by the autoencoder of the experiment's own; None where there is none."""
    if experiment.latents is None:
        return None
    own = config.latents[experiment.latents]
    stores = config.latents.items()
    alike = [name for name, store in stores if store.dataset == dataset and store.same_space(own)]
    return alike[0] if alike else None


def conditional(config: Config, experiment: Experiment) -> bool:
    """Whether the network is conditioned on class labels; True if only reading shows whether there are any."""
    return experiment.network.conditional_on_labels and config.datasets[experiment.dataset].facts.classes != 0


def keys_that_need_labels(config: Config, dataset: str) -> list[str]:
    """The config keys that need labels for this dataset."""
    keys = [f"extractors.{name}.dataset" for name, e in config.extractors.items() if e.trained_on == dataset]
    for name, experiment in config.experiments.items():
        if experiment.dataset == dataset and experiment.task.classifies:
            keys.append(f"experiments.{name}.task")
        if experiment.dataset == dataset and experiment.probe:
            keys.append(f"experiments.{name}.probe")
        if experiment.probe and dataset in experiment.probe.transfer:
            keys.append(f"experiments.{name}.probe.transfer")
        if experiment.dataset == dataset and conditional(config, experiment):
            for sampler, setting in experiment.sample.samplers.items():
                plain = {"guidance": 1, "labels": "balanced"}  # which mean nothing to a model without labels
                changed = [key for key, value in plain.items() if getattr(setting, key) != value]
                keys += [f"experiments.{name}.sample.samplers.{sampler}.{key}" for key in changed]
    return keys
