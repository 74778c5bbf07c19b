"""diffusers' own autoencoders, as a published config.json describes them."""

import inspect
from typing import Any

from torch import nn

from diffprobe.runtime.errors import UserError, one_line

KINDS = ("AutoencoderKL", "AutoencoderTiny")


def autoencoder_class(kind: str) -> Any:
    """diffusers' class of this name. Raises UserError for one that is no autoencoder of ours."""
    import diffusers

    if kind not in KINDS:
        raise UserError(f"diffusers autoencoder: _class_name: {kind} is refused; allowed: {' or '.join(KINDS)}")
    return getattr(diffusers, kind)


def whole(config: dict[str, Any]) -> dict[str, Any]:
    """A model's config with every key that its class takes, and the class's defaults for those that are not named."""
    kind = config["_class_name"]
    parameters = inspect.signature(autoencoder_class(kind).__init__).parameters
    known = {key: config.get(key, one.default) for key, one in parameters.items() if key != "self"}
    return {"_class_name": kind, **known}


def diffusers_autoencoder(config: dict[str, Any]) -> nn.Module:
    """An AutoencoderKL or AutoencoderTiny with fresh weights; both take and make images in [-1, 1], and the latter,
    which has no posterior, makes latents of images.

    `config` is the content of the model's config.json. Raises UserError where no model can be built of it.
    """
    try:
        return autoencoder_class(config["_class_name"]).from_config(whole(config))
    except UserError:
        raise
    except Exception as error:  # whatever it finds wrong with a config
        said = one_line(error)
        raise UserError(f"diffusers autoencoder: no {config['_class_name']} can be built: {said}") from None
