"""diffusers' own autoencoders, as a published config.json describes them."""

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

from diffprobe.runtime.errors import UserError, one_line

KINDS = ("AutoencoderKL", "AutoencoderTiny")


def autoencoder_class(kind: str) -> Any:
    """diffusers' class of this name. Raises UserError for a class that is not supported here."""
    import diffusers

    if kind not in KINDS:
        raise UserError(f"diffusers autoencoder: _class_name: {kind} is refused; allowed: {' or '.join(KINDS)}")
    return getattr(diffusers, kind)


def with_defaults(model: Any, config: Mapping[str, Any]) -> dict[str, Any]:
    """Every key that a diffusers class takes, with the class's defaults for those that a config.json leaves out."""
    parameters = inspect.signature(model.__init__).parameters
    return {key: config.get(key, one.default) for key, one in parameters.items() if key != "self"}


def diffusers_autoencoder(config: Mapping[str, Any]) -> nn.Module:
    """An AutoencoderKL or AutoencoderTiny with fresh weights, for images in [-1, 1].

    `config` is the content of the model's config.json. Raises UserError where no model can be built from it.
    """
    kind = config["_class_name"]
    model = autoencoder_class(kind)
    try:
        return model.from_config({"_class_name": kind, **with_defaults(model, config)})
    except Exception as error:  # its constructor raises anything
        raise UserError(f"diffusers autoencoder: no {kind} can be built: {one_line(error)[:200]}") from None
