"""Weights published elsewhere: downloaded once, read without running code, checked tensor by tensor."""

from http.client import HTTPException
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import sha256

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
            raise UserError(
                f"no {what}: {url} cannot be had ({first_line(error)}); "
                f"put that file at {path}, or name a local one under `weights:`"
            ) from None
    return path


def read(path: Path, what: str) -> dict[str, Tensor]:
    """The tensors of a .safetensors or .pth file by name, on the CPU; code in a .pth is refused.

    Raises UserError, which begins with `what` and the path.
    """
    if path.suffix not in SUFFIXES:
        raise UserError(f"{what} {path}: expected a .safetensors or .pth file")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # each format has its own exceptions for missing, truncated and foreign files
        raise UserError(f"{what} {path} cannot be read: {first_line(error)}") from None


def checked(state: dict[str, Tensor], name: str, shape: torch.Size, what: str, remedy: str) -> Tensor:
    """state[name]. UserError, from `what` to `remedy`, if it is missing or has another shape."""
    if name not in state:
        raise UserError(f"{what} lack {name}: {remedy}")
    if state[name].shape != shape:
        raise UserError(f"{what}: {name} has shape {tuple(state[name].shape)}, expected {tuple(shape)}; {remedy}")
    return state[name]


def first_line(error: Exception) -> str:
    """The first line of an error's message: those of torch and of urllib go on for paragraphs."""
    return str(error).partition("\n")[0] or type(error).__name__
