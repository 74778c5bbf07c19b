"""Any unconditional diffusers UNet2DModel as a network of ours."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from diffprobe.config.names import diffusers_taps
from diffprobe.networks.condition import NOTHING, Condition
from diffprobe.networks.hooked import hooked
from diffprobe.runtime.errors import UserError, one_line


class Wrapped(nn.Module):
    """`forward(x, c_noise, cond)` as `unet.UNet`; its weights are the model's own under `unet.`, `cond` is ignored.

    `config` is the content of the model's config.json. Taps: `in_1`.., `mid`, `out_1`.., each the output (B, C, H, W)
    of a residual block with its attention, where it has one. Raises UserError for a model that takes no noise level as
    a number, is conditioned on labels, or has another number of channels.
    """

    def __init__(self, config: Mapping[str, Any], image_channels: int) -> None:
        super().__init__()
        from diffusers import UNet2DModel

        try:
            self.unet = UNet2DModel.from_config(dict(config))
        except Exception as error:  # its constructor raises anything
            raise UserError(f"diffusers config: no UNet2DModel can be built of it: {one_line(error)[:200]}") from None
        for key, value, allowed in refused(self.unet.config, image_channels):
            raise UserError(f"diffusers config: {key}: {value} is refused; allowed: {allowed}")
        self.taps = diffusers_taps(dict(self.unet.config))
        self.tapped = dict(zip(self.taps, tap_modules(self.unet), strict=True))  # a plain dict registers no submodules

    def forward(
        self,
        x: Tensor,
        c_noise: Tensor,
        cond: Condition = NOTHING,
        taps: Sequence[str] = (),
        features_only: bool = False,
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """The output (B, image_channels, H, W) and the tapped activations by name.

        With `features_only` nothing after the last tap is computed and the output is None.
        """
        tapped = {name: self.tapped[name] for name in self.taps if name in taps}  # each puts out (B, C, H', W')
        return hooked(lambda: self.unet(x, c_noise, return_dict=False)[0], tapped, features_only)


def tap_modules(unet: Any) -> Iterator[nn.Module]:
    """The module after which each tap is read, in the order of computation."""
    for block in unet.down_blocks:  # in_1..
        yield from block_outputs(block)
    yield unet.mid_block.resnets[-1]  # mid: its attention comes between its two residual blocks
    for block in unet.up_blocks:  # out_1..
        yield from block_outputs(block)


def block_outputs(block: Any) -> Iterator[nn.Module]:
    """A block's residual blocks, or the attention after one."""
    attentions = list(getattr(block, "attentions", None) or [])
    plain = len(block.resnets) - len(attentions)  # where there are fewer attentions, the last residual blocks have them
    for i, resnet in enumerate(block.resnets):
        yield resnet if i < plain else attentions[i - plain]


def refused(config: Mapping[str, Any], image_channels: int) -> Iterator[tuple[str, object, str]]:
    """What in a model's config rules it out as a network here: key, value, what is allowed."""
    if config["time_embedding_type"] != "positional":  # `fourier` takes the logarithm of what we pass it
        yield "time_embedding_type", config["time_embedding_type"], "positional"
    if config["mid_block_type"] is None:
        yield "mid_block_type", None, "a middle block (the tap `mid`)"
    if config["class_embed_type"] or config["num_class_embeds"]:
        yield "num_class_embeds", config["num_class_embeds"], "null (a model without labels)"
    for key in ("in_channels", "out_channels"):
        if config[key] != image_channels:
            yield key, config[key], f"{image_channels}, as the images have"
