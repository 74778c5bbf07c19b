"""Any diffusers DiTTransformer2DModel as a network of ours."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from diffprobe.config.names import dit_taps
from diffprobe.networks.condition import NOTHING, Condition
from diffprobe.networks.hooked import hooked
from diffprobe.runtime.errors import UserError, one_line


class WrappedDiT(nn.Module):
    """`forward(x, c_noise, cond)` as `dit.DiT`; its weights are the model's own under `transformer.`.

    `config` is the content of the model's config.json. Without `classes` every image has the model's null label. Taps:
    block_0.., the residual stream after each block as a map (B, width, H/patch, W/patch). Raises UserError for a model
    of other channels or classes.
    """

    def __init__(
        self, config: Mapping[str, Any], image_channels: int, classes: int = 0, out_channels: int | None = None
    ) -> None:
        super().__init__()
        from diffusers import DiTTransformer2DModel

        try:
            self.transformer = DiTTransformer2DModel.from_config(dict(config))
        except Exception as error:  # its constructor raises anything
            line = f"no DiTTransformer2DModel can be built of it: {one_line(error)[:200]}"
            raise UserError(f"diffusers config: {line}") from None
        self.null_label = self.transformer.config["num_embeds_ada_norm"]
        for key, value, allowed in self.refused(image_channels, classes, out_channels or image_channels):
            raise UserError(f"diffusers config: {key}: {value} is refused; allowed: {allowed}")
        self.taps, self.patch = dit_taps(self.transformer.config["num_layers"]), self.transformer.config["patch_size"]
        for module in self.transformer.modules():
            if hasattr(module, "dropout_prob"):
                module.dropout_prob = 0  # the training here drops labels itself

    def refused(self, image_channels: int, classes: int, out_channels: int) -> Iterator[tuple[str, object, str]]:
        """What in the model's config rules it out for such images: key, value, what is allowed."""
        config = self.transformer.config
        outputs = config["out_channels"] or config["in_channels"]
        if config["in_channels"] != image_channels:
            yield "in_channels", config["in_channels"], f"{image_channels}, as the images have"
        if outputs != out_channels:
            yield "out_channels", outputs, f"{out_channels}, as the process needs"
        if classes and self.null_label != classes:
            allowed = f"{classes}, the dataset's classes; or set network.conditional: false"
            yield "num_embeds_ada_norm", self.null_label, allowed

    def forward(
        self,
        x: Tensor,
        c_noise: Tensor,
        cond: Condition = NOTHING,
        taps: Sequence[str] = (),
        features_only: bool = False,
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """The output (B, out_channels, H, W) and the tapped activations by name.

        With `features_only` nothing after the last tap is computed and the output is None.
        """
        no_label = torch.full_like(c_noise, self.null_label, dtype=torch.long)  # (B,)
        label = no_label if cond.label is None else torch.where(cond.label < 0, no_label, cond.label)
        blocks = zip(self.taps, self.transformer.transformer_blocks, strict=True)
        tapped = {name: block for name, block in blocks if name in taps}
        output, blocks_out = hooked(
            lambda: self.transformer(x, c_noise, label, return_dict=False)[0], tapped, features_only
        )
        grid = (x.shape[2] // self.patch, x.shape[3] // self.patch)
        return output, {name: h.mT.unflatten(2, grid) for name, h in blocks_out.items()}  # (B, T, D) to (B, D, h, w)
