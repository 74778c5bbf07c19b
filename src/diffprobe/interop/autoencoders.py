"""Published autoencoders as checkpoints of ours: read, checked against the config, written with their own scaling.

Weights are read as data alone and bear the names that diffusers gives them, attention layers of older files too.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from diffprobe.config import published
from diffprobe.interop import hub, source
from diffprobe.interop.diffusers_unet import renewed
from diffprobe.interop.importing import differing, refuse
from diffprobe.interop.names import State, to_ours
from diffprobe.networks.autoencoder import Codec
from diffprobe.networks.build import build
from diffprobe.networks.diffusers_autoencoder import autoencoder_class, with_defaults
from diffprobe.runtime.errors import UserError, one_line
from diffprobe.runtime.files import digest, sha256
from diffprobe.training import checkpoints

Say = Callable[[str], None]
DECODING = ("decoder.", "post_quant_conv.")  # the parts that another source may bring
# Keys of a model's config that change nothing of how it decodes.
ENCODING = {"sample_size", "force_upcast", "down_block_types", "use_quant_conv"}
ENCODING |= {"encoder_block_out_channels", "num_encoder_blocks", "latent_magnitude", "latent_shift"}


class Model(NamedTuple):
    """A model as its folder has it."""

    config: dict[str, Any]  # with every key
    folder: Path
    weights: Path

    @property
    def whence(self) -> str:
        return f"{self.folder}/{published.CONFIG}"

    @property
    def files(self) -> dict[str, str]:
        """The hash of each of its files."""
        return {path.name: sha256(path) for path in (self.folder / published.CONFIG, self.weights)}


def write(name: str, asked: dict[str, Any], out: Path, say: Say = print) -> dict[str, Any]:
    """Write the checkpoint of a config's autoencoder `name`, whose entry is `asked`; what its receipt tells.

    Raises UserError, a line, for a model that cannot be had, is damaged, or is not as the entry says.
    """
    key = f"autoencoders.{name}"
    model = opened(asked["source"], f"{key}.source", say)
    refuse(key, published.wrong(asked, model.config, model.whence), "")
    state, files = loaded(model, asked), {"source": model.files}
    if asked["decoder"]:
        other = opened(asked["decoder"], f"{key}.decoder", say)
        refuse_other_decoder(f"{key}.decoder: {other.whence}", model, other)
        state |= {name: value for name, value in loaded(other, asked).items() if name.startswith(DECODING)}
        files["decoder"] = other.files
    header = described(model.config, asked, key)
    checkpoints.write(out, {"ema": state}, header | {"identity": digest([header, files]), "source": files})
    places = {"source": asked["source"], "decoder": asked["decoder"] or asked["source"]}
    return {**places, "files": files, "parameters": sum(value.numel() for value in state.values())}


def opened(place: str, key: str, say: Say) -> Model:
    """The model in a folder or of a name on the hub. Raises UserError, which begins with the `key`."""
    local = published.is_local(place)
    if local and not Path(place).exists():
        raise UserError(f"{key}: {place}: no such folder")
    try:
        folder = published.model_folder(place) if local else hub.cached_or_downloaded(place, key, say)
        config = published.read_config(folder)
        kind = config["_class_name"]
        whole = {"_class_name": kind, **with_defaults(autoencoder_class(kind), config)}
        return Model(whole, folder, published.weights_file(folder))
    except ValueError as error:
        raise UserError(f"{key}: {place} is refused; allowed: {error}") from None


def loaded(model: Model, asked: dict[str, Any]) -> State:
    """Its weights, float32, under the names of the network that its config describes. Raises UserError."""
    shapes = empty(model, asked).state_dict()
    state = renewed(source.read(model.weights))
    if strange := [name for name, value in state.items() if not isinstance(value, Tensor)]:
        raise UserError(f"{model.weights}: {strange[0]} is no tensor; expected tensors by name")
    state = {name: as_matrix(value) if shapes.get(name, value).ndim == 2 else value for name, value in state.items()}
    remedy = f"the file is not that of {model.whence}; download both again"
    return to_ours(state, {name: (name,) for name in shapes}, shapes, f"weights of {model.weights}", remedy)


def as_matrix(value: Tensor) -> Tensor:
    """The matrix of a 1x1 convolution, as which the oldest files hold the projections of attention layers."""
    return value[..., 0, 0] if value.ndim == 4 and value.shape[2:] == (1, 1) else value


def empty(model: Model, asked: dict[str, Any]) -> nn.Module:
    """The network without its weights, once seen to take images of the entry's size and to make latents as it says."""
    size, channels = asked["size"], asked["channels"]
    latent = size // asked["factor"]
    with torch.device("meta"), torch.no_grad():
        network = build(described_network(model.config)).eval()
        codec = Codec(network, size, channels, (channels, size, size))
        try:
            made = codec.moments(torch.zeros(1, channels, size, size))
            z = codec.latents(made)
            image = codec.decode(z)
        except Exception as error:  # whatever its layers find wrong with the shapes
            said = one_line(error)
            raise UserError(
                f"{model.whence}: no images of {size} pixels can be coded by such a model: {said}"
            ) from None
    for what, found, expected in (
        ("latents", tuple(z.shape[1:]), (asked["latent_channels"], latent, latent)),
        ("images", tuple(image.shape[1:]), (channels, size, size)),
    ):
        if found != expected:
            raise UserError(f"{model.whence}: such a model makes {what} of shape {found}; expected {expected}")
    return network


def refuse_other_decoder(key: str, model: Model, other: Model) -> None:
    """Raise a UserError where another model's decoder is built otherwise, or is told latents in another scale."""
    mine, theirs = ({k: v for k, v in one.config.items() if k not in ENCODING} for one in (other, model))
    refuse(key, differing(mine, theirs), f", as {model.whence} has it")


def described_network(config: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "diffusers_autoencoder", "config": config}


def described(config: dict[str, Any], asked: dict[str, Any], key: str) -> dict[str, Any]:
    """What the checkpoint tells of itself, as that of a trained autoencoder does (workflow/scripts/train.py)."""
    size, channels = asked["size"], asked["channels"]
    codec = {"size": size, "channels": channels, "resize": asked["resize"], **scaling(config, key)}
    image = [channels, size, size]
    common = {"network": described_network(config), "process": None, "shape": {}, "image": image}
    return {**common, "codec": codec, "images": 0}  # nobody knows how many it has seen


def scaling(config: dict[str, Any], key: str) -> dict[str, Any]:
    """The model's own scale and shift, z in model scale being (z - shift) * scale, as diffusers' pipelines take them:
    deviations and means per channel where it has them. Nothing where its config says no scale.
    """
    factor, mean, std = config["scaling_factor"], config.get("latents_mean"), config.get("latents_std")
    if factor is None:
        return {}
    if mean is None or std is None:
        return {"scaling": {"scale": float(factor), "shift": float(config.get("shift_factor") or 0)}}
    channels = config["latent_channels"]
    if len(mean) != channels or len(std) != channels or not all(deviation > 0 for deviation in std):
        allowed = f"{channels} means and as many deviations above 0"
        raise UserError(f"{key}.source: latents_mean {mean} and latents_std {std} are refused; allowed: {allowed}")
    return {"scaling": {"scale": [factor / deviation for deviation in std], "shift": list(mean)}}
