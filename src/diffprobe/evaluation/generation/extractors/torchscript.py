"""Any network that is saved as TorchScript, as an extractor.

The file brings its own code, which can read and write files: config and command line ask for `trusted` before it runs.
"""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from diffprobe.config.names import script_name
from diffprobe.evaluation.generation.extractors.base import (
    Extractor,
    Features,
    channels_first,
    coloured,
    exact,
    imagenet_normalised,
)
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import sha256

WHAT = "TorchScript network"
SIDE = 299  # of the image that tells D, where `size` is free: any network for photographs takes it

# What a network may be given, from floats 0 .. 255.
INPUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "uint8": lambda x: x.round().to(torch.uint8),
    "unit": lambda x: x / 255,
    "signed": lambda x: x / 127.5 - 1,
    "imagenet": lambda x: imagenet_normalised(x / 255),
}


def torchscript(config: dict, device: torch.device | str) -> Extractor:
    """The network of a file that torch.jit.save wrote: `network(x, **arguments)` to (B, D), or to (B, D, h, w) which is
    averaged over positions.

    config: `weights`, its path; `input`, what x (B, 3, H, W) is (uint8, `unit` [0, 1], `signed` [-1, 1], or `imagenet`:
    less ImageNet's mean, over its deviation); `size`, to which images are resized before, or None; `arguments` by
    keyword. NVIDIA's inception-2015-12-05.pt, the Inception of the FID in StyleGAN and EDM, wants `input: uint8`, no
    size (it resizes itself) and `return_features: true`. Grey images are repeated to three channels.

    UserError if the file cannot be read, or its network fails or returns something else.
    """
    path, size = Path(config["weights"]), config["size"]
    network = loaded(path, device)

    @exact
    def features(images: Tensor) -> Features:
        x = INPUTS[config["input"]](fitted(images, size, device))
        return Features(pooled(called(network, x, config["arguments"], path), len(x), path))

    side = size or SIDE
    dim = features(torch.full((1, side, side, 3), 128, dtype=torch.uint8)).pooled.shape[1]

    def apply(images: Tensor) -> Features:
        found = features(images)
        if found.pooled.shape[1] != dim:
            raise UserError(
                f"{WHAT} {path} has {dim} features of a {side}x{side} image, but {found.pooled.shape[1]} of these: "
                f"set `size`"
            )
        return found

    return Extractor(script_name(path.stem), dim, sha256(path), preparation(config), apply)


def preparation(config: dict) -> str:
    """For `Extractor.resize`: all that a config says beyond the file, since features follow from it."""
    size = config["size"]
    resize = f"bilinear to {size}x{size}, half-pixel centres, antialiased" if size else "none"
    arguments = "".join(f", {name}={value}" for name, value in sorted(config["arguments"].items()))
    return f"{resize}; input {config['input']}{arguments}"


def loaded(path: Path, device: torch.device | str) -> torch.jit.ScriptModule:
    """The network of a TorchScript file in evaluation mode; UserError if it cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch recommends other formats; these files exist
            return torch.jit.load(path, map_location=device).eval()
    except Exception as error:  # each way to be missing or foreign has its own kind
        raise UserError(
            f"{WHAT} {path} cannot be read: {last_line(error)}; name a file of torch.jit.save at `weights:`"
        ) from None


def fitted(images: Tensor, size: int | None, device: torch.device | str) -> Tensor:
    """Images uint8 (B, H, W, 1 or 3) as floats 0 .. 255, (B, 3, size, size), or (B, 3, H, W) where `size` is None."""
    x = coloured(channels_first(images, device), WHAT)
    if size:
        x = F.interpolate(x, (size, size), mode="bilinear", antialias=True)
    return x.contiguous()  # a network from elsewhere may use `view`, which `channels_last` would break


def called(network: torch.jit.ScriptModule, x: Tensor, arguments: dict[str, bool | int | float], path: Path) -> Any:
    """network(x, **arguments), or a UserError with the last line of what went wrong."""
    try:
        # Unoptimised: else the first calls, which are profiled, may round otherwise than those after.
        with torch.jit.optimized_execution(False):
            return network(x, **arguments)
    except Exception as error:  # the network is not ours: anything may be raised
        raise UserError(
            f"{WHAT} {path} fails on {x.dtype} {tuple(x.shape)}: {last_line(error)}; "
            f"set `input`, `size` and `arguments` to what it takes"
        ) from None


def pooled(output: Any, count: int, path: Path) -> Tensor:
    """What a network returned for `count` images as (B, D), float32; UserError if it is no such tensor."""
    if not isinstance(output, Tensor) or output.ndim not in (2, 4) or len(output) != count:
        found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise UserError(
            f"{WHAT} {path} returns {found} for {count} images, expected a tensor (B, D) or (B, D, h, w): "
            f"set `arguments` or save one that does"
        )
    return output.float().mean((2, 3)) if output.ndim == 4 else output.float()


def last_line(error: Exception) -> str:
    """TorchScript says what went wrong below its traceback."""
    return str(error).rstrip().rpartition("\n")[2] or type(error).__name__
