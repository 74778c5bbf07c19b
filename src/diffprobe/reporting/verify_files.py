"""Single files that are read back: weights and states by their own checksums, results by the hash in their receipt."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from diffprobe.config.models import Config
from diffprobe.evaluation.representation.chunks import MANIFEST
from diffprobe.plan.graph import stages
from diffprobe.plan.layout import Layout
from diffprobe.reporting.damage import Damage, removed
from diffprobe.reporting.repair import remove_output
from diffprobe.runtime import tensors
from diffprobe.runtime.errors import AccessError, UserError
from diffprobe.runtime.manifests import ROOT
from diffprobe.runtime.receipts import OWN_CHECKSUMS, RECEIPT, read_receipt
from diffprobe.runtime.results import AGAIN, read_arrays, read_lines, read_result, refuse_changed
from diffprobe.runtime.tensors import AUTOSAVE, CHECKPOINT, STATE

SUFFIXES = (".safetensors", ".json", ".jsonl", ".npz", ".csv", ".png")


class FileGroup(NamedTuple):
    """Files that one line is about, such as those of a checkpoint."""

    name: str
    files: list[Path]


def check_groups(groups: Iterable[FileGroup], repair: bool) -> Iterator[Damage]:
    """Check the files that are there; print a line for each group with how many are intact, and how many unchecked."""
    for group in groups:
        intact = unchecked = 0
        for path in group.files:
            if not path.is_file():
                continue
            try:
                if check_file(path):
                    intact += 1
                else:
                    unchecked += 1
            except AccessError as error:
                yield Damage([str(error)], accessible=False)
            except UserError as error:
                yield removed(path, [str(error)], partial(remove_output, path) if repair else None)
        counts = f"{intact} files are as they were written" if intact != 1 else "1 file is as it was written"
        old = f"{unchecked} unchecked (written before there were checksums)"
        if intact or unchecked:
            print(f"{group.name}: " + ", ".join(([counts] if intact else []) + ([old] if unchecked else [])))


def check_file(path: Path) -> bool:
    """Whether a file is what was written; False where nothing says what that was. Raises UserError for damage."""
    if path.suffix == ".safetensors":
        return tensors.check(path, kind_of(path))
    if path.name.endswith(RECEIPT):
        receipt = read_receipt(path)
        if receipt is None:
            raise UserError(f"{path}: is damaged; {AGAIN}")
        return "outputs" in receipt
    checked = refuse_changed(path)
    # Without a hash, at least a cut file is noticed.
    readers: dict[str, Callable[[Path], object]] = {
        ".json": lambda path: read_result(path, lambda _: None),
        ".jsonl": read_lines,
        ".npz": read_arrays,
    }
    if not checked and path.suffix in readers:
        readers[path.suffix](path)
    return checked


def kind_of(path: Path) -> tensors.Kind:
    """What a file of tensors should be, by its place: what it says itself may be damaged."""
    if path.name.endswith(".part.safetensors"):
        return AUTOSAVE
    return STATE if path.parent.name in ("states", "scratch") else CHECKPOINT


def groups(config: Config) -> Iterator[FileGroup]:
    """All files of a config that are read back, besides the stores."""
    layout = Layout(config.results)
    runs = [layout.run(name) for name in config.experiments]
    runs += [layout.autoencoder(name) for name in config.autoencoders]
    runs += [layout.extractor(name) for name in config.extractors]
    for name, experiment in config.experiments.items():
        if probe := experiment.probe:
            named = probe.evaluators.items()
            runs += [layout.finetuning(name, key, trial) for key, one in named for trial in one.trials(probe.seeds)]
    for run in map(Path, runs):
        for folder in sorted((run / "checkpoints").glob("*"), key=lambda path: (len(path.name), path.name)):
            yield FileGroup(str(folder), [folder / f"{name}.safetensors" for name in ("ema", "raw")])
        states = sorted((run / "states").glob("[0-9]*.safetensors"))
        yield FileGroup(f"{run}/states", [*states, run / "scratch" / "autosave.safetensors"])
    weights = {path for e in config.experiments.values() for path in (e.train.imported, e.train.initial) if path}
    yield from (FileGroup(path, [Path(path)]) for path in sorted(weights))
    kept = config.metrics.references
    yield FileGroup(kept, sorted(Path(kept).glob("*.npz")))
    results: dict[str, dict[Path, None]] = {}  # an ordered set for each subject
    for stage in stages(config):
        # Plots and tables have no receipts: they are drawn from results, and nothing reads them.
        files = [Path(file) for file in stage.files if stage.receipt and has_hash(Path(file))]
        results.setdefault(stage.subject, {}).update(dict.fromkeys(files))
    yield from (FileGroup(f"results of {subject}", list(files)) for subject, files in results.items())


def has_hash(path: Path) -> bool:
    """Whether a job's output is to be compared with a receipt, and not checked as a part of a store or by itself."""
    return path.name not in (ROOT, MANIFEST) and path.suffix not in OWN_CHECKSUMS
