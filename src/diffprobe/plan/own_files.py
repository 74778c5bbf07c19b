"""The files that a config names: those on this machine, and the remote ones that the rule `fetch` brings."""

from collections.abc import Iterator

from diffprobe.config.models import Config
from diffprobe.config.remote import Remote, is_remote, parse
from diffprobe.plan.layout import Layout
from diffprobe.plan.uses import references, used_extractors, used_latents


def named_files(config: Config) -> Iterator[tuple[str, str]]:
    """Single files that jobs read besides images, with the config key that names each."""
    for name, extractor in used_extractors(config).items():
        for path in extractor.files:
            yield f"extractors.{name}.weights", path
    for dataset in dict.fromkeys(dataset for dataset, _ in references(config)):
        for name, path in config.datasets[dataset].references.items():
            yield f"datasets.{dataset}.references.{name}", path
    layout = Layout(config.results)
    trained = [(name, e.train) for name, e in config.experiments.items() if not e.train.imported]
    # Checkpoints of this config's own experiments may be named too: to be probed in another way, or trained further.
    written = {layout.ema(name, kimg) for name, train in trained for kimg in train.checkpoints}
    for name, experiment in config.experiments.items():
        for key in ("imported", "initial"):
            path = getattr(experiment.train, key)
            if path and path not in written:
                yield f"experiments.{name}.train.{key}", path
    for latents in used_latents(config).values():
        if vgg := config.autoencoders[latents.autoencoder].vgg:
            yield f"autoencoders.{latents.autoencoder}.train.perceptual.vgg", vgg


def remote_files(config: Config) -> dict[str, Remote]:
    """The remote files that jobs read, by the path of each once it is fetched."""
    named = [path for dataset in config.datasets.values() for path in dataset.source.remote_files]
    named += [path for _, path in named_files(config) if is_remote(path)]
    layout = Layout(config.results)
    return {layout.fetched(remote.sha256, remote.name): remote for remote in map(parse, named)}
