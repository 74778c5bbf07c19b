"""Weights published elsewhere: downloaded once, read without running code, checked tensor by tensor."""

from http.client import HTTPException
from pathlib import Path

import torch
from torch import Tensor

from diffprobe.networks.statedicts import first_line, fitting, read_tensors
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import FULL, sha256

SUFFIXES = (".safetensors", ".pth")


def downloaded(url: str, what: str, hash_prefix: str | None = None) -> Path:
    """The file of a public address in torch.hub's cache, downloaded now unless it is there.

    UserError if it cannot be downloaded, or is not the file whose SHA-256 begins with the prefix, downloaded or cached;
    the line names `what` and how to provide the file.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
    if path.exists():
        # A download that another program cut off, or another file of that name.
        if hash_prefix and not sha256(path).startswith(hash_prefix):
            raise UserError(f"{what} {path}: not the file that {url} has, by its SHA-256; delete it and run again")
    else:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), hash_prefix=hash_prefix, progress=False)
        except (OSError, RuntimeError, HTTPException) as error:
            if isinstance(error, OSError) and error.errno in FULL:
                raise UserError(f"{path}: {what} cannot be kept ({error.strerror}); free some space") from None
            raise UserError(
                f"no {what}: {url} could not be downloaded ({first_line(error)}); "
                f"put that file at {path}, or name a local one under `weights:`"
            ) from None
    return path


def read(path: Path, what: str) -> dict[str, Tensor]:
    """The tensors of a .safetensors or .pth file by name, on the CPU; code in a .pth is refused.

    Raises UserError, which begins with `what` and the path.
    """
    if path.suffix not in SUFFIXES:
        raise UserError(f"{what} {path}: expected a .safetensors or .pth file")
    return read_tensors(path, what, "name a complete file at `weights:`, or download it again")


def checked(state: dict[str, Tensor], name: str, shape: torch.Size, what: str, remedy: str) -> Tensor:
    """state[name] as float32. UserError, from `what` to `remedy`, if it is missing or cannot be that weight."""
    if name not in state:
        raise UserError(f"{what} lack {name}: {remedy}")
    try:
        return fitting(state, name, shape)
    except ValueError as error:
        raise UserError(f"{what}: {error}; {remedy}") from None
