"""A checkpoint as evaluations see it: the network, its process, and the way back from its space to images."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from diffprobe.data.pixels import from_imagenet
from diffprobe.diffusion.build import build_process
from diffprobe.diffusion.levels import CLEAN, Level
from diffprobe.diffusion.process import Process
from diffprobe.evaluation.codes import Codes
from diffprobe.networks.autoencoder import Codec
from diffprobe.runtime.errors import PLUGIN, UserError
from diffprobe.training import checkpoints


class Model(NamedTuple):
    """A diffusion model, ready to draw and to give features."""

    network: nn.Module
    process: Process
    header: dict[str, Any]  # of its checkpoint
    shape: tuple[int, int, int]  # (C, H, W) of the network's input
    image: tuple[int, int, int]  # (H, W, C) of the images that it draws
    classes: int  # number of labels; 0 of an unconditional model
    latents: str | None  # content hash of the latents that it was trained on; None of a model of pixels
    to_images: Callable[[Tensor], Tensor]  # from its space (B, C, H, W) to the dataset's images in about [-1, 1]
    codes: Codes | None = None  # that its samples are decoded from; None: it has no encoder, or samples have no code

    @property
    def taps(self) -> list[str]:
        """The layers that have features, in the order of computation."""
        return list(getattr(self.network, "taps", []))

    @property
    def clean_taps(self) -> list[str]:
        """Those of them that see images as they are (`config.tasks.Task.clean_taps`)."""
        if "task" not in self.header:  # only a network
            return []
        from diffprobe.config.built import TaskModel, parse_model  # here, for the same reason as in `load`

        model = parse_model(self.header)
        return model.task.clean_taps(model.network) if isinstance(model, TaskModel) else []

    def level(self, ratio: float) -> Level:
        """The level whose sigma/alpha is `ratio`, or the nearest of a discrete process; 0 is the image as it is."""
        return self.process.level(ratio) if ratio else CLEAN

    @property
    def encode(self) -> Callable[[Tensor], Tensor]:
        """From images (B, C, H, W) in [-1, 1] to codes (B, z). Raises UserError for a model without an encoder."""
        encode: Callable[[Tensor], Tensor] | None = getattr(self.network, "encode", None)
        if encode is None:
            raise UserError("this model has no encoder; the task soda trains one")
        return encode


def load(path: Path, device: torch.device, autoencoder: Path | None = None, weights: str | None = None) -> Model:
    """The model of a checkpoint, with one of its sets of weights (the first without a name).

    `autoencoder` is the checkpoint that decodes its latents, needed for samples. Raises UserError for unknown weights.
    """
    from diffprobe.config import processes  # here, so that benchmarks draw without pydantic
    from diffprobe.config.built import parse_model

    network, header = checkpoints.load(path, device, parse_model, weights)
    decode = latent_decoder(header["latents"], autoencoder, device) if autoencoder else lambda x: x
    shape, classes = tuple(header["image"]), header["shape"].get("classes", 0)
    latents = header["latents"]["content"] if "latents" in header else None
    channels, height, width = header["latents"]["image"] if "latents" in header else shape
    if processes.Process.kind_of(kind := header["process"].get("kind", "")) is None:
        raise UserError(f"{path}: a process of the kind {kind!r}, which is not loaded; {PLUGIN}")
    process = build_process(processes.Process.member(header["process"]))
    return Model(network, process, header, shape, (height, width, channels), classes, latents, decode)


def load_codec(path: Path, device: torch.device, image: tuple[int, int, int]) -> tuple[Codec, dict[str, Any]]:
    """The codec of an autoencoder's checkpoint for images of shape (C, H, W), and the checkpoint's header."""
    from diffprobe.config.built import parse_model

    network, header = checkpoints.load(path, device, parse_model)
    options = {key: value for key, value in header["codec"].items() if key != "scaling"}  # which is for stores
    return Codec(network, **options, image=image), header


def latent_decoder(latents: Mapping[str, Any], autoencoder: Path, device: torch.device) -> Callable[[Tensor], Tensor]:
    """From latents in model scale, (z - shift) scale, to images in [-1, 1]; `latents` is the part of a checkpoint's
    header.
    """
    codec, _ = load_codec(autoencoder, device, tuple(latents["image"]))
    scale, shift = (torch.tensor(latents[name], device=device)[:, None, None] for name in ("scale", "shift"))

    def images(z: Tensor) -> Tensor:
        decoded = codec.decode(z / scale + shift)
        return codec.postprocess(from_imagenet(decoded) if latents.get("normalise") else decoded)

    # In parts, since the decoder needs far more memory than the diffusion did.
    return lambda z: torch.cat([images(part) for part in z.split(codec.at_once(device))])
