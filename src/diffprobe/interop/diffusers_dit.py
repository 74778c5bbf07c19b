"""diffusers' DiTTransformer2DModel and our DiT: names and configs, both ways; and the folder of a DiTPipeline.

Their port differs in two numbers, which are options of ours: it spaces the noise level's sinusoids by 127 where DiT
has 128 (`time_embedding: diffusers`), and has an epsilon of its own before the MLPs (`mlp_norm_eps`). Every block holds
a copy of the embeddings of noise level and label.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from diffprobe.config.networks.dit import DiT as DiTSettings
from diffprobe.config.problems import Problem
from diffprobe.interop.diffusers_unet import CURVES, SCHEDULE, differing
from diffprobe.interop.names import NameMap, State
from diffprobe.networks.diffusers_autoencoder import with_defaults
from diffprobe.runtime.errors import UserError

KIND, OLD_KIND = "DiTTransformer2DModel", "Transformer2DModel"  # the second before diffusers 0.29
KINDS = (KIND, OLD_KIND)
NULL_LABEL = 1000  # DiTPipeline's, whatever its model's
# Options of DiTTransformer2DModel that our DiT does not have: their values in DiT.
FIXED = {
    "attention_bias": True,
    "activation_fn": "gelu-approximate",
    "norm_type": "ada_norm_zero",
    "norm_elementwise_affine": False,
}
# Options of ours that it does not have: their values there. MLPs are always four times as wide as the tokens.
OURS = {
    "mlp_ratio": 4.0,
    "time_scale": 1.0,
    "position": "abs",
    "qk_norm": False,
    "time_embedding": "diffusers",
    "reversed_flow": False,
    "discard_variance": False,
}
LAYERS = {"x_embedder.proj": "pos_embed.proj", "final_layer.adaLN_modulation.1": "proj_out_1"}
LAYERS |= {"final_layer.linear": "proj_out_2"}
EMBEDDINGS = {
    "t_embedder.mlp.0": "timestep_embedder.linear_1",
    "t_embedder.mlp.2": "timestep_embedder.linear_2",
    "y_embedder.embedding_table": "class_embedder.embedding_table",
}
IN_BLOCKS = {
    "attn.qkv": ("attn1.to_q", "attn1.to_k", "attn1.to_v"),
    "attn.proj": ("attn1.to_out.0",),
    "mlp.fc1": ("ff.net.0.proj",),
    "mlp.fc2": ("ff.net.2",),
    "adaLN_modulation.1": ("norm1.linear",),
}
EMBEDDING = re.compile(r"transformer_blocks\.(\d+)\.norm1\.emb\.(.+)")
PIPELINE = {
    "_class_name": "DiTPipeline",
    "scheduler": ["diffusers", "DDIMScheduler"],
    "transformer": ["diffusers", KIND],
    "vae": ["diffusers", "AutoencoderKL"],
}


# --- names


def names(ours: Iterable[str]) -> NameMap:
    """Our names to theirs; the embeddings' are those of the first block."""
    return {name: theirs(name) for name in ours}


def theirs(name: str) -> tuple[str, ...]:
    module, _, kind = name.rpartition(".")
    if module.startswith("blocks."):
        _, i, layer = module.split(".", 2)
        return tuple(f"transformer_blocks.{i}.{other}.{kind}" for other in IN_BLOCKS[layer])
    layer = LAYERS.get(module) or f"transformer_blocks.0.norm1.emb.{EMBEDDINGS[module]}"
    return (f"{layer}.{kind}",)


def without_copies(state: State, file: Path) -> State:
    """The tensors with the embeddings of the first block alone. Raises UserError where another block has others."""
    kept: State = {}
    for name, value in state.items():
        match = EMBEDDING.fullmatch(name)
        if match is None or match[1] == "0":
            kept[name] = value
            continue
        first = state.get(f"transformer_blocks.0.norm1.emb.{match[2]}")
        if first is None or first.shape != value.shape or not torch.equal(first, value):
            line = f"{file}: {name} differs from that of the first block, where the network has one for all"
            raise UserError(f"{line}; use network: {{kind: diffusers_dit}}, which keeps each")
    return kept


def with_copies(state: State, depth: int) -> State:
    """The inverse: each of the `depth` blocks with the embeddings."""
    embeddings = {match[2]: value for name, value in state.items() if (match := EMBEDDING.fullmatch(name))}
    copies = {
        f"transformer_blocks.{i}.norm1.emb.{name}": value.clone()  # safetensors refuses tensors that share memory
        for i in range(1, depth)
        for name, value in embeddings.items()
    }
    return state | copies


# --- configs


def whole(config: Mapping[str, Any]) -> dict[str, Any]:
    """A model's config.json with every key that DiTTransformer2DModel takes."""
    import diffusers

    if config.get("_class_name") == OLD_KIND:  # its defaults are others
        config = with_defaults(diffusers.Transformer2DModel, config)
    return with_defaults(diffusers.DiTTransformer2DModel, config)


def outputs(config: Mapping[str, Any]) -> int:
    """Channels of the output of a whole config."""
    return config["out_channels"] or config["in_channels"]


def our_network(config: Mapping[str, Any]) -> dict[str, Any]:
    """A whole config in our keys."""
    return {
        "width": config["num_attention_heads"] * config["attention_head_dim"],
        "depth": config["num_layers"],
        "heads": config["num_attention_heads"],
        "patch": config["patch_size"],
        "mlp_norm_eps": config["norm_eps"],
        **OURS,
    }


def their_config(network: DiTSettings, shape: Mapping[str, int], size: int) -> dict[str, Any]:
    """A network of ours, for inputs of size x size, in DiTTransformer2DModel's keys."""
    channels = shape["image_channels"]
    return {
        "_class_name": KIND,
        **FIXED,
        "num_attention_heads": network.heads,
        "attention_head_dim": network.width // network.heads,
        "in_channels": channels,
        "out_channels": shape.get("out_channels", channels),  # in words: DiTPipeline divides it by two
        "num_layers": network.depth,
        "dropout": 0.0,
        "norm_num_groups": 32,  # unused
        "sample_size": size,
        "patch_size": network.patch,
        "num_embeds_ada_norm": shape["classes"],
        "upcast_attention": False,
        "norm_eps": network.mlp_norm_eps,
    }


def refused_config(config: Mapping[str, Any]) -> Iterator[Problem]:
    """What of a whole config our DiT does not have."""
    yield from differing(config, FIXED)


def refused_network(network: DiTSettings) -> Iterator[Problem]:
    """What of a network of ours DiTTransformer2DModel does not have.

    DiT's own sinusoids are let through, as in the published folders of DiT, which `export` says.
    """
    yield from differing(network.options, OURS | {"time_embedding": network.time_embedding})
    if network.time_embedding == "dit_pytorch":
        yield "time_embedding", network.time_embedding, "diffusers, or dit"


def our_process(scheduled: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """`diffusers_unet.our_process` of the scheduler, with the variance where the model has the channels for it."""
    noise = {"kind": "ddpm", "time_input": "index", **scheduled}
    learned = outputs(config) == 2 * config["in_channels"] and noise["kind"] == "ddpm"
    return noise | ({"kind": "iddpm"} if learned else {})


def their_scheduler(process: Any) -> dict[str, Any]:
    """The scheduler_config.json of a process with discrete steps. Latents are not clipped."""
    return {
        "_class_name": "DDIMScheduler",
        **{theirs: getattr(process, ours) for ours, theirs in SCHEDULE.items()},
        "beta_schedule": CURVES[process.beta_schedule],
        "prediction_type": "epsilon",
        "clip_sample": False,
        "set_alpha_to_one": True,
        "steps_offset": 0,
        "timestep_spacing": "leading",
    }
