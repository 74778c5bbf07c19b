"""Published autoencoders as checkpoints of ours: read, checked against the config, written with their own scaling.

Weights are read as data alone. They have the names that diffusers gives them, attention layers of older files too.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from diffprobe.config import published
from diffprobe.config.autoencoders import Pretrained
from diffprobe.config.built import parse_network
from diffprobe.interop import hub, source
from diffprobe.interop.diffusers_unet import differing, renewed
from diffprobe.interop.importing import refuse
from diffprobe.interop.names import State, to_ours
from diffprobe.networks.autoencoder import Codec
from diffprobe.networks.build import build
from diffprobe.networks.diffusers_autoencoder import autoencoder_class, with_defaults
from diffprobe.runtime.errors import UserError, one_line
from diffprobe.runtime.files import digest, sha256
from diffprobe.training import checkpoints

Say = Callable[[str], None]
DECODING = ("decoder.", "post_quant_conv.")  # the tensors that another source may bring
# Keys of a model's config that do not affect decoding.
ENCODING = {"sample_size", "force_upcast", "down_block_types", "use_quant_conv"}
ENCODING |= {"encoder_block_out_channels", "num_encoder_blocks", "latent_magnitude", "latent_shift"}


class PublishedModel(NamedTuple):
    """A model's folder."""

    config: dict[str, Any]  # its config.json, with every key
    folder: Path
    weights: Path

    @property
    def origin(self) -> str:
        return f"{self.folder}/{published.CONFIG}"

    @property
    def network(self) -> dict[str, Any]:
        """As a checkpoint's header has it."""
        return {"kind": "diffusers_autoencoder", "config": self.config}

    @property
    def files(self) -> dict[str, str]:
        """The hash of each of its files; of weights in several, of their index too."""
        paths = (self.folder / published.CONFIG, self.weights, *published.weights_files(self.weights))
        return {path.name: sha256(path) for path in dict.fromkeys(paths)}


def write(name: str, entry: Pretrained, out: Path, say: Say = print) -> dict[str, Any]:
    """Write the checkpoint of the config's autoencoder `name`. Returns the entries of its receipt.

    Raises UserError, a line, for a model that is unavailable, damaged, or not as the entry says.
    """
    key = f"autoencoders.{name}"
    model = open_model(entry.source, f"{key}.source", say)
    refuse(key, published.mismatches(entry, published.facts(model.config), model.origin))
    state, files = read_weights(model, entry), {"source": model.files}
    if entry.decoder:
        other = open_model(entry.decoder, f"{key}.decoder", say)
        refuse_other_decoder(f"{key}.decoder: {other.origin}", model, other)
        state |= {name: value for name, value in read_weights(other, entry).items() if name.startswith(DECODING)}
        files["decoder"] = other.files
    # The same header as that of an autoencoder that the workflow trains.
    codec = {"size": entry.size, "channels": entry.channels, "resize": entry.resize, **scaling(model.config, key)}
    header = {
        "network": model.network,
        "process": None,
        "shape": {},
        "image": [entry.channels, entry.size, entry.size],
        "codec": codec,
        "images": 0,  # nobody says how many it was trained on
    }
    checkpoints.write(out, {"ema": state}, header | {"identity": digest([header, files]), "source": files})
    origins = {"source": entry.source, "decoder": entry.decoder or entry.source}
    return {**origins, "files": files, "parameters": sum(value.numel() for value in state.values())}


def open_model(place: str, key: str, say: Say) -> PublishedModel:
    """The model in a folder, or of this name on the hub. Raises UserError, which begins with the `key`."""
    local = published.is_local(place)
    if local and not Path(place).exists():
        raise UserError(f"{key}: {place}: no such folder; check the path")
    try:
        folder = published.model_folder(place) if local else hub.cached_or_downloaded(place, key, say)
        config, weights = published.read_config(folder), published.weights_file(folder)
        published.weights_files(weights)  # all there, before anything is read
    except ValueError as error:
        raise UserError(f"{key}: {place} is refused; allowed: {error}") from None
    kind = config["_class_name"]
    return PublishedModel({"_class_name": kind, **with_defaults(autoencoder_class(kind), config)}, folder, weights)


def read_weights(model: PublishedModel, entry: Pretrained) -> State:
    """Its weights, float32, under the names of the network that its config describes. Raises UserError."""
    shapes = empty_network(model, entry).state_dict()
    state = renewed(source.read_model(model.weights))
    # Where the network expects a matrix, a 1x1 convolution is one in disguise.
    state = {name: as_matrix(value) if shapes.get(name, value).ndim == 2 else value for name, value in state.items()}
    remedy = f"the file is not that of {model.origin}; download both again"
    return to_ours(state, {name: (name,) for name in shapes}, shapes, f"weights of {model.weights}", remedy)


def as_matrix(value: Tensor) -> Tensor:
    """A 1x1 convolution, which the oldest files have as projections of attention layers, as a matrix."""
    return value[..., 0, 0] if value.ndim == 4 and value.shape[2:] == (1, 1) else value


def empty_network(model: PublishedModel, entry: Pretrained) -> nn.Module:
    """The network without its weights, after a dry run: images of the entry's size, latents of the shape it says."""
    size, channels = entry.size, entry.channels
    latent = size // entry.factor
    # On the meta device shapes are computed without weights, memory or time.
    with torch.device("meta"), torch.no_grad():
        try:
            network = build(parse_network(model.network)).eval()
            codec = Codec(network, size, channels, (channels, size, size))
            z = codec.latents(codec.moments(torch.zeros(1, channels, size, size)))  # (1, c, h, w)
            image = codec.decode(z)  # (1, channels, size, size)
        except Exception as error:  # whatever its layers find wrong with types and shapes
            reason = "a value of another type" if isinstance(error, TypeError | AttributeError) else one_line(error)
            line = f"{model.origin}: no images of {size} pixels can be coded by such a model ({reason})"
            raise UserError(f"{line}; set autoencoders.NAME.size, or download the model again") from None
    for what, shape, expected in (
        ("latents", tuple(z.shape[1:]), (entry.latent_channels, latent, latent)),
        ("images", tuple(image.shape[1:]), (channels, size, size)),
    ):
        if shape != expected:
            raise UserError(f"{model.origin}: such a model makes {what} of shape {shape}; expected {expected}")
    return network


def refuse_other_decoder(key: str, model: PublishedModel, other: PublishedModel) -> None:
    """Raise a UserError where another model's decoder is built differently, or expects latents in another scale."""
    theirs, required = ({k: v for k, v in one.config.items() if k not in ENCODING} for one in (other, model))
    refuse(key, differing(theirs, required), f", as {model.origin} has it")


def scaling(config: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The model's own scale and shift, z in model scale being (z - shift) * scale, as diffusers' pipelines take them:
    deviations and means per channel where it has them. Nothing where its config says no scale.
    """
    # diffusers: z = (latent - mean) * factor / std, or (latent - shift) * factor
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
