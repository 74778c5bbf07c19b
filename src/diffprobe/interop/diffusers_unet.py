"""diffusers' UNet2DModel in the form of DDPM (google/ddpm-cifar10-32) and our U-Net: names and configs, both ways.

Names and meaning of the keys: diffusers/models/unets/unet_2d.py and the blocks that it is built of.
"""

from collections.abc import Iterator
from typing import Any

from diffprobe.config.problems import Problem
from diffprobe.interop.names import Map, Place, Scheme, State, unet_map
from diffprobe.networks.diffusers_autoencoder import with_defaults
from diffprobe.networks.unet import UNet

PARTS = {"encoder": "down", "decoder": "up"}
# What there is one value of in ours; every other key of UNet2DModel is dealt with below.
FIXED = {
    "center_input_sample": False,
    "time_embedding_type": "positional",
    "time_embedding_dim": None,
    "freq_shift": 1,
    "flip_sin_to_cos": False,
    "mid_block_type": "UNetMidBlock2D",
    "mid_block_scale_factor": 1,
    "downsample_type": "conv",
    "upsample_type": "conv",
    "resnet_time_scale_shift": "default",
    "add_attention": True,
    "class_embed_type": None,
    "num_class_embeds": None,
}
BLOCKS = ("DownBlock2D", "AttnDownBlock2D"), ("UpBlock2D", "AttnUpBlock2D")
OLD = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}  # attention layers in older files


# --- names


def block(part: str, stage: int, i: int) -> Place:
    place = f"{PARTS[part]}_blocks.{stage}"
    return Place(f"{place}.resnets.{i}", f"{place}.attentions.{i}")


def resampler(part: str, stage: int, residual: bool) -> str:
    return f"{PARTS[part]}_blocks.{stage}.{PARTS[part]}samplers.0.conv"


SCHEME = Scheme(
    layers={
        "embed.0": "time_embedding.linear_1",
        "embed.2": "time_embedding.linear_2",
        "stem": "conv_in",
        "head.0": "conv_norm_out",
        "head.2": "conv_out",
    },
    residual={
        "norm1": "norm1",
        "conv1": "conv1",
        "emb": "time_emb_proj",
        "norm2": "norm2",
        "conv2": "conv2",
        "shortcut": "conv_shortcut",
    },
    attention={"norm": ("group_norm",), "qkv": ("to_q", "to_k", "to_v"), "out": ("to_out.0",)},
    middle=(Place("mid_block.resnets.0", "mid_block.attentions.0"), Place("mid_block.resnets.1", "")),
    block=block,
    resampler=resampler,
)


def unet_names(network: UNet) -> Map:
    """Our names to UNet2DModel's."""
    return unet_map(network, SCHEME)


def renewed(state: State) -> State:
    """A state dict as today's UNet2DModel names its tensors: attention layers had other names once."""
    return {new_name(name): value for name, value in state.items()}


def new_name(name: str) -> str:
    module, _, kind = name.rpartition(".")
    rest, _, layer = module.rpartition(".")
    return f"{rest}.{OLD[layer]}.{kind}" if ".attentions." in name and layer in OLD else name


# --- from theirs


def whole(config: dict[str, Any]) -> dict[str, Any]:
    """A model's config with every key that UNet2DModel takes, and its defaults for those that are not named."""
    from diffusers import UNet2DModel

    return with_defaults(UNet2DModel, config)


def refused_config(config: dict[str, Any]) -> Iterator[Problem]:
    """What of a whole config our U-Net does not have: key, value, what is allowed."""
    for key, value in FIXED.items():
        if config[key] != value:
            yield key, config[key], str(value)
    if config["act_fn"] not in ("silu", "swish"):
        yield "act_fn", config["act_fn"], "silu"
    if config["downsample_padding"] not in (0, 1):
        yield "downsample_padding", config["downsample_padding"], "0 or 1"
    yield from refused_blocks(config)
    widths, groups = config["block_out_channels"], config["norm_num_groups"]
    if any(width % widths[0] for width in widths):
        yield "block_out_channels", widths, "multiples of the first"
    if config["attn_norm_num_groups"] not in (None, groups):
        yield "attn_norm_num_groups", config["attn_norm_num_groups"], f"{groups}, as norm_num_groups"
    if config["in_channels"] != config["out_channels"]:
        yield "out_channels", config["out_channels"], f"{config['in_channels']}, as in_channels"


def refused_blocks(config: dict[str, Any]) -> Iterator[Problem]:
    for key, known in zip(("down_block_types", "up_block_types"), BLOCKS, strict=True):
        if not set(config[key]) <= set(known):
            yield key, config[key], " and ".join(known)
            return
    down, up = ([kind.startswith("Attn") for kind in config[f"{part}_block_types"]] for part in PARTS.values())
    if down != up[::-1]:
        yield "up_block_types", config["up_block_types"], "attention at the levels where down_block_types has it"
    widths, dim = config["block_out_channels"], config["attention_head_dim"]
    attended = {width for width, attention in zip(widths, down, strict=True) if attention} | {widths[-1]}
    if dim is not None and attended != {dim}:
        yield "attention_head_dim", dim, "null (attention of one head)"


def our_network(config: dict[str, Any]) -> dict[str, Any]:
    """A whole config in our keys: those on which the network's output depends."""
    first, *_ = widths = config["block_out_channels"]
    return {
        "channels": first,
        "multipliers": [width // first for width in widths],
        "blocks": config["layers_per_block"],
        "attention": [i for i, kind in enumerate(config["down_block_types"]) if kind.startswith("Attn")],
        "groups": config["norm_num_groups"],
        "head_groups": config["norm_num_groups"],
        "resample": "conv",
        "down_padding": "right" if config["downsample_padding"] == 0 else "both",
        "norm_eps": config["norm_eps"],
        "skip_scale": 1.0,
        "time_scale": 1.0,
    }


def our_process(scheduler: dict[str, Any]) -> dict[str, Any]:
    """A scheduler's config in our keys, as far as it names levels; only linear betas and predicted noise are here."""
    if "num_train_timesteps" not in scheduler or "beta_start" not in scheduler:
        return {}
    same = scheduler.get("beta_schedule", "linear") == "linear" and not scheduler.get("trained_betas")
    epsilon = scheduler.get("prediction_type", "epsilon") == "epsilon"
    return {
        "kind": "ddpm" if same and epsilon else "none that is here (linear betas, noise predicted)",
        "steps": scheduler["num_train_timesteps"],
        "beta_min": scheduler["beta_start"],
        "beta_max": scheduler["beta_end"],
        "time_input": "index",
    }


# --- to theirs


def refused_network(network: dict[str, Any], shape: dict[str, int]) -> Iterator[Problem]:
    """What of ours UNet2DModel cannot express; keys as in the config of an experiment."""
    if network["multipliers"][0] != 1:
        yield "network.multipliers", network["multipliers"], "a first multiplier of 1"
    if network["resample"] != "conv":
        yield "network.resample", network["resample"], "conv"
    if network["head_groups"] != network["groups"]:
        yield "network.head_groups", network["head_groups"], f"{network['groups']}, as network.groups"
    for key in ("skip_scale", "time_scale"):
        if network[key] != 1:
            yield f"network.{key}", network[key], "1"
    if shape.get("classes"):
        yield "network.conditional", True, "false"
    if shape.get("augment"):
        yield "network.augment", True, "false"


def refused_process(process: dict[str, Any]) -> Iterator[Problem]:
    if process["kind"] == "ddpm" and process["time_input"] != "index":
        yield "process.time_input", process["time_input"], "index, as its schedulers give"


def their_config(network: dict[str, Any], image: tuple[int, int, int]) -> dict[str, Any]:
    """The config.json of a network of ours, all that `refused_network` lets pass; image (C, H, W)."""
    attention = [level in network["attention"] for level in range(len(network["multipliers"]))]
    down, up = BLOCKS
    return {
        "_class_name": "UNet2DModel",
        **FIXED,
        "sample_size": image[1],
        "in_channels": image[0],
        "out_channels": image[0],
        "block_out_channels": [network["channels"] * m for m in network["multipliers"]],
        "layers_per_block": network["blocks"],
        "down_block_types": [down[a] for a in attention],
        "up_block_types": [up[a] for a in reversed(attention)],
        "downsample_padding": 0 if network["down_padding"] == "right" else 1,
        "dropout": network["dropout"],
        "act_fn": "silu",
        "attention_head_dim": None,
        "norm_num_groups": network["groups"],
        "norm_eps": network["norm_eps"],
    }


def their_scheduler(process: dict[str, Any]) -> dict[str, Any]:
    """The scheduler_config.json of the process ddpm, with the larger variance."""
    return {
        "_class_name": "DDPMScheduler",
        "num_train_timesteps": process["steps"],
        "beta_start": process["beta_min"],
        "beta_end": process["beta_max"],
        "beta_schedule": "linear",
        "prediction_type": "epsilon",
        "variance_type": "fixed_large",
        "clip_sample": True,
        "timestep_spacing": "leading",
        "steps_offset": 0,
    }


PIPELINE = {
    "_class_name": "DDPMPipeline",
    "scheduler": ["diffusers", "DDPMScheduler"],
    "unet": ["diffusers", "UNet2DModel"],
}
