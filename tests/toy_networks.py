"""Small networks of DDPM's form in diffusers, with all weights at work; what the tests of import and export share."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import DDPMScheduler, UNet2DModel

from diffprobe.config.load import parse
from diffprobe.config.models import Config
from diffprobe.runtime.errors import UserError

CIFAR10 = {  # the config.json of google/ddpm-cifar10-32
    "_class_name": "UNet2DModel",
    "_diffusers_version": "0.0.4",
    "act_fn": "silu",
    "attention_head_dim": None,
    "block_out_channels": [128, 256, 256, 256],
    "center_input_sample": False,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "in_channels": 3,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-6,
    "norm_num_groups": 32,
    "out_channels": 3,
    "sample_size": 32,
    "time_embedding_type": "positional",
    "up_block_types": ["UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
}
SMALL = CIFAR10 | {
    "block_out_channels": [16, 32],
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
    "in_channels": 1,
    "out_channels": 1,
    "norm_num_groups": 8,
    "sample_size": 8,
}
OURS = {  # the same in our keys
    "kind": "unet",
    "channels": 16,
    "multipliers": [1, 2],
    "blocks": 2,
    "attention": [1],
    "groups": 8,
    "head_groups": 8,
    "norm_eps": 1e-6,
    "down_padding": "right",
}

OLD_NAMES = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}  # of attention in older files


def refusal(action: Callable[..., object], *arguments: object, **named: object) -> str:
    """The one line of the UserError that the action must raise."""
    with pytest.raises(UserError) as error:
        action(*arguments, **named)
    assert "\n" not in str(error.value)
    return str(error.value)


def diffusers_model(**changes: object) -> UNet2DModel:
    torch.manual_seed(0)
    model = UNet2DModel.from_config(SMALL | changes).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def saved(model: UNet2DModel, folder: Path) -> Path:
    """A folder as diffusers writes it, with a scheduler beside the model."""
    model.save_pretrained(folder)
    DDPMScheduler(beta_start=1e-4, beta_end=0.02).save_pretrained(folder)
    return folder


def config(network: dict, process: dict | None = None, **train: object) -> Config:
    """A config with one experiment, `x`, on 8x8 digits."""
    process = process or {"kind": "ddpm"}
    sampler = {"kind": "ddim", "steps": 10} if process["kind"] == "ddpm" else {"kind": "heun"}
    experiment = {
        "dataset": "digits",
        "network": network,
        "process": process,
        "train": {"checkpoints": [1], **train},
        "sample": {"samplers": {"s": sampler}},
    }
    return parse({"datasets": {"digits": {"source": {"kind": "digits"}}}, "experiments": {"x": experiment}})
