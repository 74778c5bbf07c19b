"""Read every byte of stores, weights, states and results and compare it with its checksum.

What is damaged is named, and removed on request.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

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
from diffprobe.plan.layout import Layout
from diffprobe.plan.uses import autoencoder_weights, compared_features, used_latents
from diffprobe.reporting.damage import INTACT, Damage, report
from diffprobe.reporting.repair import remove_features, remove_images, remove_samples
from diffprobe.reporting.verify_files import SUFFIXES, FileGroup, check_groups, groups
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.manifests import ROOT


def verify(config: Config, repair: bool) -> None:
    """Print a line for each store, each checkpoint, and the results of each experiment or dataset.

    Raises UserError with a line for each damage.
    """
    layout = Layout(config.results)
    damage = [of_images(Path(layout.images(name)), repair) for name in config.datasets]
    damage += [of_latents(Path(layout.latents(name)), repair) for name in used_latents(config)]
    damage += [of_samples(Path(manifest), repair) for manifest in sample_stores(config)]
    damage += [of_features(Path(store), repair) for store in feature_stores(config)]
    damage += check_groups(groups(config), repair)
    others = [line for name in used_latents(config) for line in of_another_config(config, name)]
    end(damage, repair, others)


def verify_paths(paths: Sequence[Path], repair: bool) -> None:
    """The same for single stores and files of any kind, wherever they are."""
    end([damage for path in paths for damage in of_path(path, repair)], repair)


def of_path(path: Path, repair: bool) -> list[Damage]:
    """Check one store or file, its kind recognised by its name and files."""
    folder = path.parent if path.name in (ROOT, MANIFEST) else path
    # Samples and latents both have a zarr.json; only samples have an array of images beside it.
    if path.suffix == ".h5" and path.exists():
        return [of_images(path, repair)]
    if (folder / MANIFEST).exists():
        return [of_features(folder, repair)]
    if (folder / ROOT).exists():
        kind = of_samples if (folder / "images").exists() else of_latents
        return [kind(folder / ROOT, repair)]
    if path.suffix in SUFFIXES and path.is_file():
        return list(check_groups([FileGroup(str(path), [path])], repair))
    kinds = (
        f"an images.h5, a folder with {ROOT} (latents or samples) or with {MANIFEST} (features), weights or a result"
    )
    return [Damage([f"{path}: no finished store here, expected {kinds}; run the workflow to make it"])]


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
    problems: list[latents.Problem] = []

    def check() -> list[str]:
        problems.extend(latents.verify(manifest.parent))
        return [problem.text for problem in problems]

    return report(manifest.parent, check, (lambda: latents.repair(manifest.parent, problems)) if repair else None)


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
    except Exception:  # images or weights that cannot be read, which are named as such
        pass
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
        compared = sorted(compared_features(config))
        stores += [layout.subset(name, kimg) for name in compared for kimg in probed[name].train.checkpoints]
    return stores


def of_features(store: Path, repair: bool) -> Damage:
    if not (store / MANIFEST).exists():
        return not_made(store)
    return report(store, lambda: chunks.damage(store), (lambda: remove_features(store)) if repair else None)
