"""Checks before any job starts: a job would fail hours later, and Snakemake would report it in many lines."""

from base64 import urlsafe_b64encode
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

from diffprobe.config.inferred import keys_that_need_labels
from diffprobe.config.models import Config
from diffprobe.config.remote import is_remote
from diffprobe.data.fingerprint import is_there
from diffprobe.data.labels import refuse_unlabelled
from diffprobe.plan import job_arguments
from diffprobe.plan.layout import Layout
from diffprobe.plan.own_files import named_files, remote_files
from diffprobe.plan.sources import Sources
from diffprobe.plan.uses import used_extractors, used_latents
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.receipts import read_receipt

BACK = ": put the source back to import it with other settings"
NO_RECEIPT = ", but their receipt is missing or damaged: put the source back for one run"


def refuse(config: Config, sources: Sources) -> None:
    """Raises UserError for the first missing package, file, folder or label."""
    refuse_lost_sources(config, sources)
    refuse_missing_packages(config)
    refuse_missing_files(config)
    refuse_own_weights(config)
    refuse_missing_autoencoders(config, sources)
    refuse_missing_labels(config, sources)


def refuse_lost_sources(config: Config, sources: Sources) -> None:
    """Refuse a path that does not exist where its settings have changed, or where no receipt tells whether they have.

    The job that reads it again would delete what was imported, and then fail.
    """
    layout, gone = Layout(config.results), "no such file or folder, or an empty one; previously imported"
    for name, dataset in config.datasets.items():
        before = sources.images_receipt(name).get("config")
        settled = is_settled(before, layout.images(name), sources.images_argument(name))
        for path in () if settled else dataset.local_paths:
            if not is_there(path):
                raise UserError(
                    f"datasets.{name}.source: {path}: {gone} images are kept{BACK if before else NO_RECEIPT}"
                )
    for name, latents in used_latents(config).items():
        if latents.imported:
            before = sources.latents_receipt(name).get("config")
            settled = is_settled(before, layout.latents(name), sources.latents_argument(name))
            for path in () if settled else filter(None, (latents.imported.path, latents.imported.test)):
                if not is_there(path):
                    remedy = BACK if before else NO_RECEIPT
                    raise UserError(f"latents.{name}.imported: {path}: {gone} latents are kept{remedy}")


def is_settled(before: dict[str, Any] | None, path: str, argument: dict[str, Any]) -> bool:
    """Whether nothing is imported again over what lies at `path`; `before` is the argument that made it."""
    return argument == before if before else not Path(path).exists()


def refuse_missing_packages(config: Config) -> None:
    for name, extractor in used_extractors(config).items():
        if extractor.package and find_spec(extractor.package) is None:
            remedy = f"pip install 'diffprobe[{extractor.package}]'"
            raise UserError(f"extractors.{name}: the package {extractor.package} is not installed: {remedy}")
    for path, remote in remote_files(config).items():
        if not Path(path).exists() and find_spec(f"snakemake_storage_plugin_{remote.plugin}") is None:
            remedy = f"pip install 'diffprobe[{remote.plugin}]'"
            raise UserError(f"{remote.shown}: Snakemake's storage plugin {remote.plugin} is not installed: {remedy}")


def refuse_missing_files(config: Config) -> None:
    for key, path in named_files(config):
        if not is_remote(path) and not Path(path).exists():
            remedy = "; diffprobe import writes it" if key.endswith((".imported", ".initial")) else ""
            raise UserError(f"{key}: {path}: no such file{remedy}")


def refuse_own_weights(config: Config) -> None:
    """Refuse a training that would begin with weights of its own, perhaps by way of others."""
    layout, before = Layout(config.results), {}
    for name, experiment in config.experiments.items():
        for kimg in experiment.train.checkpoints:
            before[layout.ema(name, kimg)] = experiment.train.initial
    for name, experiment in config.experiments.items():
        path, passed = experiment.train.initial, {layout.ema(name, kimg) for kimg in experiment.train.checkpoints}
        while path:
            if path in passed:
                raise UserError(
                    f"experiments.{name}.train.initial: {experiment.train.initial}: made from weights that this run "
                    "would make; name another checkpoint"
                )
            passed.add(path)
            path = before.get(path)


def refuse_missing_autoencoders(config: Config, sources: Sources) -> None:
    """Refuse missing folders of published autoencoders, unless they have been imported already."""
    for name in {latents.autoencoder for latents in used_latents(config).values()}:
        for key, path in config.autoencoders[name].local_sources.items():
            changed = sources.pretrained_config(name) != sources.pretrained_argument(name)
            if not Path(path).exists() and changed:
                raise UserError(f"autoencoders.{name}.{key}: {path}: no such folder, and no name on the hub")


def refuse_missing_labels(config: Config, sources: Sources) -> None:
    """Refuse unlabelled datasets whose images are up to date. For others the `images` job checks."""
    for name in config.datasets:
        recorded = sources.images_receipt(name)
        if recorded.get("config") == sources.images_argument(name):
            refuse_unlabelled(name, recorded["store"]["classes"], keys_that_need_labels(config, name))


def retraining(config: Config) -> Iterator[str]:
    """Yield a warning for what will be trained again, from farther back than a checkpoint or though it is there.

    And for what will not, though its settings have changed.
    """
    yield from lost_states(config)
    yield from other_slices(config)
    yield from forgotten(config)


def forgotten(config: Config) -> Iterator[str]:
    """A checkpoint of other settings, where Snakemake has no record of what made it and so takes it for this one."""
    layout = Layout(config.results)
    for name, experiment in config.experiments.items():
        for kimg in experiment.train.checkpoints if not experiment.train.imported else ():
            if not Path(file := layout.ema(name, kimg)).exists() or is_on_record(file):
                continue
            trained = (read_receipt(layout.checkpoint(layout.run(name), kimg, "receipt.json")) or {}).get("config")
            if trained and trained != job_arguments.pretrain(config, experiment):
                yield (
                    f"{name}: checkpoint {kimg} was trained with other settings, but Snakemake has no record of it "
                    "(.snakemake) and takes it as it is; to train it again: diffprobe run ... -- --forcerun pretrain"
                )
                break


def is_on_record(file: str) -> bool:
    """Whether Snakemake has noted here what made a file."""
    return Path(".snakemake/metadata", urlsafe_b64encode(file.encode()).decode()).exists()


def other_slices(config: Config) -> Iterator[str]:
    """A checkpoint is trained from the one before it in the list, and made again where that is another one."""
    layout = Layout(config.results)
    for name, experiment in config.experiments.items():
        train = experiment.train
        for earlier, kimg in pairwise([0, *train.checkpoints]) if not train.imported else ():
            if not Path(layout.ema(name, kimg)).exists():
                continue
            recorded = read_receipt(layout.checkpoint(layout.run(name), kimg, "receipt.json"))
            before = recorded.get("inputs", {}).get("before", {}).get("path") if recorded else None
            was = int(Path(before).parent.name) if before else 0
            if recorded and was != earlier:
                since = f"from {was}" if was else "from the start"
                yield (
                    f"{name}: checkpoint {kimg} is there, but trained {since}, and will be trained again from "
                    f"{earlier or 'the start'}, as will be those after it; to keep it, list the checkpoints before it "
                    "as they were, or import it (train.imported)"
                )
                break


def lost_states(config: Config) -> Iterator[str]:
    """A checkpoint that must be remade without its predecessor's state."""
    layout = Layout(config.results)
    for name, experiment in config.experiments.items():
        if experiment.train.imported:
            continue
        states = Path(layout.state(layout.run(name), 0)).parent.glob("[0-9]*.safetensors")
        kept, earlier = [int(state.stem) for state in states], 0
        for kimg in experiment.train.checkpoints:
            # Training resumes from the nearest earlier state, not from the checkpoint itself.
            nearest = max((k for k in kept if k <= kimg), default=0)
            remade = not Path(layout.ema(name, kimg)).exists()
            if remade and nearest < earlier and Path(layout.ema(name, earlier)).exists():
                yield (
                    f"{name}: checkpoint {kimg} is retrained from {nearest} thousand images, "
                    "the nearest kept state (state.keep: all keeps every state)"
                )
            earlier = kimg
