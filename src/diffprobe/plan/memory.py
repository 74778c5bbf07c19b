"""Memory requests of jobs, in MB."""

from diffprobe.config.inferred import latent_bytes
from diffprobe.config.models import Config, Experiment

TRAINING = 4000  # per process, besides images or latents
PROBING = 3000  # besides features and images
MOST_HELD = 2**31  # bytes of images that a job of features holds; more are read as they are needed


def training(config: Config, experiment: Experiment, nodes: int = 1) -> int:
    """For a training job, on each of its nodes. Each process holds its images, or a fixed budget if they are streamed.
    Latents are held once for all processes of a job on one node, or streamed through two windows per process.
    """
    train = experiment.train
    processes = train.devices // nodes
    if experiment.latents:
        size, budget = latent_bytes(config, experiment.latents), config.memory_budget.host_gib * 2**30
        # A store of unknown size is assumed to fill the budget; a streamed one holds none.
        held = 0 if nodes > 1 else budget if size is None else size if size <= budget else 0
        return processes * (TRAINING + round(2 * train.window_mib)) + round(held / 1e6)
    images = image_bytes(config, experiment)
    held = images if images <= train.resident_gib * 2**30 else 2**32
    return processes * (TRAINING + round(held / 1e6))


def probing(config: Config, experiment: Experiment) -> int:
    """For a job that computes features, or fits heads on them."""
    features = experiment.probe.memory_gib * 2**30 if experiment.probe else 0
    held = 0 if experiment.latents else min(image_bytes(config, experiment), MOST_HELD)
    return PROBING + round((features + held) / 1e6)


def image_bytes(config: Config, experiment: Experiment) -> int:
    """Of all images as uint8; 0 where only reading them shows how many there are."""
    facts = config.datasets[experiment.dataset].facts
    return (facts.images or 0) * (facts.size or 0) ** 2 * facts.channels
