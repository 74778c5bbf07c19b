"""A checkpoint for other code: weights alone, or a folder that diffusers loads."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from diffprobe.config.built import parse_network
from diffprobe.config.problems import Problem
from diffprobe.interop import diffusers_unet
from diffprobe.interop.names import State, to_theirs
from diffprobe.networks.build import build
from diffprobe.networks.unet import UNet
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import atomic, refuse_existing
from diffprobe.training import checkpoints

Header = Mapping[str, Any]  # of a checkpoint


def export(checkpoint: Path, weights: str | None, format: str, out: Path) -> list[str]:
    """Write one set of weights of a checkpoint; returns lines that say how to load it. Raises UserError, a line.

    `safetensors`: the tensors under our names, and the checkpoint's header in the metadata (as JSON under `diffprobe`).
    `diffusers`: a folder that UNet2DModel.from_pretrained loads, and for the process ddpm DDPMPipeline, DDIMPipeline.
    An export replaces nothing: `out` must be a new name, or an empty folder for `diffusers`.
    """
    if format == "safetensors" and (out.suffix != ".safetensors" or out.is_dir()):
        raise UserError(f"{out}: allowed: a name that ends in .safetensors, of no folder")
    refuse_existing(out)
    header = checkpoints.header(checkpoint)
    state = checkpoints.state_dict(checkpoint, header["weights"], weights)
    name = weights or header["weights"][0]
    if format == "safetensors":
        checkpoints.write(out, {name: state}, header)
        return [f"{out}: the weights {name} of {checkpoint}"]
    for key, value, allowed in refused(header):
        raise UserError(f"{checkpoint}: {key}: {value} is refused, UNet2DModel has no such thing; allowed: {allowed}")
    return write_diffusers(header, state, out)


def refused(header: Header) -> Iterator[Problem]:
    network, process = header["network"], header["process"]
    if network["kind"] not in ("unet", "diffusers"):
        yield "network.kind", network["kind"], "unet or diffusers"
        return
    if network["kind"] == "unet":
        yield from diffusers_unet.refused_network(network, header["shape"])
    if process["kind"] == "ddpm" and process["time_input"] != "index":
        yield "process.time_input", process["time_input"], "index, as its schedulers count"


def write_diffusers(header: Header, state: State, out: Path) -> list[str]:
    config, tensors = model(header, state)
    process = header["process"]
    files = {"config.json": config}
    pipeline = process["kind"] == "ddpm" and "latents" not in header
    if pipeline:
        files |= {"scheduler_config.json": diffusers_unet.their_scheduler(process)}
        files |= {"model_index.json": diffusers_unet.PIPELINE}
    with atomic(out) as partial:
        partial.mkdir()
        save_file(tensors, partial / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
        for name, content in files.items():
            (partial / name).write_text(json.dumps(content, indent=2) + "\n")
    loaders = "DDPMPipeline or DDIMPipeline"
    if not pipeline:
        loaders = f"UNet2DModel (there is no pipeline for {process['kind']} here)"
    return [f"{out}: load it by diffusers' {loaders}.from_pretrained"]


def model(header: Header, state: State) -> tuple[dict[str, Any], State]:
    """Config and tensors of a UNet2DModel."""
    network = header["network"]
    if network["kind"] == "diffusers":
        return network["config"], {name.removeprefix("unet."): value for name, value in state.items()}
    channels, size, _ = header["image"]
    config = {
        "_class_name": "UNet2DModel",
        "sample_size": size,
        "dropout": network["dropout"],
        **diffusers_unet.their_config(network, channels),
    }
    with torch.device("meta"):  # for its names alone
        unet = build(parse_network(network), **header["shape"])
    assert isinstance(unet, UNet)
    return config, to_theirs(state, diffusers_unet.unet_names(unet))
