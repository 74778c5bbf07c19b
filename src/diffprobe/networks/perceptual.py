"""LPIPS with VGG16 (Zhang et al., The unreasonable effectiveness of deep features as a perceptual metric, 2018), by the
package `lpips`, which brings its own small part of the weights; those of VGG16 are torchvision's.
"""

import hashlib
import pickle
import shutil
from http.client import HTTPException
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch
from urllib.request import urlopen

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import atomic, sha256

URL = "https://download.pytorch.org/models/vgg16-397923af.pth"  # ends in the first digits of its hash
KEY = "train.perceptual.vgg"  # where a config names a local file
SMALLEST = 16  # pixels: VGG16 halves four times
PATIENCE = 10.0  # seconds without an answer after which there is no network


class Perceptual(nn.Module):
    """LPIPS of images (B, 1 or 3, H, W) in [-1, 1], H and W at least SMALLEST: (B,), 0 for equal ones.

    Version 0.1, of relu1_2, 2_2, 3_3, 4_3 and 5_3; grey images are repeated to three channels. Gradients reach the
    images alone. `file` is torchvision's VGG16 (.pth or .safetensors), of which `features.*` suffice. UserError if it
    is not that.
    """

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.network = assembled(vgg_features(file)).eval().requires_grad_(False)
        self.sha256 = sha256(file)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.network(coloured(a), coloured(b)).flatten()


def coloured(x: Tensor) -> Tensor:
    return x.expand(-1, 3, -1, -1)  # (B, 1 or 3, H, W) to (B, 3, H, W)


def assembled(features: nn.Sequential) -> nn.Module:
    """The package's LPIPS on these layers of VGG16, (B, 3, H, W) twice to (B, 1, 1, 1).

    It would else make random weights first, or fetch them, those of VGG16's classifier too.
    """
    try:
        import lpips
        from lpips import pretrained_networks
    except ImportError:
        raise UserError(f"{KEY}: the package lpips is missing; pip install lpips") from None
    ours = SimpleNamespace(vgg16=lambda pretrained: SimpleNamespace(features=features))
    with patch.object(pretrained_networks, "tv", ours):
        return lpips.LPIPS(net="vgg", verbose=False)


def vgg_features(file: Path) -> nn.Sequential:
    """VGG16's convolutional layers with the weights of a file. UserError if they are not there."""
    from torchvision.models import vgg16

    with torch.device("meta"):
        layers = vgg16(weights=None, init_weights=False).features
    state, filled = tensors(file), {}
    for name, value in layers.state_dict().items():
        found = state.get(f"features.{name}")
        if not isinstance(found, Tensor) or found.shape != value.shape:
            what = f"features.{name} is {'missing' if found is None else 'of another shape'}"
            raise UserError(f"{file}: not torchvision's VGG16 ({what}); fetch {URL} and name it at {KEY}")
        filled[name] = found.float()
    layers.load_state_dict(filled, assign=True)
    return layers


def tensors(file: Path) -> dict[str, Tensor]:
    """What a file of weights holds, by name; no code of it is run."""
    try:
        if file.suffix == ".safetensors":
            return safetensors.torch.load_file(file)
        return dict(torch.load(file, map_location="cpu", weights_only=True))
    except (OSError, EOFError, RuntimeError, ValueError, TypeError, pickle.PickleError, SafetensorError) as error:
        said = str(error).partition("\n")[0] or type(error).__name__
        raise UserError(f"{KEY}: {file} cannot be read ({said}); fetch {URL} and name it there") from None


# --- where the weights are


def cached() -> Path:
    """Where torchvision keeps its download."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(URL).name


def available(named: Path | None, download: bool) -> tuple[Path | None, str]:
    """The file of VGG16's weights: the one that is named, else torchvision's, with `download` fetched if it is not
    there; else None, and a line that says what is to be done.

    UserError if the named file is not there.
    """
    path = named or cached()
    if path.exists():
        return path, ""
    if named is not None:
        raise UserError(f"{KEY}: {named}: no such file; fetch {URL}, or leave the key out")
    why = fetched(path) if download else "has not been fetched"
    if not why:
        return path, ""
    return None, f"LPIPS is left out: {URL} {why}; put that file at {path}, or name it at {KEY}"


def fetched(path: Path) -> str:
    """Download VGG16's weights to `path`, whole or not at all; why that could not be done, or nothing."""
    try:
        with atomic(path) as partial:
            with urlopen(URL, timeout=PATIENCE) as answer, partial.open("wb") as file:
                shutil.copyfileobj(answer, file, 2**20)
            with partial.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if not found.startswith(path.stem.rpartition("-")[2]):
                raise OSError("what came is not the file that was published")
    except (OSError, HTTPException) as error:  # of the network (urllib's are such too), or of the disk
        return f"cannot be had ({error})"
    return ""
