"""A checkpoint for other code: weights alone, or a folder that diffusers loads."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from diffprobe.config.built import BuiltNetwork, parse_network
from diffprobe.config.networks.diffusers import StoredDiffusers
from diffprobe.config.networks.diffusers_dit import StoredDiffusersDiT
from diffprobe.config.networks.dit import DiT as DiTSettings
from diffprobe.config.networks.unet import UNet as UNetSettings
from diffprobe.config.problems import Problem, one_of
from diffprobe.config.processes import Process
from diffprobe.config.processes.ddpm import DDPM
from diffprobe.interop import diffusers_dit, diffusers_unet, dit_pipeline
from diffprobe.interop.names import State, to_theirs
from diffprobe.networks.build import build
from diffprobe.networks.dit import DiT
from diffprobe.networks.unet import UNet
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import UMASK, atomic, disk_errors, refuse_existing
from diffprobe.training import checkpoints


def export(checkpoint: Path, weights: str | None, format: str, out: Path, autoencoder: Path | None = None) -> list[str]:
    """Write one set of weights of a checkpoint; returns lines that say how to load it. Raises UserError, a line.

    `safetensors`: the tensors under our names, and the checkpoint's header in the metadata (as JSON under `diffprobe`).
    `diffusers`: a folder that UNet2DModel.from_pretrained loads, and for the process ddpm DDPMPipeline, DDIMPipeline;
    of a transformer of latents, DiTPipeline, for which `autoencoder` is the checkpoint that decodes them.
    An export replaces nothing: `out` must be a new name, or an empty folder for `diffusers`.
    """
    if format == "safetensors" and (out.suffix != ".safetensors" or out.is_dir()):
        raise UserError(f"{out}: allowed: a name that ends in .safetensors, of no folder")
    refuse_existing(out)
    header = checkpoints.header(checkpoint)
    state = checkpoints.state_dict(checkpoint, header["weights"], weights)
    name = weights or header["weights"][0]
    if format == "safetensors":
        state = with_position_table(header, state)
        checkpoints.write(out, {name: state}, header)
        return [f"{out}: the weights {name} of {checkpoint}"]
    network, process = parse_network(header["network"]), Process.member(header["process"])
    if isinstance(network, DiTSettings | StoredDiffusersDiT):
        refuse(checkpoint, "DiTPipeline", dit_pipeline.refused(network, process, header))
        models = {"transformer": dit_pipeline.transformer(network, header, state)}
        models |= {"vae": dit_pipeline.vae(autoencoder, header)}
        return write_pipeline(out, models, process) + dit_pipeline.note(network)
    refuse(checkpoint, "UNet2DModel", refused(network, process, header["shape"]))
    if isinstance(network, UNetSettings):
        config, tensors = converted(network, header["shape"], header["image"][1], state)
    else:
        config, tensors = header["network"]["config"], {name.removeprefix("unet."): x for name, x in state.items()}
    files = {"config.json": config}
    loaders, rest = "UNet2DModel", f" (diffusers has no pipeline for {process.kind})"
    if isinstance(process, DDPM) and "latents" not in header:
        files |= {"scheduler_config.json": diffusers_unet.their_scheduler(process)}
        files |= {"model_index.json": diffusers_unet.PIPELINE}
        loaders, rest = "DDPMPipeline or DDIMPipeline", ""
    with disk_errors(out, again="export again"), atomic(out) as partial:
        write_model(partial, files, tensors)
    return [f"{out}: load it by diffusers' {loaders}.from_pretrained{rest}"]


def refuse(checkpoint: Path, what: str, problems: Iterable[Problem]) -> None:
    """Raise a UserError for the first problem, if there is one."""
    for key, value, allowed in problems:
        raise UserError(f"{checkpoint}: {key}: {value} is refused, {what} has no such thing; allowed: {allowed}")


def with_position_table(header: Mapping[str, Any], state: State) -> State:
    """A DiT's tensors as published checkpoints hold them: with the table of positions, for the grid of its images.

    Other networks' are as they are. diffprobe's own checkpoints leave the table out, and load with it or without.
    """
    network = parse_network(header["network"])
    alone = "x_embedder.proj.weight" in state  # a task's model has names of its own
    if not isinstance(network, DiTSettings) or network.position != "abs" or not alone:
        return state
    with torch.device("meta"):
        dit = build(network, **header["shape"])
    assert isinstance(dit, DiT)
    height, width = (size // network.patch for size in header["image"][1:])
    return state | {"pos_embed": dit.position_table(height, width, torch.device("cpu"))}


def refused(network: BuiltNetwork, process: Process, shape: Mapping[str, int]) -> Iterator[Problem]:
    """What UNet2DModel and its pipelines do not have; keys as in the config of an experiment."""
    if isinstance(network, UNetSettings):
        for key, value, allowed in diffusers_unet.refused_network(network):
            yield f"network.{key}", value, allowed
        for key, label in (("conditional", "classes"), ("augment", "augment")):
            if shape.get(label):
                yield f"network.{key}", True, "false"
    elif not isinstance(network, StoredDiffusers):
        yield "network.kind", network.kind, "unet, dit, diffusers or diffusers_dit"
    if isinstance(process, DDPM) and process.time_input != "index":
        yield "process.time_input", process.time_input, "index, as its schedulers count"
    if isinstance(process, DDPM) and process.beta_schedule not in diffusers_unet.CURVES:
        yield "process.beta_schedule", process.beta_schedule, one_of(diffusers_unet.CURVES)


def converted(network: UNetSettings, shape: Mapping[str, int], size: int, state: State) -> tuple[dict[str, Any], State]:
    """A U-Net of ours, of images of size x size, as config and tensors of a UNet2DModel."""
    with torch.device("meta"):  # for its names alone
        unet = build(network, **shape)
    assert isinstance(unet, UNet)
    config = {
        "_class_name": "UNet2DModel",
        "sample_size": size,
        "dropout": network.dropout,
        **diffusers_unet.their_config(network, shape["image_channels"]),
    }
    return config, to_theirs(state, diffusers_unet.unet_names(unet))


def write_pipeline(out: Path, models: Mapping[str, dit_pipeline.Model], process: Process) -> list[str]:
    """The folder of a DiTPipeline. Returns a line that says how to load it."""
    with disk_errors(out, again="export again"), atomic(out) as partial:
        write_json(partial, {"model_index.json": diffusers_dit.PIPELINE})
        write_json(partial / "scheduler", {"scheduler_config.json": diffusers_dit.their_scheduler(process)})
        for name, model in models.items():
            write_model(partial / name, {"config.json": model.config}, model.tensors)
    return [f"{out}: load it by diffusers' DiTPipeline.from_pretrained"]


def write_model(folder: Path, files: Mapping[str, Any], tensors: State) -> None:
    """JSON files and weights, with the names that diffusers expects."""
    write_json(folder, files)
    weights = folder / "diffusion_pytorch_model.safetensors"
    save_file(tensors, weights, metadata={"format": "pt"})
    weights.chmod(0o666 & ~UMASK)  # it makes files that the group cannot read


def write_json(folder: Path, files: Mapping[str, Any]) -> None:
    """Files of JSON by name, in a folder that is made if it is missing."""
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=2) + "\n")
