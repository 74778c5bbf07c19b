"""LPIPS with VGG16 (Zhang et al., The unreasonable effectiveness of deep features as a perceptual metric, 2018).

Its learned channel weights come from the package `lpips`; the weights of VGG16 are torchvision's.
"""

import importlib.util
import shutil
from http.client import HTTPException
from itertools import pairwise
from pathlib import Path
from urllib.request import urlopen

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffprobe.networks.statedicts import fitting, read_tensors
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import atomic, sha256

URL = "https://download.pytorch.org/models/vgg16-397923af.pth"  # ends in the first digits of its hash
KEY = "train.perceptual.vgg"  # where a config names a local file
SMALLEST = 16  # pixels: VGG16 halves four times
PATIENCE = 10.0  # seconds to wait for an answer
SLICES = (4, 9, 16, 23, 30)  # layers of VGG16 after relu1_2, 2_2, 3_3, 4_3 and 5_3


class LPIPS(nn.Module):
    """The distance of images (B, 1 or 3, H, W) in [-1, 1], H and W at least SMALLEST: (B,), 0 for equal ones.

    Version 0.1. Grey images are repeated to three channels. Only the images receive gradients. `file` is torchvision's
    VGG16 (.pth or .safetensors), of which `features.*` suffice. Raises UserError for any other file.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.features = vgg_features(file)
        self.weights = nn.ParameterList(channel_weights())  # (1, C, 1, 1) each
        # ImageNet's mean and deviation, brought from [0, 1] to [-1, 1].
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188])[:, None, None])  # (3, 1, 1)
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450])[:, None, None])  # (3, 1, 1)
        self.eval().requires_grad_(False)
        self.sha256 = sha256(file)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Equation 1 of the paper: differences of unit-length features, squared, weighted by channel, averaged over
        positions, summed over layers.
        """
        layers = zip(self.weights, self.activations(a), self.activations(b), strict=True)
        squares = [(weight, (normalised(x) - normalised(y)) ** 2) for weight, x, y in layers]
        distances = [F.conv2d(square, weight).mean(dim=(2, 3)) for weight, square in squares]  # (B, 1) each
        return sum(distances, start=torch.zeros_like(distances[0])).flatten()  # (B,)

    def activations(self, x: Tensor) -> list[Tensor]:
        """The activations of images (B, 1 or 3, H, W) at the five layers, (B, C, H', W') each."""
        h = (x.expand(-1, 3, -1, -1) - self.shift) / self.scale  # (B, 3, H, W)
        activations = []
        for start, stop in pairwise((0, *SLICES)):
            h = self.features[start:stop](h)  # (B, C, H', W')
            activations.append(h)
        return activations


def normalised(h: Tensor) -> Tensor:
    """Activations (B, C, H, W) at unit length in every position."""
    return h / (torch.sqrt(torch.sum(h**2, dim=1, keepdim=True)) + 1e-10)


def channel_weights() -> list[Tensor]:
    """The learned weights of the five layers, (1, C, 1, 1) each, from the package's own file."""
    package = importlib.util.find_spec("lpips")  # located, not imported: importing it takes a second
    if package is None or package.origin is None:
        raise UserError(f"{KEY}: the package lpips is missing; pip install lpips")
    file = Path(package.origin).with_name("weights") / "v0.1" / "vgg.pth"
    remedy = "install the package lpips again"
    state = read_tensors(file, f"{KEY}:", remedy)
    names = [f"lin{layer}.model.1.weight" for layer in range(len(SLICES))]
    if missing := [name for name in names if name not in state]:
        raise UserError(f"{KEY}: {file}: lacks {missing[0]}; {remedy}")
    return [state[name] for name in names]


def vgg_features(file: Path) -> nn.Sequential:
    """VGG16's convolutional layers with the weights in a file. Raises UserError where one is missing."""
    from torchvision.models import vgg16

    with torch.device("meta"):  # no random weights are made for what the file replaces
        layers = vgg16(weights=None, init_weights=False).features
    state = read_tensors(file, f"{KEY}:", f"fetch {URL} and name it there")
    try:
        filled = {
            name: fitting(state, f"features.{name}", expected.shape) for name, expected in layers.state_dict().items()
        }
    except ValueError as error:
        raise UserError(f"{file}: not torchvision's VGG16 ({error}); fetch {URL} and name it at {KEY}") from None
    layers.load_state_dict(filled, assign=True)
    return layers


# --- where the weights are


def available(configured: Path | None, download: bool) -> tuple[Path | None, str]:
    """The file with VGG16's weights: the configured one, else torchvision's download, fetched now if `download`.

    Where there is none: None, and a line that says how to get it. Raises UserError if the configured file is missing.
    """
    path = configured or Path(torch.hub.get_dir()) / "checkpoints" / Path(URL).name  # where torchvision keeps it
    if path.exists():
        if configured is None and not is_published(path):  # a download that another program cut off
            raise UserError(f"{path}: not the file that {URL} has, by its SHA-256; delete it and run again")
        return path, ""
    if configured is not None:
        raise UserError(f"{KEY}: {configured}: no such file; fetch {URL}, or leave the key out")
    failure = fetch(path) if download else "has not been fetched"
    if not failure:
        return path, ""
    return None, f"LPIPS is left out: {URL} {failure}; put that file at {path}, or name it at {KEY}"


def is_published(file: Path) -> bool:
    return sha256(file).startswith(Path(URL).stem.rpartition("-")[2])


def fetch(path: Path) -> str:
    """Download VGG16's weights to `path`, whole or not at all. Returns the reason for a failure, or nothing."""
    try:
        with atomic(path) as partial:
            with urlopen(URL, timeout=PATIENCE) as answer, partial.open("wb") as file:
                shutil.copyfileobj(answer, file, 2**20)
            if not is_published(partial):
                raise OSError("what came is not the file that was published")
    except (OSError, HTTPException) as error:  # from the network (urllib's errors are OSErrors), or from the disk
        return f"cannot be downloaded ({error})"
    return ""
