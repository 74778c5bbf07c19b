"""diffusers' UNet2DModel in the form of DDPM (google/ddpm-cifar10-32) and our U-Net: names and configs, both ways.

Names and meaning of the keys: diffusers/models/unets/unet_2d.py and the blocks that it is built of. A config that
changes when it is converted and back has no counterpart; there is no other list of what the two have in common.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from diffprobe.config.networks.unet import UNet as UNetSettings
from diffprobe.config.problems import Problem
from diffprobe.config.processes.ddpm import DDPM
from diffprobe.interop.names import OUR_OPTIONS, NameMap, Place, Scheme, State, unet_map
from diffprobe.networks.diffusers_autoencoder import with_defaults
from diffprobe.networks.unet import UNet

PARTS = {"encoder": "down", "decoder": "up"}
BLOCKS = ("DownBlock2D", "AttnDownBlock2D"), ("UpBlock2D", "AttnUpBlock2D")  # without and with attention
OLD = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}  # attention layers in older files
# Options of UNet2DModel that our U-Net does not have: their values in DDPM.
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
    "act_fn": "silu",
    "attention_head_dim": None,
    "attn_norm_num_groups": None,
}
SCHEDULE = {"steps": "num_train_timesteps", "beta_min": "beta_start", "beta_max": "beta_end"}
CURVES = {"linear": "linear", "cosine": "squaredcos_cap_v2"}  # our beta_schedule: theirs
NO_PROCESS = "none that is here (linear or cosine betas, noise predicted)"
PIPELINE = {
    "_class_name": "DDPMPipeline",
    "scheduler": ["diffusers", "DDPMScheduler"],
    "unet": ["diffusers", "UNet2DModel"],
}


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


def unet_names(network: UNet) -> NameMap:
    """Our names to UNet2DModel's."""
    return unet_map(network, SCHEME)


def renewed(state: State) -> State:
    """A state dict with the names that today's diffusers gives to attention layers."""
    return {new_name(name): value for name, value in state.items()}


def new_name(name: str) -> str:
    module, _, kind = name.rpartition(".")
    rest, _, layer = module.rpartition(".")
    return f"{rest}.{OLD[layer]}.{kind}" if ".attentions." in name and layer in OLD else name


# --- configs


def whole(config: Mapping[str, Any]) -> dict[str, Any]:
    """A model's config.json with every key that UNet2DModel takes."""
    from diffusers import UNet2DModel

    return with_defaults(UNet2DModel, config)


def our_network(config: Mapping[str, Any]) -> dict[str, Any]:
    """A whole config in our keys: those on which the network's output depends."""
    first, *_ = widths = config["block_out_channels"]
    return {
        "multipliers": [width // first for width in widths],
        "channels": first,
        "blocks": config["layers_per_block"],
        "attention": [i for i, kind in enumerate(config["down_block_types"]) if kind.startswith("Attn")],
        "groups": config["norm_num_groups"],
        "head_groups": config["norm_num_groups"],
        "resample": "conv",
        "down_padding": "right" if config["downsample_padding"] == 0 else "both",
        "norm_eps": config["norm_eps"],
        "skip_scale": 1.0,
        "time_scale": 1.0,
        **OUR_OPTIONS,
    }


def their_config(network: UNetSettings, channels: int) -> dict[str, Any]:
    """A network of ours, for images of so many channels, in UNet2DModel's keys."""
    attention = [level in network.attention for level in range(len(network.multipliers))]
    down, up = BLOCKS
    return {
        **FIXED,
        "in_channels": channels,
        "out_channels": channels,
        "block_out_channels": [network.channels * m for m in network.multipliers],
        "layers_per_block": network.blocks,
        "down_block_types": [down[a] for a in attention],
        "up_block_types": [up[a] for a in reversed(attention)],
        "downsample_padding": 0 if network.down_padding == "right" else 1,
        "norm_num_groups": network.groups,
        "norm_eps": network.norm_eps,
    }


def differing(mine: Mapping[str, Any], required: Mapping[str, Any]) -> Iterator[Problem]:
    """The keys that do not have the required value."""
    for key, value in required.items():
        if key not in mine or plain(mine[key]) != plain(value):
            yield key, mine.get(key), str(value)


def plain(value: Any) -> Any:
    """Tuples, which diffusers makes of a config's lists, as lists."""
    return list(value) if isinstance(value, tuple) else value


def refused_config(config: Mapping[str, Any]) -> Iterator[Problem]:
    """What of a whole config our U-Net does not have."""
    silu = {"act_fn": "silu"} if config["act_fn"] == "swish" else {}  # two names of one function
    ours = UNetSettings.model_construct(**our_network(config))  # not validated: what it cannot be shows on the way back
    yield from differing({**config, **silu}, their_config(ours, config["in_channels"]))


def refused_network(network: UNetSettings) -> Iterator[Problem]:
    """What of a network of ours UNet2DModel does not have."""
    yield from differing(OUR_OPTIONS | network.model_dump(), our_network(their_config(network, channels=3)))


def our_process(scheduler: Mapping[str, Any]) -> dict[str, Any]:
    """A scheduler's config in our keys, as far as it names levels; only `CURVES` and predicted noise exist here."""
    if not scheduler:
        return {}
    if not {*SCHEDULE.values()} <= set(scheduler) or scheduler.get("rescale_betas_zero_snr"):
        return {"kind": NO_PROCESS}  # of flow matching, for one
    curve = next((ours for ours, theirs in CURVES.items() if theirs == scheduler.get("beta_schedule", "linear")), None)
    known = curve and not scheduler.get("trained_betas")
    epsilon = scheduler.get("prediction_type", "epsilon") == "epsilon"
    kind = "ddpm" if known and epsilon else NO_PROCESS
    # Their cosine ignores the two betas, which its files keep all the same.
    betas = {ours: scheduler[theirs] for ours, theirs in SCHEDULE.items() if curve == "linear" or ours == "steps"}
    return {"kind": kind, "time_input": "index", "beta_schedule": curve, **betas}


def their_scheduler(process: DDPM) -> dict[str, Any]:
    """The scheduler_config.json of a process, with the larger variance."""
    return {
        "_class_name": "DDPMScheduler",
        **{theirs: getattr(process, ours) for ours, theirs in SCHEDULE.items()},
        "beta_schedule": CURVES[process.beta_schedule],
        "prediction_type": "epsilon",
        "variance_type": "fixed_large",
        "clip_sample": True,
        "timestep_spacing": "leading",
        "steps_offset": 0,
    }
