"""Who uses what: which datasets, stores, extractors and experiments the jobs of a config need, and for what."""

from diffprobe.config.evaluators.finetune import FineTune
from diffprobe.config.extractors import Extractor
from diffprobe.config.inferred import transferred_latents
from diffprobe.config.latents import Latents
from diffprobe.config.models import Config, Experiment
from diffprobe.plan.layout import Layout


def autoencoder_weights(config: Config, name: str) -> str:
    """The weights file of an autoencoder."""
    return Layout(config.results).autoencoder_weights(name, config.autoencoders[name].last_checkpoint)


def finetune_of(experiment: Experiment, evaluator: str) -> FineTune:
    """The settings of one of its evaluators, which is fine-tuning."""
    settings = experiment.probe.evaluators[evaluator] if experiment.probe else None
    assert isinstance(settings, FineTune)
    return settings


def measured_at_once(experiment: Experiment) -> bool:
    """Whether samples are measured while they are drawn, since not all of them are kept."""
    return measured(experiment) and experiment.sample.keep_samples != "all"


def measured(experiment: Experiment) -> bool:
    """Whether any metric of generation is computed."""
    return experiment.generation is not None and bool(experiment.generation.extractors)


def parted(config: Config) -> bool:
    """Whether any experiment has both a metric of generation and a probe, which one figure shows."""
    return any(experiment.probe and measured(experiment) for experiment in config.experiments.values())


def representative_samples(config: Config) -> list[tuple[str, int, str]]:
    """(experiment, checkpoint, sampler) of the samples that stand for each experiment: its last, by its first."""
    return [
        (name, experiment.train.checkpoints[-1], next(iter(experiment.sample.samplers)))
        for name, experiment in config.experiments.items()
        if experiment.sample.samplers
    ]


def probed_datasets(config: Config) -> set[str]:
    return {experiment.dataset for experiment in config.experiments.values() if experiment.probe}


def classifiers_by_level(config: Config, dataset: str) -> list[tuple[str, str]]:
    """Experiments on a dataset and those of their evaluators that are scored at several levels."""
    return [
        (name, evaluator)
        for name, experiment in config.experiments.items()
        for evaluator, settings in (experiment.probe.evaluators.items() if experiment.probe else ())
        if experiment.dataset == dataset and settings.levels is not None
    ]


def probed_on(config: Config, dataset: str) -> list[str]:
    """The experiments on a dataset that have a probe. Several are compared with each other."""
    return [name for name, e in config.experiments.items() if e.dataset == dataset and e.probe]


def compared_datasets(config: Config) -> set[str]:
    """Datasets whose images are searched for copies by samples."""
    return {e.dataset for e in config.experiments.values() if e.generation and e.generation.nearest}


def compared_features(config: Config) -> set[str]:
    """Experiments whose features of a subset are needed: by monitors, or for similarity, perhaps to another's."""
    probes = {name: experiment.probe for name, experiment in config.experiments.items() if experiment.probe}
    own = {name for name, probe in probes.items() if probe.monitors or probe.similarity}
    return own.union(*(probe.similarity.experiments for probe in probes.values() if probe.similarity))


def foreign_features(config: Config) -> list[tuple[str, str, str]]:
    """(dataset, extractor, name of the subset) of the features that monitors compare with."""
    probes = [(e.dataset, e.probe) for e in config.experiments.values() if e.probe]
    return sorted({(dataset, name, probe.subset.name) for dataset, probe in probes for name in probe.encoders})


def used_latents(config: Config) -> dict[str, Latents]:
    """Stores of latents used by any experiment."""
    experiments = config.experiments.values()
    names = {experiment.latents for experiment in experiments}
    names |= {transferred_latents(config, e, dataset) for e in experiments if e.probe for dataset in e.probe.transfer}
    return {name: latents for name, latents in config.latents.items() if name in names}


def references(config: Config) -> list[tuple[str, str]]:
    """(dataset, extractor) pairs that measure the samples of any experiment."""
    pairs = {(e.dataset, x) for e in config.experiments.values() if e.generation for x in e.generation.extractors}
    return sorted(pairs)


def probed_extractors(config: Config) -> list[tuple[str, str]]:
    """(dataset, extractor) pairs whose features are probed as any experiment's own are."""
    return sorted({(e.dataset, x) for e in config.experiments.values() if e.probe for x in e.probe.baselines})


def reconstructing(config: Config, latents: str) -> list[str]:
    """Extractors that measure samples of experiments on a store's dataset."""
    return [name for dataset, name in references(config) if dataset == config.latents[latents].dataset]


def used_extractors(config: Config) -> dict[str, Extractor]:
    """Extractors used by any experiment."""
    pairs = {(dataset, name) for dataset, name, _ in foreign_features(config)}
    names = {name for _, name in (*references(config), *pairs, *probed_extractors(config))}
    return {name: extractor for name, extractor in config.extractors.items() if name in names}
