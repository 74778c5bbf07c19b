"""Checks of one experiment: references to other entries, training, sampling."""

from collections.abc import Iterator

from diffprobe.config.checks import generation, monitors, probes
from diffprobe.config.inferred import conditional, model_space
from diffprobe.config.models import Config, Experiment
from diffprobe.config.problems import Problem, one_of
from diffprobe.config.training import checkpoint_steps


def problems(key: str, experiment: Experiment, config: Config) -> Iterator[Problem]:
    """Missing entries, and parts that do not fit together."""
    if experiment.dataset not in config.datasets:
        yield f"{key}.dataset", experiment.dataset, one_of(config.datasets)
        return
    if experiment.latents is not None:
        own = [name for name, latents in config.latents.items() if latents.dataset == experiment.dataset]
        if experiment.latents not in own:
            yield f"{key}.latents", experiment.latents, f"latents of {experiment.dataset}: {one_of(own)}"
            return
        if config.latents[experiment.latents].autoencoder not in config.autoencoders:
            return  # reported for the latents
    _, size = model_space(config, experiment)
    if size is not None:  # otherwise reported for the dataset
        network = list(experiment.network.problems(f"{key}.network", size))
        yield from network
        if network:
            return  # its taps may be unknown
    yield from experiment.process.problems(f"{key}.process")
    if experiment.process.learns_variance and not experiment.network.has_out_channels:
        allowed = f"ddpm, since the network {experiment.network.kind} has no second output for a learned variance"
        yield f"{key}.process.kind", experiment.process.kind, allowed
    yield from experiment.network.process_problems(f"{key}.network", experiment.process)
    yield from samples(key, experiment)
    if experiment.task.classifies and config.datasets[experiment.dataset].facts.classes == 0:
        yield f"{key}.task.kind", experiment.task.kind, f"diffusion, since {experiment.dataset} has no labels"
    yield from experiment.task.problems(f"{key}.task", experiment)
    facts = config.datasets[experiment.dataset].facts
    yield from experiment.task.image_problems(f"{key}.task", facts.channels, facts.size)
    yield from training(f"{key}.train", experiment)
    yield from few_images(f"{key}.train.images", experiment, config)
    yield from sampling(f"{key}.sample.samplers", experiment, config)
    if experiment.probe:
        yield from probes.problems(f"{key}.probe", experiment, experiment.probe, config)
        yield from monitors.problems(f"{key}.probe", experiment, experiment.probe, config)
    if experiment.generation:
        yield from generation.problems(key, experiment, experiment.generation, config)


def samples(key: str, experiment: Experiment) -> Iterator[Problem]:
    """A task and a network of which only one classifies; no sampler where samples can be drawn."""
    network, task = experiment.network, experiment.task
    if network.classifies and not task.classifies:
        yield f"{key}.task.kind", task.kind, f"noise_classification, since the network {network.kind} classifies"
    elif task.classifies and not network.classifies:
        yield f"{key}.network.kind", network.kind, f"wide_resnet, since the task {task.kind} trains a classifier"
    if not task.classifies and not experiment.sample.samplers:
        yield f"{key}.sample.samplers", "none", "at least one sampler"


def sampling(key: str, experiment: Experiment, config: Config) -> Iterator[Problem]:
    """Sampler settings that the process, the network or its weights do not support."""
    channels, _ = model_space(config, experiment)
    for name, sampler in experiment.sample.samplers.items():
        yield from labels(f"{key}.{name}.labels", sampler.labels, experiment, config)
        if sampler.guidance_channels != "all" and sampler.guidance_channels > channels:
            allowed = f"all, or at most {channels}, the channels that the network sees"
            yield f"{key}.{name}.guidance_channels", sampler.guidance_channels, allowed
        hidden, share = experiment.task.hidden(experiment.network)
        if sampler.guidance != 1 and not (conditional(config, experiment) or experiment.task.samples_from_images):
            yield f"{key}.{name}.guidance", sampler.guidance, "1, since this network is not conditioned on labels"
        elif sampler.guidance != 1 and share == 0:
            # Guidance needs the unconditional model, which only hidden conditions train.
            yield f"{key}.{name}.guidance", sampler.guidance, f"1, or a {hidden} above 0"
        yield from sampler.problems(f"{key}.{name}", experiment.process)
        if sampler.clip and experiment.latents is not None:
            yield f"{key}.{name}.clip", True, "false, since latents are not bounded"
        yield from probes.weights(f"{key}.{name}.weights", sampler.weights, experiment)


def labels(key: str, labels: str | list[int], experiment: Experiment, config: Config) -> Iterator[Problem]:
    """Labels of samples that the network has not."""
    if labels == "balanced":
        return
    if not conditional(config, experiment):
        yield key, labels, "balanced, the default, since this network is not conditioned on labels"
        return
    classes = config.datasets[experiment.dataset].facts.classes
    if isinstance(labels, list) and classes is not None and max(labels, default=0) >= classes:
        yield key, max(labels), f"labels from 0 to {classes - 1}, the classes of {experiment.dataset}"


def few_images(key: str, experiment: Experiment, config: Config) -> Iterator[Problem]:
    """More images to be trained on than there are, or some of those that are read as latents."""
    train, rows = experiment.train, config.datasets[experiment.dataset].split_rows
    if train.images is None:
        return
    if experiment.latents is not None:
        yield key, train.images, "null, since latents are trained on whole; limit the dataset by per_class"
    elif rows and train.images > (most := sum(rows[split] for split in train.splits)):
        yield key, train.images, f"at most {most:,}, the images of {' and '.join(train.splits)}; or null, for all"


def training(key: str, experiment: Experiment) -> Iterator[Problem]:
    """Impossible checkpoints, batches and augmentations."""
    train = experiment.train
    if train.checkpoints != sorted(set(train.checkpoints)):
        yield f"{key}.checkpoints", train.checkpoints, "increasing numbers"
    if train.imported and len(train.checkpoints) > 1:
        yield f"{key}.checkpoints", train.checkpoints, "a single checkpoint, since weights are imported"
    if train.imported and train.initial:
        yield f"{key}.initial", train.initial, "null, since weights are imported and not trained"
    steps = [checkpoint_steps(kimg, train.batch) for kimg in (0, *train.checkpoints)]
    if len(set(steps)) < len(steps):  # two checkpoints within one step
        yield f"{key}.batch", train.batch, "a batch small enough that every checkpoint has its own step"
    if len(set(train.splits)) < len(train.splits):
        yield f"{key}.splits", train.splits, "each split once"
    if train.devices > train.batch:
        yield f"{key}.devices", train.devices, f"at most the batch size, {train.batch}"
    if train.devices % train.nodes:
        yield f"{key}.nodes", train.nodes, f"a divisor of train.devices, {train.devices}"
    if "raw" in train.averages:
        yield f"{key}.averages", "raw", "another name (raw stands for the weights themselves)"
    for name in ("flip", "augment"):
        if getattr(train, name) and experiment.latents is not None:
            yield f"{key}.{name}", True, f"only for pixel experiments; use latents.{experiment.latents}.views"
    if train.recompute and not experiment.network.recomputes:
        yield f"{key}.recompute", True, f"false, since the network {experiment.network.kind} keeps its activations"
    if train.compile == "graphs" and train.several_passes(train.batch):
        # Gradients of one pass lie in the graph's memory, which the next pass overwrites.
        yield f"{key}.compile", "graphs", "always, since train.device_batch divides a step into several passes"
    if train.augment and not experiment.network.conditional_on_views:
        allowed = "null, or a network with `augment: true`, or samples will be augmented too"
        yield f"{key}.augment", "an augmentation", allowed
    if train.flip and train.augment:
        yield f"{key}.flip", True, "false, since train.augment includes flips and their labels"
