"""A checkpoint for other code: weights alone, or a folder that diffusers loads."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from diffprobe.config.problems import Problem
from diffprobe.interop import diffusers_unet
from diffprobe.interop.names import State, to_theirs
from diffprobe.networks.build import build
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import atomic, refuse_existing
from diffprobe.training import checkpoints


def export(checkpoint: Path, weights: str | None, format: str, out: Path) -> list[str]:
    """Write one set of weights of a checkpoint; returns what there is to see. Raises UserError, a line.

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


def refused(header: dict[str, Any]) -> Iterator[Problem]:
    network = header["network"]
    if network["kind"] not in ("unet", "diffusers"):
        yield "network.kind", network["kind"], "unet or diffusers"
        return
    if network["kind"] == "unet":
        yield from diffusers_unet.refused_network(network, header["shape"])
    yield from diffusers_unet.refused_process(header["process"])


def write_diffusers(header: dict[str, Any], state: State, out: Path) -> list[str]:
    config, tensors = theirs(header, state)
    files = {"config.json": config}
    pipeline = header["process"]["kind"] == "ddpm" and "latents" not in header
    if pipeline:
        files |= {"scheduler_config.json": diffusers_unet.their_scheduler(header["process"])}
        files |= {"model_index.json": diffusers_unet.PIPELINE}
    with atomic(out) as partial:
        partial.mkdir()
        save_file(tensors, partial / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
        for name, content in files.items():
            (partial / name).write_text(json.dumps(content, indent=2) + "\n")
    kind = header["process"]["kind"]
    loaders = "DDPMPipeline or DDIMPipeline" if pipeline else f"UNet2DModel (there is no pipeline for {kind} here)"
    return [f"{out}: load it by diffusers' {loaders}.from_pretrained"]


def theirs(header: dict[str, Any], state: State) -> tuple[dict[str, Any], State]:
    """Config and tensors of a UNet2DModel."""
    network = header["network"]
    if network["kind"] == "diffusers":
        return network["config"], {name.removeprefix("unet."): value for name, value in state.items()}
    names = diffusers_unet.unet_names(build(network, **header["shape"]))
    return diffusers_unet.their_config(network, tuple(header["image"])), to_theirs(state, names)
