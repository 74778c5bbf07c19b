"""Checkpoints of runs on disk, found without torch."""

from pathlib import Path

from diffprobe.plan.layout import PRETRAINED
from diffprobe.runtime.errors import UserError

RAW = "raw"


def checkpoint(run: Path, kimg: int | None, weights: str | None) -> Path:
    """The file with a set of weights: `run` itself, or that of a checkpoint's folder, or of a run's folder, there of
    `kimg` or else the latest. Raises UserError, which names what there is.
    """
    if run.is_file():
        return run
    folder = run if any(run.glob("*.safetensors")) else of_run(run, kimg)
    raw = folder / f"{RAW}.safetensors"
    found = raw if weights == RAW and raw.is_file() else folder / "ema.safetensors"
    if not found.is_file():
        raise UserError(f"{found}: no such checkpoint")
    return found


def of_run(run: Path, kimg: int | None) -> Path:
    """The folder of a checkpoint in a run's folder, or in that of a published autoencoder, which has but one."""
    finished = [path.parent.name for path in run.glob("checkpoints/*/ema.safetensors")]
    if finished == [PRETRAINED] and kimg is None:
        return run / "checkpoints" / PRETRAINED
    known = sorted(int(name) for name in finished if name.isdigit())
    if not known:
        raise UserError(f"{run}: no checkpoint there; expected a run's folder, a checkpoint's, or a .safetensors file")
    if kimg is not None and kimg not in known:
        raise UserError(f"{run}: no checkpoint at {kimg} kimg; there are {', '.join(map(str, known))}")
    return run / "checkpoints" / str(kimg or known[-1])
