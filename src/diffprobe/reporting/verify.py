"""Every byte of the stores read and compared with what was written; what is damaged is named, and removed if asked."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from diffprobe.config.levels import parts
from diffprobe.config.models import Config
from diffprobe.data import images, samples
from diffprobe.evaluation.representation import chunks
from diffprobe.evaluation.representation.chunks import MARK
from diffprobe.latents import verify as latents
from diffprobe.latents.identity import expected
from diffprobe.latents.store import open_store
from diffprobe.plan import job_arguments
from diffprobe.plan.graph import autoencoder_weights, used_latents
from diffprobe.plan.layout import Layout
from diffprobe.reporting.repair import remove_features, remove_images, remove_samples
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.manifests import ROOT


class Damage(NamedTuple):
    """What is wrong with a store, a line each, and whether it was removed for the next run to make it again."""

    lines: list[str]
    removed: bool = False


WHOLE = Damage([])


def verify(config: Config, repair: bool) -> None:
    """Print a line for each store. Raises UserError with a line for each damage."""
    layout = Layout(config.results)
    damage = [of_images(Path(layout.images(name)), repair) for name in config.datasets]
    damage += [of_latents(Path(layout.latents(name)), repair) for name in used_latents(config)]
    damage += [of_samples(Path(mark), repair) for mark in sample_stores(config)]
    damage += [of_features(Path(store), repair) for store in feature_stores(config)]
    others = [line for name in used_latents(config) for line in of_another_config(config, name)]
    end(damage, repair, others)


def verify_paths(paths: Sequence[Path], repair: bool) -> None:
    """The same for single stores, of any kind, wherever they lie."""
    end([of_path(path, repair) for path in paths], repair)


def of_path(path: Path, repair: bool) -> Damage:
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


def end(damage: Iterable[Damage], repair: bool, others: Sequence[str] = ()) -> None:
    """Raise UserError with all that is wrong: damage, and what is whole but not what it should be."""
    damaged = [one for one in damage if one.lines]
    lines = [line for one in damaged for line in one.lines]
    if any(one.removed for one in damaged):
        lines.append("removed; run the workflow again")
    elif damaged and not repair:
        lines.append("to have it made again: diffprobe verify --repair")
    if lines or others:
        raise UserError("\n".join([*lines, *others]))


def report(store: Path, check: Callable[[], list[str]], remove: Callable[[], bool] | None) -> Damage:
    """The damage of one store, removed by `remove` where that is given; what is whole is printed."""
    try:
        lines = check()
    except UserError as error:  # it cannot even be opened
        lines = [str(error)]
    if not lines:
        print(f"{store}: every byte is as it was written")
        return WHOLE
    lines = [line if line.startswith(str(store)) else f"{store}: {line}" for line in lines]
    if remove is None:
        return Damage(lines)
    try:
        removed = remove()
    except UserError as error:
        return Damage([*lines, str(error)])
    left = f"{store}: is left as it is, since nothing proves it a store of diffprobe; look at it and remove it yourself"
    return Damage(lines, True) if removed else Damage([*lines, left])


def not_made(store: Path) -> Damage:
    print(f"{store}: not made yet")
    return WHOLE


def of_images(store: Path, repair: bool) -> Damage:
    if not store.exists():
        return not_made(store)
    return report(store, lambda: images.check(store), (lambda: remove_images(store)) if repair else None)


def of_latents(mark: Path, repair: bool) -> Damage:
    if not mark.exists():
        return not_made(mark.parent)
    problems = latents.verify(mark.parent)
    lines = [problem.text for problem in problems]
    return report(mark.parent, lambda: lines, (lambda: latents.repair(mark.parent, problems)) if repair else None)


def of_another_config(config: Config, name: str) -> list[str]:
    """A store that is whole, but not what the config asks for (or what its images and autoencoder are now)."""
    layout = Layout(config.results)
    mark, images = Path(layout.latents(name)), Path(layout.images(config.latents[name].dataset))
    weights = Path(autoencoder_weights(config, config.latents[name].autoencoder))
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


def of_samples(mark: Path, repair: bool) -> Damage:
    """Without its mark a store is filled again where it is damaged."""
    store = mark.parent
    if not mark.exists():
        return not_made(store)
    return report(store, lambda: samples.check(store), (lambda: remove_samples(store)) if repair else None)


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


def of_features(store: Path, repair: bool) -> Damage:
    if not (store / MARK).exists():
        return not_made(store)
    return report(store, lambda: chunks.damage(store), (lambda: remove_features(store)) if repair else None)
