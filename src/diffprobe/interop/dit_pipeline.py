"""A transformer's checkpoint as the folder of diffusers' DiTPipeline: the transformer, its autoencoder, a scheduler.

What the pipeline cannot do is refused: it takes 1000 for no label whatever the classes, unscales latents by one number,
and draws square latents by discrete steps.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diffprobe.config.autoencoders import AutoencoderKL as AutoencoderSettings
from diffprobe.config.built import DiffusersAutoencoder, parse_network
from diffprobe.config.networks.diffusers_dit import StoredDiffusersDiT
from diffprobe.config.networks.dit import DiT as DiTSettings
from diffprobe.config.problems import Problem, one_of
from diffprobe.config.processes import Process
from diffprobe.config.processes.ddpm import Discrete
from diffprobe.interop import diffusers_dit
from diffprobe.interop.diffusers_unet import CURVES, plain
from diffprobe.interop.names import State, to_theirs
from diffprobe.runtime.errors import UserError
from diffprobe.training import checkpoints

Transformer = DiTSettings | StoredDiffusersDiT


class Model(NamedTuple):
    """A model's folder within a pipeline's."""

    config: dict[str, Any]
    tensors: State


def refused(network: Transformer, process: Process, header: Mapping[str, Any]) -> Iterator[Problem]:
    """What DiTPipeline does not have; keys as in the config of an experiment."""
    classes = header["shape"].get("classes", 0)
    if isinstance(network, StoredDiffusersDiT):
        classes = diffusers_dit.whole(network.config)["num_embeds_ada_norm"]
    else:
        for key, value, allowed in diffusers_dit.refused_network(network):
            yield f"network.{key}", value, allowed
    yield from refused_data(header, classes)
    if not isinstance(process, Discrete) or process.time_input != "index":
        value = process.kind if not isinstance(process, Discrete) else f"{process.kind} with {process.time_input}"
        yield "process", value, "ddpm or iddpm with time_input: index, as its schedulers count"
    elif process.beta_schedule not in CURVES:
        yield "process.beta_schedule", process.beta_schedule, one_of(CURVES)


def refused_data(header: Mapping[str, Any], classes: int) -> Iterator[Problem]:
    """What of its labels and of the data it was trained on DiTPipeline does not have."""
    if classes:
        if classes != diffusers_dit.NULL_LABEL:
            yield "classes", classes, f"{diffusers_dit.NULL_LABEL}, which is its label for none"
    else:
        yield "network.conditional", False, f"true, with {diffusers_dit.NULL_LABEL} classes"
    if header["shape"].get("augment"):
        yield "network.augment", True, "false"
    if "latents" not in header:
        yield "latents", None, "a store, since it decodes latents"
    elif header["latents"].get("normalise"):
        yield "latents", "of ImageNet-normalised pixels", "a store without `normalise`, since its pixels are in [-1, 1]"
    elif len(set(header["latents"]["scale"])) > 1 or any(header["latents"]["shift"]):
        yield "latents", "scaled per channel or shifted", "a store with one number as its `scale`"


def transformer(network: Transformer, header: Mapping[str, Any], state: State) -> Model:
    """A DiT of ours as a DiTTransformer2DModel, or one that was wrapped."""
    if isinstance(network, StoredDiffusersDiT):
        config = {**diffusers_dit.whole(network.config), "_class_name": diffusers_dit.KIND}
        outputs = diffusers_dit.outputs(config)  # in words: DiTPipeline divides it by two
        bare = {name.removeprefix("transformer."): value for name, value in state.items()}
        return Model(config | {"out_channels": outputs}, bare)
    config = diffusers_dit.their_config(network, header["shape"], header["image"][1])
    tensors = to_theirs(state, diffusers_dit.names(state))
    return Model(config, diffusers_dit.with_copies(tensors, network.depth))


def vae(path: Path | None, header: Mapping[str, Any]) -> Model:
    """The AutoencoderKL of a model's latents, in the checkpoint at `path`, with their scale. Raises UserError."""
    remedy = "DiTPipeline needs the checkpoint of a diffusers AutoencoderKL (or an autoencoder_kl trained here)"
    if path is None or not path.is_file():
        raise UserError(f"{path}: no autoencoder's checkpoint; {remedy}")
    head = checkpoints.header(path)
    network = parse_network(head["network"])
    if isinstance(network, DiffusersAutoencoder):
        config = network.config
    elif isinstance(network, AutoencoderSettings):
        config = {**kl_config(network), "_class_name": "AutoencoderKL"}
    else:
        raise UserError(f"{path}: is of the kind {head['network']['kind']}; {remedy}")
    if config["_class_name"] != "AutoencoderKL":
        raise UserError(f"{path}: is of the class {config['_class_name']}; {remedy}")
    scale = float(str(np.float32(header["latents"]["scale"][0])))  # 0.18215, as headers have it in float32
    public = {key: plain(value) for key, value in config.items() if key == "_class_name" or key[0] != "_"}
    # The pipeline divides latents by the factor and subtracts no shift.
    whole = public | {"scaling_factor": scale, "shift_factor": None, "latents_mean": None, "latents_std": None}
    return Model(whole, checkpoints.state_dict(path, head["weights"], None))


def kl_config(network: AutoencoderSettings) -> dict[str, Any]:
    """The config.json of diffusers' class for an autoencoder of ours, but for what it has by default."""
    levels = len(network.widths)
    return {
        "in_channels": network.channels,
        "out_channels": network.channels,
        "latent_channels": network.latent_channels,
        "block_out_channels": network.widths,
        "layers_per_block": network.blocks,
        "norm_num_groups": network.groups,
        "mid_block_add_attention": network.attention,
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
    }


def note(network: Transformer) -> list[str]:
    """What is to be said of a network that diffusers computes in another way."""
    if isinstance(network, StoredDiffusersDiT) or network.time_embedding == "diffusers":
        return []
    return [
        "diffusers spaces the sinusoids of the noise level by 127 where this network has 128 (as in the published "
        "folders of DiT), so its outputs differ a little; with network.time_embedding: diffusers they are the same"
    ]
