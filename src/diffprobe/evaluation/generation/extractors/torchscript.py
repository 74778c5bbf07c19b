"""Any network saved as TorchScript, as an extractor.

The file brings its own code, which can read and write files: config and command line require `trusted` before it runs.
"""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from diffprobe.config.extractors.torchscript import TorchScriptExtractor
from diffprobe.data.pixels import imagenet_normalised
from diffprobe.evaluation.generation.extractors.base import (
    FeatureExtractor,
    Features,
    channels_first,
    exact,
    to_rgb,
)
from diffprobe.networks.statedicts import refuse_wrong_checksum
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import sha256

WHAT = "TorchScript network"
SIDE = 299  # of the image that shows D, where `size` is free: any network for photographs takes it

# What a network may take, from floats 0 .. 255.
INPUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "uint8": lambda x: x.round().to(torch.uint8),
    "unit": lambda x: x / 255,
    "signed": lambda x: x / 127.5 - 1,
    "imagenet": lambda x: imagenet_normalised(x / 255),
}


def make(settings: TorchScriptExtractor, weights: Path | None, device: torch.device) -> FeatureExtractor:
    """The network of a file that torch.jit.save wrote: `network(x, **arguments)` to (B, D), or to maps (B, D, h, w),
    which are averaged over positions.

    `input` says what x (B, 3, H, W) is: uint8, `unit` [0, 1], `signed` [-1, 1], or `imagenet`, normalised by ImageNet's
    mean and standard deviation. Images are resized to `size` before, if it is set; grey ones are repeated to three
    channels. NVIDIA's inception-2015-12-05.pt, the Inception of the FID in StyleGAN and EDM, wants `input: uint8`, no
    size (it resizes itself) and `return_features: true`.

    UserError if the file cannot be read, or its network fails or returns something else.
    """
    if weights is not None:
        settings = settings.model_copy(update={"weights": str(weights)})
    path = Path(settings.weights)
    network = load_network(path, device)

    @exact
    def features(images: Tensor) -> Features:
        x = INPUTS[settings.input](resized(images, settings.size, device))
        return Features(pooled(call(network, x, settings.arguments, path), len(x), path))

    # The width is not stored in the file, so it is that of one image's features.
    side = settings.size or SIDE
    dim = features(torch.full((1, side, side, 3), 128, dtype=torch.uint8)).pooled.shape[1]

    def apply(images: Tensor) -> Features:
        batch = features(images)
        if batch.pooled.shape[1] != dim:
            raise UserError(
                f"{WHAT} {path} has {dim} features of a {side}x{side} image, but {batch.pooled.shape[1]} of these: "
                f"set `size`"
            )
        return batch

    return FeatureExtractor(settings.printed_name, dim, sha256(path), preparation(settings), apply)


def preparation(settings: TorchScriptExtractor) -> str:
    """For `FeatureExtractor.resize`: all that features depend on besides the file."""
    size = settings.size
    resize = f"bilinear to {size}x{size}, half-pixel centres, antialiased" if size else "none"
    arguments = "".join(f", {name}={value}" for name, value in sorted(settings.arguments.items()))
    return f"{resize}; input {settings.input}{arguments}"


def load_network(path: Path, device: torch.device) -> torch.jit.ScriptModule:
    """The network of a TorchScript file in evaluation mode; UserError if it cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch recommends newer formats
            refuse_wrong_checksum(path)  # first: loading runs code
            return torch.jit.load(path, map_location=device).eval()
    except Exception as error:  # missing, damaged and foreign files each raise their own kind
        raise UserError(
            f"{WHAT} {path} cannot be read: {last_line(error)}; name a file of torch.jit.save at `weights:`"
        ) from None


def resized(images: Tensor, size: int | None, device: torch.device) -> Tensor:
    """Images uint8 (B, H, W, 1 or 3) as floats 0 .. 255, (B, 3, size, size), or (B, 3, H, W) where `size` is None."""
    x = to_rgb(channels_first(images, device), WHAT)
    if size:
        x = F.interpolate(x, (size, size), mode="bilinear", antialias=True)
    return x.contiguous()  # a network from elsewhere may use `view`, which `channels_last` would break


def call(network: torch.jit.ScriptModule, x: Tensor, arguments: dict[str, bool | int | float], path: Path) -> Any:
    """network(x, **arguments). UserError with the last line of what went wrong."""
    try:
        # Unoptimised: the first calls, which are profiled, may otherwise round differently from later ones.
        with torch.jit.optimized_execution(False):
            return network(x, **arguments)
    except Exception as error:  # the network is not ours: anything may be raised
        raise UserError(
            f"{WHAT} {path} fails on {x.dtype} {tuple(x.shape)}: {last_line(error)}; "
            f"set `input`, `size` and `arguments` to what it takes"
        ) from None


def pooled(output: Any, count: int, path: Path) -> Tensor:
    """A network's output for `count` images as float32 (B, D), maps averaged. UserError for anything else."""
    if not isinstance(output, Tensor) or output.ndim not in (2, 4) or len(output) != count:
        kind = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise UserError(
            f"{WHAT} {path} returns {kind} for {count} images, expected a tensor (B, D) or (B, D, h, w): "
            f"set `arguments` or save one that does"
        )
    return output.float().mean((2, 3)) if output.ndim == 4 else output.float()


def last_line(error: Exception) -> str:
    """The message of a TorchScript error, which stands below its traceback."""
    return str(error).rstrip().rpartition("\n")[2] or type(error).__name__
