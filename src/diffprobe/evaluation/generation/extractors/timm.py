"""Any network of the timm library as an extractor: what a network for photographs sees in these images."""

from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffprobe.config.extractors.timm import TimmExtractor
from diffprobe.evaluation.generation.extractors.base import (
    FeatureExtractor,
    Features,
    channels_first,
    exact,
    to_rgb,
)
from diffprobe.evaluation.generation.extractors.weights import downloaded, read
from diffprobe.networks.statedicts import first_line
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import sha256

WHAT = "timm weights"
HUB_FILE = "model.safetensors"
SECONDS = 10  # that the hub may take to answer at all


class Preparation(NamedTuple):
    """How images in [0, 1] become the input of a network."""

    size: int
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, x: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] to (B, 3, size, size)."""
        if x.shape[2:] != (self.size, self.size):
            x = F.interpolate(x, (self.size, self.size), mode=self.interpolation, antialias=True).clamp(0, 1)
        mean, std = (x.new_tensor(values)[:, None, None] for values in (self.mean, self.std))
        return (x - mean) / std

    def __str__(self) -> str:
        colours = f"mean {list(self.mean)}, deviation {list(self.std)}"
        return f"{self.interpolation} to {self.size}x{self.size}, antialiased, clamped to [0, 1], {colours}"


def make(settings: TimmExtractor, weights: Path | None, device: torch.device) -> FeatureExtractor:
    """The pooled features of a timm network before its classifier.

    Images of any size; grey ones are repeated to three channels. They are resized as a whole, in floats that are not
    rounded to 8 bits afterwards. UserError without the package, for a model that it does not have, and for weights that
    cannot be had, have another SHA-256 or are not those of the model, every tensor of it.
    """
    timm = package()
    published = published_settings(timm, settings.model)
    path = weights or (published_weights(published, settings.model) if settings.weights == "hub" else settings.weights)
    path, prepare = Path(path), preparation(settings, published)
    content = sha256_of(path, settings.sha256)
    network = load_network(timm, settings.model, path, published, prepare.size).to(device)

    @exact
    def apply(images: Tensor) -> Features:
        x = prepare(to_rgb(channels_first(images, device) / 255, f"timm's {settings.model}"))
        return Features(network(x).float())  # (B, D)

    dim = features_of_one(apply, settings.model, prepare.size)
    return FeatureExtractor(settings.printed_name, dim, content, str(prepare), apply)


def package() -> Any:
    """The library, which is an extra: only this kind needs it."""
    try:
        return import_module("timm")
    except ImportError:
        raise UserError(
            "extractors of kind timm need the package timm, which is not installed: pip install 'diffprobe[timm]'"
        ) from None


def published_settings(timm: Any, model: str) -> Any:
    """timm's `PretrainedCfg` of a model. UserError for a name that it does not have."""
    try:
        published = timm.get_pretrained_cfg(model)
    except RuntimeError:  # of a tag
        published = None
    if published is None:
        raise UserError(f"timm {timm.__version__} has no model {model}: see timm.list_models(pretrained=True)")
    if published.input_size[0] != 3:
        raise UserError(f"timm's {model} takes images of {published.input_size[0]} channels, not 3: name another model")
    return published


def preparation(settings: TimmExtractor, published: Any) -> Preparation:
    """As set, or else as the model was trained; timm's `random` interpolation is bilinear or bicubic by chance."""
    theirs = published.interpolation if published.interpolation in ("bilinear", "bicubic") else "bicubic"
    return Preparation(
        settings.size or published.input_size[1],
        settings.interpolation or theirs,
        tuple(settings.mean or published.mean),
        tuple(settings.std or published.std),
    )


def published_weights(published: Any, model: str) -> Path:
    """The file that timm publishes, from the hub or its cache. UserError where it cannot be had."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.utils import disable_progress_bars

    repository, name = published.hf_hub_id, published.hf_hub_filename or HUB_FILE
    if not repository and published.url:
        return downloaded(published.url, WHAT)
    if not repository:
        raise UserError(f"timm publishes no weights of {model}: name a file at `weights:`")
    if isinstance(cached := try_to_load_from_cache(repository, name), str):
        return Path(cached)
    disable_progress_bars()
    try:
        # First with a short timeout: the client's download retries an unreachable hub for half a minute.
        get_hf_file_metadata(hf_hub_url(repository, name), timeout=SECONDS)
        return Path(hf_hub_download(repository, name))
    except Exception as error:  # no network, no such file, no access: each has its own exception
        raise UserError(
            f"no {WHAT}: {name} of {repository} could not be downloaded from the hub ({first_line(error)}); "
            "name a local file at `weights:`"
        ) from None


def sha256_of(path: Path, expected: str | None) -> str:
    """The file's SHA-256. UserError where it is not the one expected, or the file cannot be read."""
    try:
        content = sha256(path)
    except OSError as error:
        raise UserError(f"{WHAT} {path}: cannot be read ({error.strerror}); name a file at `weights:`") from None
    if expected not in (None, content):
        raise UserError(f"{WHAT} {path}: its SHA-256 is {content}, not {expected}; name the right file at `weights:`")
    return content


def load_network(timm: Any, model: str, path: Path, published: Any, size: int) -> nn.Module:
    """The network without its classifier, in evaluation mode. UserError where `path` is not the whole of its weights.

    The classifier is taken off afterwards: timm fills a network without one from whatever tensors it finds in a file,
    and leaves the others random.
    """
    # Networks whose positions are learned for one size bring those to another by timm's own interpolation.
    sized = {"img_size": size} if published.fixed_input_size and size != published.input_size[1] else {}
    state = read(path, WHAT)
    try:
        network = timm.create_model(model, pretrained=True, pretrained_cfg_overlay={"state_dict": state}, **sized)
        network.reset_classifier(0)
    except Exception as error:  # of a state dict that does not fit, RuntimeError or KeyError, by the model
        raise UserError(
            f"{WHAT} {path} do not fit {model} of {size}x{size} pixels: {mismatch(error)}; name a complete file with "
            "timm's names of its tensors at `weights:`"
        ) from None
    return network.eval().requires_grad_(False)


def mismatch(error: Exception) -> str:
    """The first difference of a state dict: torch lists all of them, a line for each kind, below a heading."""
    lines = [line.strip() for line in str(error).splitlines()] or [type(error).__name__]
    text = lines[1] if len(lines) > 1 else lines[0]
    return text if len(text) <= 120 else f"{text[:117]}..."


def features_of_one(apply: Any, model: str, size: int) -> int:
    """The number of features. UserError for a network whose features are no vector, or that refuses the size."""
    try:
        features = apply(torch.full((1, size, size, 3), 128, dtype=torch.uint8)).pooled
    except Exception as error:
        raise UserError(f"timm's {model} fails on {size}x{size} pixels: {first_line(error)}; set `size`") from None
    if features.ndim != 2:
        raise UserError(f"timm's {model} gives {tuple(features.shape)} for an image, not a vector: name another model")
    return features.shape[1]
