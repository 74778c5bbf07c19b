"""Memory requests of jobs, in MB."""

from diffprobe.config.inferred import latent_bytes
from diffprobe.config.models import Config, Experiment

TRAINING = 4000  # per process, besides images or latents
PROBING = 3000  # besides features


def training(config: Config, experiment: Experiment) -> int:
    """For a training job. Each process holds its images, or a fixed budget if they are streamed. Latents are held once
    for all processes, or streamed through two windows per process.
    """
    train = experiment.train
    if experiment.latents:
        size, budget = latent_bytes(config, experiment.latents), config.memory_budget.host_gib * 2**30
        # A store of unknown size is assumed to fill the budget; a streamed one holds none.
        held = budget if size is None else size if size <= budget else 0
        return train.devices * (TRAINING + round(2 * train.window_mib)) + round(held / 1e6)
    facts = config.datasets[experiment.dataset].facts
    images = (facts.images or 0) * (facts.size or 0) ** 2 * facts.channels
    held = images if images <= train.resident_gib * 2**30 else 2**32
    return train.devices * (TRAINING + round(held / 1e6))


def probing(experiment: Experiment) -> int:
    """For a job that fits heads on features."""
    return PROBING + round(experiment.probe.memory_gib * 2**30 / 1e6) if experiment.probe else PROBING
