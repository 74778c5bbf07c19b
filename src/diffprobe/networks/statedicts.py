"""Weights of other programs: read as data alone, so that none can run code, and parsed once into tensors by name."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from diffprobe.runtime.errors import UserError, access_error, one_line

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)  # quantised weights need their scales


def read_tensors(path: Path, what: str, remedy: str) -> dict[str, Tensor]:
    """The tensors of a .safetensors file or of a pickle of PyTorch's, on the CPU; a pickle's other values are left out.

    Raises UserError, from `what` and the path to the remedy, for a damaged file and for anything but tensors by name.
    """
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(content, Mapping) or not all(isinstance(name, str) for name in content):
            raise ValueError(f"it holds a {type(content).__name__}, expected tensors by name")
        refuse_wrong_checksum(path)
    except Exception as error:  # each format has its own exceptions for missing, truncated and foreign files
        raise access_error(f"{what} {path}", error) or UserError(
            f"{what} {path}: cannot be read ({first_line(error)}); {remedy}"
        ) from None
    return {name: value for name, value in content.items() if isinstance(value, Tensor)}


def refuse_wrong_checksum(path: Path) -> None:
    """Raise ValueError where a zip's member does not have its checksum: PyTorch's own reader ignores them."""
    if zipfile.is_zipfile(path):  # files before PyTorch 1.6 are none, and have no checksums
        with zipfile.ZipFile(path) as archive:
            if member := archive.testzip():
                raise ValueError(f"the checksum of {member} is wrong")


def fitting(state: Mapping[str, Tensor], name: str, shape: torch.Size) -> Tensor:
    """A tensor of a state dict, float32. Raises ValueError where it is missing, or cannot be a weight of this shape."""
    if name not in state:
        raise ValueError(f"{name} is missing")
    value = state[name]
    if value.shape != shape:
        raise ValueError(f"{name} has shape {tuple(value.shape)}, expected {tuple(shape)}")
    if value.dtype not in FLOATS:
        dtype = str(value.dtype).removeprefix("torch.")
        raise ValueError(f"{name} is {dtype}, expected float16, bfloat16, float32 or float64")
    if value.layout != torch.strided:
        raise ValueError(f"{name} is sparse")
    if not (value := value.float()).isfinite().all():  # float64 may overflow here
        raise ValueError(f"{name} holds NaN or infinite values, as weights do after a run has diverged")
    return value


def first_line(error: Exception) -> str:
    """The first line of an error's message: those of torch and of urllib go on for paragraphs."""
    return str(error).partition("\n")[0] or one_line(error)
