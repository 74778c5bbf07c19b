"""Every byte of the stores read and compared with what was written; what is damaged is named, and removed if asked."""

from collections.abc import Sequence
from pathlib import Path

from diffprobe.config.levels import parts
from diffprobe.config.models import Config
from diffprobe.data import images, samples
from diffprobe.evaluation.representation.chunks import MARK, damage
from diffprobe.latents import verify as latents
from diffprobe.latents.identity import expected
from diffprobe.latents.store import open_store
from diffprobe.plan import job_arguments
from diffprobe.plan.graph import used_latents, weights_of
from diffprobe.plan.layout import Layout
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import remove
from diffprobe.runtime.manifests import ROOT


def verify(config: Config, repair: bool) -> None:
    """Print a line for each store. Raises UserError with a line for each damage."""
    layout = Layout(config.results)
    damage = [line for name in config.datasets for line in of_images(Path(layout.images(name)), repair)]
    for name in used_latents(config):
        damage += of_latents(Path(layout.latents(name)), repair)
    damage += [line for mark in sample_stores(config) for line in of_samples(Path(mark), repair)]
    damage += [line for store in feature_stores(config) for line in of_features(Path(store), repair)]
    others = [line for name in used_latents(config) for line in of_another_config(config, name)]
    end(damage, repair, others)


def verify_paths(paths: Sequence[Path], repair: bool) -> None:
    """The same for single stores, of any kind, wherever they lie."""
    end([line for path in paths for line in of_path(path, repair)], repair)


def of_path(path: Path, repair: bool) -> list[str]:
    """A store by what is there. Raises UserError where no finished store of ours is."""
    folder = path.parent if path.name in (ROOT, MARK) else path
    if path.suffix == ".h5" and path.exists():
        return of_images(path, repair)
    if (folder / MARK).exists():
        return of_features(folder, repair)
    if (folder / ROOT).exists():
        kind = of_samples if (folder / "images").exists() else of_latents
        return kind(folder / ROOT, repair)
    kinds = f"an images.h5, a folder with {ROOT} (of latents or samples) or with {MARK}"
    raise UserError(f"{path}: no finished store here, which is {kinds}; run the workflow to have it made")


def end(damage: list[str], repair: bool, others: Sequence[str] = ()) -> None:
    """Raise UserError with all that is wrong: damage, and what is whole but not what it should be."""
    if damage:
        remedy = "removed; run the workflow again" if repair else "to have it made again: diffprobe verify --repair"
        damage = [*damage, remedy]
    if damage or others:
        raise UserError("\n".join([*damage, *others]))


def of_images(store: Path, repair: bool) -> list[str]:
    if not store.exists():
        return told(store, None)
    damage = images.check(store)
    with images.open_store(store, sound=False) as file:
        linked = file.links is not None  # then the files may be what is lost, which no new store would bring back
    if damage and repair and not linked:
        store.unlink()
    return told(store, damage)


def of_latents(mark: Path, repair: bool) -> list[str]:
    if not mark.exists():
        return told(mark.parent, None)
    problems = latents.verify(mark.parent)
    if repair:
        latents.repair(mark.parent, problems)
    return told(mark.parent, [problem.text for problem in problems])


def of_another_config(config: Config, name: str) -> list[str]:
    """A store that is whole, but not what the config asks for (or what its images and autoencoder are now)."""
    layout = Layout(config.results)
    mark, images = Path(layout.latents(name)), Path(layout.images(config.latents[name].dataset))
    weights = Path(weights_of(config, config.latents[name].autoencoder))
    if not (mark.exists() and images.exists() and weights.exists()):
        return []
    try:
        open_store(mark.parent, expected(job_arguments.latents(config, name), images, weights))
    except UserError as error:
        return [str(error)]
    return []


def sample_stores(config: Config) -> list[str]:
    """The marks of all stores of generated images."""
    layout = Layout(config.results)
    return [
        layout.samples(name, kimg, sampler)
        for name, experiment in config.experiments.items()
        for kimg in experiment.train.checkpoints
        for sampler in experiment.sample.samplers
    ]


def of_samples(mark: Path, repair: bool) -> list[str]:
    """Without its mark a store is filled again where it is damaged."""
    if not mark.exists():
        return told(mark.parent, None)
    damage = samples.check(mark.parent)
    if damage and repair:
        mark.unlink()
    return told(mark.parent, damage)


def feature_stores(config: Config) -> list[str]:
    """Folders of features: of the choices and, where they are kept, of all checkpoints."""
    layout = Layout(config.results)
    probed = {name: experiment for name, experiment in config.experiments.items() if experiment.probe}
    stores = [str(Path(layout.chosen(name)).parent) for name in probed]
    if config.state.keep_features == "all":
        stores += [
            layout.features(name, kimg, part)
            for name, experiment in probed.items()
            for kimg in experiment.train.checkpoints
            for part in range(parts(experiment))
        ]
    return stores


def of_features(store: Path, repair: bool) -> list[str]:
    if not (store / MARK).exists():
        return told(store, None)
    found = damage(store)
    if found and repair:
        remove(store)
    return told(store, found)


def told(store: Path, damage: list[str] | None) -> list[str]:
    """The lines of a store's damage; what is whole, or not there (None), is printed."""
    if not damage:
        print(f"{store}: {'not made yet' if damage is None else 'every byte is as it was written'}")
        return []
    return [line if line.startswith(str(store)) else f"{store}: {line}" for line in damage]
