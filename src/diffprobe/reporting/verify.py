"""Read every byte of the stores and compare it with its checksum; name what is damaged, and remove it on request."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from diffprobe.config.levels import parts
from diffprobe.config.models import Config
from diffprobe.data import images, samples
from diffprobe.evaluation.representation import chunks
from diffprobe.evaluation.representation.chunks import MANIFEST
from diffprobe.latents import verify as latents
from diffprobe.latents.identity import expected_identity
from diffprobe.latents.settings import source_settings
from diffprobe.latents.store import open_store
from diffprobe.plan import job_arguments
from diffprobe.plan.graph import autoencoder_weights, used_latents
from diffprobe.plan.layout import Layout
from diffprobe.reporting.repair import remove_features, remove_images, remove_samples
from diffprobe.runtime.errors import AccessError, UserError
from diffprobe.runtime.manifests import ROOT


class Damage(NamedTuple):
    """What is wrong with a store, one line each, and whether that was removed for the next run to make again."""

    lines: list[str]
    removed: bool = False
    accessible: bool = True  # False where it cannot be read and yet may be whole


INTACT = Damage([])


def verify(config: Config, repair: bool) -> None:
    """Print a line for each store. Raises UserError with a line for each damage."""
    layout = Layout(config.results)
    damage = [of_images(Path(layout.images(name)), repair) for name in config.datasets]
    damage += [of_latents(Path(layout.latents(name)), repair) for name in used_latents(config)]
    damage += [of_samples(Path(manifest), repair) for manifest in sample_stores(config)]
    damage += [of_features(Path(store), repair) for store in feature_stores(config)]
    others = [line for name in used_latents(config) for line in of_another_config(config, name)]
    end(damage, repair, others)


def verify_paths(paths: Sequence[Path], repair: bool) -> None:
    """The same for single stores of any kind, wherever they are."""
    end([of_path(path, repair) for path in paths], repair)


def of_path(path: Path, repair: bool) -> Damage:
    """Check one store, its kind recognised by its files. Raises UserError where there is no finished store."""
    folder = path.parent if path.name in (ROOT, MANIFEST) else path
    # Samples and latents both have a zarr.json; only samples have an array of images beside it.
    if path.suffix == ".h5" and path.exists():
        return of_images(path, repair)
    if (folder / MANIFEST).exists():
        return of_features(folder, repair)
    if (folder / ROOT).exists():
        kind = of_samples if (folder / "images").exists() else of_latents
        return kind(folder / ROOT, repair)
    kinds = f"an images.h5, a folder with {ROOT} (latents or samples) or with {MANIFEST} (features)"
    raise UserError(f"{path}: no finished store here, expected {kinds}; run the workflow to make it")


def end(damage: Iterable[Damage], repair: bool, others: Sequence[str] = ()) -> None:
    """Raise UserError with all damage, and with `others`: stores that are intact but not those of the config."""
    # All stores are checked before the first damage is reported: a pass over all bytes may take hours.
    damaged = [one for one in damage if one.lines]
    lines = [line for one in damaged for line in one.lines]
    if any(one.removed for one in damaged):
        lines.append("removed; run the workflow again")
    elif any(one.accessible for one in damaged) and not repair:
        lines.append("to make it again: diffprobe verify --repair, then run the workflow")
    if lines or others:
        raise UserError("\n".join([*lines, *others]))


def report(store: Path, check: Callable[[], list[str]], remove: Callable[[], bool] | None) -> Damage:
    """The damage that `check` reports of one store, removed by `remove` if there is one; intact stores are printed."""
    try:
        lines = check()
    except AccessError as error:
        return Damage([str(error)], accessible=False)
    except UserError as error:  # it cannot even be opened
        lines = [str(error)]
    if not lines:
        print(f"{store}: every byte is as it was written")
        return INTACT
    lines = [line if line.startswith(str(store)) else f"{store}: {line}" for line in lines]
    if remove is None:
        return Damage(lines)
    try:
        removed = remove()
    except UserError as error:
        return Damage([*lines, str(error)])
    left = f"{store}: is left as it is, since nothing proves that diffprobe wrote it; check it and remove it yourself"
    return Damage(lines, True) if removed else Damage([*lines, left])


def not_made(store: Path) -> Damage:
    print(f"{store}: not made yet")
    return INTACT


def of_images(store: Path, repair: bool) -> Damage:
    if not store.exists():
        return not_made(store)
    return report(store, lambda: images.check(store), (lambda: remove_images(store)) if repair else None)


def of_latents(manifest: Path, repair: bool) -> Damage:
    if not manifest.exists():
        return not_made(manifest.parent)
    problems = latents.verify(manifest.parent)
    lines = [problem.text for problem in problems]
    return report(
        manifest.parent, lambda: lines, (lambda: latents.repair(manifest.parent, problems)) if repair else None
    )


def of_another_config(config: Config, name: str) -> list[str]:
    """An intact store that is not the one of the config, or not of the present images and autoencoder."""
    layout = Layout(config.results)
    manifest, images = Path(layout.latents(name)), Path(layout.images(config.latents[name].dataset))
    weights = Path(autoencoder_weights(config, config.latents[name].autoencoder))
    if not (manifest.exists() and images.exists() and weights.exists()):
        return []
    try:
        settings = source_settings(job_arguments.latents(config, name))
        open_store(manifest.parent, expected_identity(settings, images, weights))
    except UserError as error:
        return [str(error)]
    return []


def sample_stores(config: Config) -> list[str]:
    """The manifests of all stores of generated images."""
    layout = Layout(config.results)
    return [
        layout.samples(name, kimg, sampler)
        for name, experiment in config.experiments.items()
        for kimg in experiment.train.checkpoints
        for sampler in experiment.sample.samplers
    ]


def of_samples(manifest: Path, repair: bool) -> Damage:
    store = manifest.parent
    if not manifest.exists():
        return not_made(store)
    return report(store, lambda: samples.check(store), (lambda: remove_samples(store)) if repair else None)


def feature_stores(config: Config) -> list[str]:
    """Folders of features: of the choices and, where they are kept, of all checkpoints."""
    layout = Layout(config.results)
    probed = {name: experiment for name, experiment in config.experiments.items() if experiment.probe}
    stores = [str(Path(layout.chosen(name)).parent) for name in probed]
    if config.state.keep_features == "all":  # else Snakemake has removed them, as temporary outputs
        stores += [
            layout.features(name, kimg, part)
            for name, experiment in probed.items()
            for kimg in experiment.train.checkpoints
            for part in range(parts(experiment))
        ]
    return stores


def of_features(store: Path, repair: bool) -> Damage:
    if not (store / MANIFEST).exists():
        return not_made(store)
    return report(store, lambda: chunks.damage(store), (lambda: remove_features(store)) if repair else None)
