"""Checkpoints of runs on disk, located without torch."""

from pathlib import Path

from diffprobe.config.autoencoders import PRETRAINED
from diffprobe.config.models import Config
from diffprobe.plan.layout import Layout
from diffprobe.runtime.errors import UserError

RAW = "raw"


def checkpoint(run: Path, kimg: int | None, weights: str | None) -> Path:
    """The file with a set of weights: `run` itself, or in a checkpoint's folder, or in a run's folder the checkpoint at
    `kimg` or else the latest. Raises UserError, which names the checkpoints that exist.
    """
    if run.is_file():
        return run
    folder = run if any(run.glob("*.safetensors")) else checkpoint_folder(run, kimg)
    raw = folder / f"{RAW}.safetensors"
    file = raw if weights == RAW and raw.is_file() else folder / "ema.safetensors"
    if not file.is_file():
        raise UserError(f"{file}: no such checkpoint")
    return file


def checkpoint_of(config: Config, name: str, kimg: int | None, weights: str | None) -> Path:
    """The same of an experiment: by default the latest of `train.checkpoints`, since its folder may hold those of an
    earlier config too.
    """
    layout, train = Layout(config.results), config.experiments[name].train
    finished = [each for each in train.checkpoints if Path(layout.ema(name, each)).is_file()]
    if kimg is None and not finished:
        raise UserError(f"{layout.run(name)}: none of the checkpoints of experiments.{name} is there; run it first")
    wanted = finished[-1] if kimg is None else kimg
    return checkpoint(Path(layout.run(name)), wanted, None if train.imported else weights)


def checkpoint_folder(run: Path, kimg: int | None) -> Path:
    """The folder of a checkpoint in a run's folder, or of the only one that a published autoencoder has."""
    finished = [path.parent.name for path in run.glob("checkpoints/*/ema.safetensors")]
    if finished == [PRETRAINED] and kimg is None:
        return run / "checkpoints" / PRETRAINED
    trained = sorted(int(name) for name in finished if name.isdigit())
    if not trained:
        raise UserError(f"{run}: no checkpoint there; expected a run's folder, a checkpoint's, or a .safetensors file")
    if kimg is not None and kimg not in trained:
        raise UserError(f"{run}: no checkpoint at {kimg} kimg; there are {', '.join(map(str, trained))}")
    return run / "checkpoints" / str(trained[-1] if kimg is None else kimg)
