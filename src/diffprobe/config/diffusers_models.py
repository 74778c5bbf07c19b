"""The JSON files of diffusers models, checked by type and size where they are read: whoever wrote them, no list passes
for a number, and no number makes a network of a billion layers.

Contents are checked, never changed: they go into checkpoints as they are.
"""

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from diffprobe.config.base import LEVELS, Blocks, Pixels, Width

BYTES = 16 << 20  # of an index of weights in many files; a config.json has a thousand

Widths = Annotated[list[Width], Field(min_length=1, max_length=LEVELS)]
Counts = Annotated[list[Blocks], Field(min_length=1, max_length=LEVELS)]
Names = Annotated[list[str], Field(min_length=1, max_length=LEVELS)]
Real = Annotated[float, Field(ge=-1e6, le=1e6)]


class Described(BaseModel):
    """Keys that decide shapes or the course of our code. Others are allowed; the model's class looks at them."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False, defer_build=True)


class UNet2DConfig(Described):
    block_out_channels: Widths  # required: diffusers' default is no published model's
    in_channels: Width = 3
    out_channels: Width = 3
    sample_size: int | list[int] | None = None
    layers_per_block: Blocks = 2
    down_block_types: Names = Field(default_factory=list, validate_default=False)
    up_block_types: Names = Field(default_factory=list, validate_default=False)
    mid_block_type: str | None = None
    mid_block_scale_factor: Real = 1
    time_embedding_type: str = ""
    time_embedding_dim: Width | None = None
    freq_shift: Real = 0
    downsample_padding: Annotated[int, Field(ge=0, le=8)] = 1
    downsample_type: str = ""
    upsample_type: str = ""
    dropout: Annotated[float, Field(ge=0, le=1)] = 0
    act_fn: str = ""
    attention_head_dim: Width | None = None
    norm_num_groups: Width = 32
    attn_norm_num_groups: Width | None = None
    norm_eps: Annotated[float, Field(gt=0)] = 1e-5
    resnet_time_scale_shift: str = ""
    class_embed_type: str | None = None
    num_class_embeds: int | None = None


class TransformerConfig(Described):
    """A DiTTransformer2DModel's, or of the older Transformer2DModel in DiT's form."""

    num_attention_heads: Width = 16
    attention_head_dim: Width = 72
    in_channels: Width | None = 4
    out_channels: Width | None = None
    num_layers: Blocks = 28
    dropout: Annotated[float, Field(ge=0, le=1)] = 0
    norm_num_groups: Width = 32
    attention_bias: bool = True
    sample_size: Pixels | None = 32
    patch_size: Pixels | None = 2
    activation_fn: str = ""
    num_embeds_ada_norm: Annotated[int, Field(ge=1, le=10**6)] | None = 1000
    norm_type: str = ""
    norm_elementwise_affine: bool = False
    norm_eps: Annotated[float, Field(gt=0)] = 1e-5


class AutoencoderConfig(Described):
    sample_size: int | list[int] | None = None
    in_channels: Width = 3
    out_channels: Width = 3
    latent_channels: Width = 4
    act_fn: str = ""
    scaling_factor: Real | None = None
    shift_factor: Real | None = None


class KLConfig(AutoencoderConfig):
    block_out_channels: Widths = Field(default_factory=list, validate_default=False)
    layers_per_block: Blocks = 1
    down_block_types: Names = Field(default_factory=list, validate_default=False)
    up_block_types: Names = Field(default_factory=list, validate_default=False)
    norm_num_groups: Width = 32
    latents_mean: list[Real] | None = None
    latents_std: list[Real] | None = None


class TinyConfig(AutoencoderConfig):
    encoder_block_out_channels: Widths = Field(default_factory=list, validate_default=False)
    decoder_block_out_channels: Widths = Field(default_factory=list, validate_default=False)
    num_encoder_blocks: Counts = Field(default_factory=list, validate_default=False)
    num_decoder_blocks: Counts = Field(default_factory=list, validate_default=False)
    upsampling_scaling_factor: Annotated[int, Field(ge=1, le=16)] = 2
    latent_magnitude: Real = 3
    latent_shift: Real = 0.5


class SchedulerConfig(Described):
    num_train_timesteps: Annotated[int, Field(ge=1, le=100_000)] = 1000
    beta_start: Annotated[float, Field(gt=0, lt=1)] = 1e-4
    beta_end: Annotated[float, Field(gt=0, lt=1)] = 0.02
    beta_schedule: str = ""
    trained_betas: list[Real] | None = None
    prediction_type: str = ""


class WeightsIndex(Described):
    weight_map: dict[str, str]


def read_object(path: Path, model: type[Described]) -> dict[str, Any]:
    """The content of a JSON file that `model` describes. Raises OSError, or ValueError, which says what is wrong."""
    with path.open("rb") as file:
        content = file.read(BYTES + 1)
    if len(content) > BYTES:
        raise ValueError(f"more than {BYTES >> 20} MiB")
    try:
        settings = json.loads(content, parse_constant=refuse_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(settings, dict):
        raise ValueError(f"expected keys and values, not {type(settings).__name__}")
    check(settings, model)
    return settings


def refuse_constant(name: str) -> None:
    """Python reads and writes NaN and infinities, which are no JSON."""
    raise ValueError(f"{name} is no JSON")


def check(settings: dict[str, Any], model: type[Described]) -> None:
    """Raise ValueError, which names the first key, where settings are not as `model` describes."""
    try:
        model.model_validate(settings)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise ValueError(f"{key}: {first['msg'][0].lower()}{first['msg'][1:]}") from None
