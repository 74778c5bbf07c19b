"""Feature extractors for the distances: images in, features out, and the hash of the weights behind them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import sha256

# The last layer that each of pytorch-fid's feature widths needs; a file may end there.
LAST_LAYER = {64: "Conv2d_2b_3x3", 192: "Conv2d_4a_3x3", 768: "Mixed_6e", 2048: "Mixed_7c"}


@dataclass(frozen=True)
class Extractor:
    """`apply`: images uint8 (B, H, W, C) on any device to features float32 (B, dim) on the extractor's."""

    name: str
    dim: int
    weights: str  # sha256 of the weights file
    apply: Callable[[Tensor], Tensor]


def classifier(network: nn.Module, weights_hash: str, device: torch.device | str) -> Extractor:
    """An Extractor of `network.features`, which takes x float (B, C, H, W) in [-1, 1] to (B, network.dim)."""
    network = network.to(device).eval()

    @torch.no_grad()
    def apply(images: Tensor) -> Tensor:
        x = images.to(device).permute(0, 3, 1, 2).float() / 127.5 - 1  # (B, C, H, W)
        return network.features(x).float()  # (B, D)

    return Extractor("classifier", network.dim, weights_hash, apply)


def inception(dims: int, weights: str | None, device: torch.device | str) -> Extractor:
    """The FID Inception-v3 of pytorch-fid at `dims` 64, 192, 768 or 2048, averaged over positions.

    Images of any size are resized to 299 x 299 by pytorch-fid itself; gray ones (C = 1) are repeated to three
    channels. `weights` is a .safetensors or .pth file with pytorch-fid's key names, None its public download.
    The file may leave out layers that `dims` does not need, and its batch norms may be folded into the
    convolutions if they are left there as neutral ones (weight 1, mean 0, variance 1 - eps) with the bias.
    UserError if the file is not to be had, or lacks a layer.
    """
    if dims not in LAST_LAYER:
        raise UserError(f"Inception features have dims {', '.join(map(str, LAST_LAYER))}, not {dims}")
    path = Path(weights) if weights else downloaded()
    network = inception_network(read_weights(path), dims, path).to(device).eval()

    @torch.no_grad()
    def apply(images: Tensor) -> Tensor:
        x = images.to(device).permute(0, 3, 1, 2).float() / 255  # (B, C, H, W)
        if x.shape[1] not in (1, 3):
            raise UserError(f"Inception takes images of 1 or 3 channels, not {x.shape[1]}")
        maps = network(x.expand(-1, 3, -1, -1))[0]  # (B, D, H', W')
        return F.adaptive_avg_pool2d(maps, 1).flatten(1)  # (B, D)

    return Extractor(f"inception_{dims}", dims, sha256(path), apply)


def downloaded() -> Path:
    """pytorch-fid's public weights in torch.hub's cache, downloaded now if they are not there."""
    from pytorch_fid.inception import FID_WEIGHTS_URL

    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(FID_WEIGHTS_URL).name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        expected = path.stem.rsplit("-", 1)[1]  # the name ends in the first digits of the file's hash
        try:
            torch.hub.download_url_to_file(FID_WEIGHTS_URL, str(path), hash_prefix=expected, progress=False)
        except (OSError, RuntimeError) as error:
            raise UserError(
                f"no Inception weights: {FID_WEIGHTS_URL} cannot be had ({one_line(error)}); "
                f"put that file at {path}, or name a local one under `weights:`"
            ) from None
    return path


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors or .pth file by name, on the CPU; a .pth may hold nothing but data."""
    if path.suffix not in (".safetensors", ".pth"):
        raise UserError(f"Inception weights {path}: expected a .safetensors or .pth file")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # each format has its own kinds for a missing, cut or foreign file
        raise UserError(f"Inception weights {path} cannot be read: {one_line(error)}") from None


def inception_network(state: dict[str, Tensor], dims: int, path: Path) -> nn.Module:
    """pytorch-fid's network up to the layer that `dims` needs, filled from `state`; `path` is for errors."""
    import pytorch_fid.inception as fid
    import torchvision

    with torch.device("meta"):
        whole = torchvision.models.inception_v3(num_classes=1008, aux_logits=False, weights=None, init_weights=False)
    shapes = {name: value.shape for name, value in whole.state_dict().items()}  # in the order of computation
    filled = {name: torch.zeros(shape) for name, shape in shapes.items()}
    for name in needed(list(shapes), dims):
        filled[name] = checked(state, name, shapes[name], f"Inception weights {path} for dims {dims}")
    # pytorch-fid builds and downloads in one step: it gets our tensors in place of its download.
    with patch.object(fid, "load_state_dict_from_url", lambda *_, **__: filled):
        return fid.InceptionV3([fid.InceptionV3.BLOCK_INDEX_BY_DIM[dims]])


def needed(names: list[str], dims: int) -> list[str]:
    """Those of the network's `names`, in the order of computation, up to the last layer that `dims` needs."""
    last = max(i for i, name in enumerate(names) if name.startswith(f"{LAST_LAYER[dims]}."))
    return [name for name in names[: last + 1] if not name.endswith("num_batches_tracked")]


def checked(state: dict[str, Tensor], name: str, shape: torch.Size, what: str) -> Tensor:
    """state[name] if it is there and has this shape, else a UserError that begins with `what`."""
    if name not in state:
        raise UserError(f"{what} lack {name}: choose smaller dims or a complete file")
    if state[name].shape != shape:
        raise UserError(f"{what}: {name} has shape {tuple(state[name].shape)}, expected {tuple(shape)}")
    return state[name]


def one_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
