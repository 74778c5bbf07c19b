"""SODA's decoder: a U-Net whose residual blocks are scaled and shifted by the noise level and by a code (Hudson et al.
2024, "SODA: Bottleneck Diffusion Models for Representation Learning").

With 128 channels, multipliers (1, 2, 2, 2), 2 blocks, attention at level 1 and a code of 128 it has 39,595,139
parameters, as the re-implementation FutureXiang/soda has.
"""

from collections.abc import Sequence
from functools import partial
from itertools import accumulate
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffprobe.networks.condition import Condition
from diffprobe.networks.unet import UNet
from diffprobe.networks.unet_blocks import ResBlock

BASE_SCALES = {"residual": 1.0, "direct": 0.0}  # by modulation: what the scales of its layers are added to


class ModulatedBlock(ResBlock):
    """A residual block whose second norm is followed by h = t_s h + t_b, then h = z_s h + z_b.

    (t_s, t_b) are linear in the SiLU of the noise embedding, (z_s, z_b) in that of `seen`, its part of the code. Its
    argument `emb` (B, embedding + code) is the noise embedding, then the whole code.
    """

    def __init__(self, *args: Any, seen: slice, base_scale: float) -> None:
        super().__init__(*args)
        width = self.conv2.out_channels
        self.time, self.base_scale = self.options.emb, base_scale
        self.seen = slice(self.time + seen.start, self.time + seen.stop)
        self.emb = nn.Linear(self.time, 2 * width)
        self.code = nn.Linear(seen.stop - seen.start, 2 * width) if seen.stop > seen.start else None

    def conditioned(self, h: Tensor, emb: Tensor) -> Tensor:
        scale, shift = self.modulation(self.emb, emb[:, : self.time])  # (B, width_out)
        if self.code is not None:
            # One pass over h for both: z_s (t_s h + t_b) + z_b = (z_s t_s) h + (z_s t_b + z_b).
            code_scale, code_shift = self.modulation(self.code, emb[:, self.seen])
            scale, shift = code_scale * scale, code_scale * shift + code_shift
        h = self.norm2(h)  # (B, width_out, H, W)
        return scale[:, :, None, None].to(h.dtype) * h + shift[:, :, None, None].to(h.dtype)

    def modulation(self, layer: nn.Linear, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and shift (B, width_out) in float32: bfloat16 would round a small scale away beside 1."""
        scale, shift = layer(F.silu(condition)).float().chunk(2, dim=1)
        return self.base_scale + scale, shift


class ModulatedUNet(UNet):
    """`forward` as that of UNet; of `cond` it also sees z (B, z), and z_mask (B, K), False for the parts to be masked.

    A masked part is zeros: its layers give their biases alone. Without z all parts are masked, which is the
    unconditional model.
    """

    def __init__(
        self,
        image_channels: int,
        channels: int,
        multipliers: Sequence[int],
        modulation: str = "residual",  # scales are 1 + those of layers that start at zero; `direct`: those of layers
        parts: str = "all",  # K = 1; or `levels`, one for each level's blocks and one for the middle: K = levels + 1
        z: int = 0,  # length of the code, 0 for none
        **options: Any,  # of UNet
    ) -> None:
        lengths = part_lengths(z, len(multipliers) + 1 if parts == "levels" else 1)
        stops = list(accumulate(lengths))
        seen = [slice(stop - length, stop) for stop, length in zip(stops, lengths, strict=True)]

        def residual(level: int) -> partial[ModulatedBlock]:
            part = seen[level] if parts == "levels" else seen[0]
            return partial(ModulatedBlock, seen=part, base_scale=BASE_SCALES[modulation])

        super().__init__(image_channels, channels, multipliers, residual=residual, **options)
        self.z, self.part_lengths = z, lengths
        if modulation == "residual":
            silence(self)

    def embedding(self, c_noise: Tensor, cond: Condition) -> Tensor:
        """(B, 4 channels + z): UNet's embedding, then the code with zeros for masked parts."""
        emb = super().embedding(c_noise, cond)
        return torch.cat([emb, self.seen_code(cond, emb)], dim=1)

    def seen_code(self, cond: Condition, emb: Tensor) -> Tensor:
        """The code (B, z) as far as it is not masked."""
        if cond.z is None:
            return emb.new_zeros(len(emb), self.z)
        if cond.z_mask is None:
            return cond.z
        masked = zip(cond.z.split(self.part_lengths, dim=1), (~cond.z_mask).split(1, dim=1), strict=True)
        return torch.cat([part.masked_fill(mask, 0) for part, mask in masked], dim=1)  # whatever the part holds


def part_lengths(z: int, parts: int) -> list[int]:
    """A code's length in so many parts, which differ by one at most, the longer ones first."""
    return [z // parts + (i < z % parts) for i in range(parts)]


@torch.no_grad()
def silence(network: nn.Module) -> None:
    """Zero the layers that modulate, so that the network starts as one without modulation."""
    for block in network.modules():
        if isinstance(block, ModulatedBlock):
            for layer in (block.emb, block.code):
                if layer is not None:
                    layer.weight.zero_()
                    layer.bias.zero_()
