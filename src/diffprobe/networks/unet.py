"""The U-Net of DDPM (Ho et al. 2020) as DDAE trains it (Xiang et al. 2023): plain skips, additive noise embedding,
one attention head, PyTorch's initialisation. Options cover DDPM and EDM (Karras et al. 2022).

With 128 channels, multipliers (1, 2, 2, 2), 2 blocks and attention at level 1 it has 35,746,307 parameters; with
(2, 2, 2), 4 blocks and resampling blocks, "DDPM++" (Song et al. 2021), it has 56,524,291, and 1,152 more with EDM's
augmentation label.

EDM's own DDPM++ (Karras et al. 2022, their code's `SongUNet`) differs from that in five options: head_groups 32,
norm_eps 1e-6, skip_scale sqrt(0.5), `shortcut_conv` and `decoder_attention: last`; with init `edm` and the augmentation
label it has 55,733,891 parameters, and with `label_layer: scaled` and 10 classes 55,735,299.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffprobe.config.names import unet_taps
from diffprobe.networks.condition import NOTHING, Condition
from diffprobe.networks.unet_blocks import BlockOptions, ResBlock, RightPadded, UNetBlock, sinusoid
from diffprobe.networks.unet_init import INITS
from diffprobe.networks.upsampling import Double, Upsample

# From the level of residual blocks to what makes them: a class, or anything with ResBlock's arguments. The middle is a
# level after the last; a resampling block belongs to the finer of its two levels, in encoder and decoder alike.
ResBlocks = Callable[[int], Callable[..., ResBlock]]


class UNet(nn.Module):
    """`forward(x, c_noise, cond)`: x (B, image_channels, H, W), H and W divisible by patch * 2^(levels-1);
    c_noise (B,).

    Label and augmentation label enter through linear embeddings, to which zeros add nothing (EDM, appendix F.2).

    Taps: in_1.. (encoder blocks), mid, out_1.. (decoder blocks), each (B, C, H', W') after attention.
    """

    def __init__(
        self,
        image_channels: int,  # of x and of the output
        channels: int,  # base width
        multipliers: Sequence[int],  # width of each level, in base widths
        blocks: int,  # per level of the encoder; the decoder has one more
        attention: Sequence[int] = (),  # levels, counted from 0 at full resolution
        dropout: float = 0.0,
        groups: int = 32,  # of the group norms
        head_groups: int = 8,  # of the last norm; DDPM and EDM: as the others
        resample: str = "conv",  # or `block`, a residual block (DDPM++)
        down_padding: str = "both",  # sides on which downsampling pads; DDPM: `right` (and below)
        norm_eps: float = 1e-5,  # DDPM and EDM: 1e-6
        skip_scale: float = 1.0,  # factor on every residual sum; EDM: sqrt(0.5)
        time_scale: float = 1.0,  # factor on c_noise before its sinusoids
        init: str = "torch",  # or one of INITS
        shortcut_conv: bool = False,  # a 1x1 convolution in the shortcut of resampling blocks (EDM)
        decoder_attention: str = "all",  # blocks of the decoder's levels that have attention; EDM: the `last` of each
        label_layer: str = "plain",  # or `scaled`: one-hot labels times sqrt(classes), and a bias (EDM)
        patch: int = 1,  # side of the squares of pixels that it sees as channels (Luhman & Luhman 2022, section 3)
        classes: int = 0,  # labels it is conditioned on, 0 for none
        augment: int = 0,  # length of the augmentation label, 0 for none
        residual: ResBlocks = lambda level: ResBlock,  # for subclasses, whose blocks are conditioned otherwise
    ) -> None:
        super().__init__()
        widths = [channels * m for m in multipliers]
        options = BlockOptions(4 * channels, groups, norm_eps, dropout, skip_scale)
        self.channels, self.blocks, self.time_scale, self.classes = channels, blocks, time_scale, classes
        self.taps = unet_taps(len(widths), blocks)
        # Submodules are created in a fixed order: each draws its initial weights when it is made.
        # A label is added to the sinusoids, not to the embedding: one MLP mixes all that the network is conditioned on.
        self.embed = nn.Sequential(nn.Linear(channels, options.emb), nn.SiLU(), nn.Linear(options.emb, options.emb))
        self.label = nn.Linear(classes, channels, bias=label_layer == "scaled") if classes else None
        # A one-hot vector of variance 1 / classes; the factor makes its mean square 1, as that of the other inputs.
        self.label_scale = math.sqrt(classes) if label_layer == "scaled" else 1.0
        self.augment = nn.Linear(augment, channels, bias=False) if augment else None
        self.patch, pixels = patch, image_channels * patch**2
        self.stem = nn.Conv2d(pixels, channels, 3, padding=1)

        def block(width_in: int, width_out: int, level: int, attends: bool = True) -> UNetBlock:
            return UNetBlock(width_in, width_out, options, attends and level in attention, residual(level))

        def down(width: int, level: int) -> nn.Module:
            if resample == "block":
                return residual(level)(width, width, options, nn.AvgPool2d(2), shortcut_conv)
            if down_padding == "right":
                return RightPadded(width, width, 3, stride=2)
            return nn.Conv2d(width, width, 3, stride=2, padding=1)

        def up(width: int, level: int) -> nn.Module:
            if resample == "block":
                return residual(level)(width, width, options, Double(), shortcut_conv)
            return Upsample(width)

        # Every output of the encoder's way down is kept for the decoder, which consumes them last in, first out:
        # the stem, each block, each downsampling. That makes blocks + 1 per level.
        width, skips = channels, [channels]
        self.encoder, self.downs = nn.ModuleList(), nn.ModuleList()
        for level, width_out in enumerate(widths):
            for _ in range(blocks):
                self.encoder.append(block(width, width_out, level))
                width = width_out
                skips.append(width)
            if level < len(widths) - 1:
                self.downs.append(down(width, level))
                skips.append(width)
        middle = residual(len(widths))
        self.mid1 = UNetBlock(width, width, options, attention=True, residual=middle)  # at the lowest resolution always
        self.mid2 = UNetBlock(width, width, options, attention=False, residual=middle)
        self.decoder, self.ups = nn.ModuleList(), nn.ModuleList()
        for level, width_out in reversed(list(enumerate(widths))):
            for i in range(blocks + 1):
                attends = decoder_attention == "all" or i == blocks
                self.decoder.append(block(width + skips.pop(), width_out, level, attends))
                width = width_out
            if level > 0:
                self.ups.append(up(width, level - 1))
        # Norm and activation before the output convolution, as the blocks are pre-activation throughout.
        norm = nn.GroupNorm(head_groups, width, eps=norm_eps)
        self.head = nn.Sequential(norm, nn.SiLU(), nn.Conv2d(width, pixels, 3, padding=1))
        if init != "torch":
            INITS[init](self)

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
        tapped: dict[str, Tensor] = {}
        h = x  # (B, image_channels, H, W)
        # `activations` is a generator, so returning early leaves the later blocks uncomputed.
        for name, h in self.activations(x, self.embedding(c_noise, cond)):
            if name in taps:
                tapped[name] = h  # (B, C, H', W')
                if features_only and len(tapped) == len(taps):
                    return None, tapped
        # Without squares of pixels there is nothing to copy.
        output = self.head(h) if self.patch == 1 else F.pixel_shuffle(self.head(h), self.patch)
        return output, tapped  # (B, image_channels, H, W)

    def embedding(self, c_noise: Tensor, cond: Condition) -> Tensor:
        """The embedding (B, 4 channels) that every block adds: noise level, label, augmentation label."""
        emb = sinusoid(self.time_scale * c_noise, self.channels)  # (B, channels)
        if self.label is not None and cond.label is not None:
            classes = torch.arange(self.classes, device=cond.label.device)  # (classes,)
            one_hot = cond.label[:, None] == classes  # (B, classes); all zeros for -1, no label
            emb = emb + self.label(self.label_scale * one_hot.to(emb.dtype))  # (B, channels)
        elif self.label is not None and self.label.bias is not None:
            emb = emb + self.label.bias  # of no label, all zeros
        if self.augment is not None and cond.augment is not None:
            emb = emb + self.augment(cond.augment)  # (B, channels)
        return self.embed(emb)  # (B, 4 channels)

    def activations(self, x: Tensor, emb: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Each block's name and output, in the order of computation; emb (B, 4 channels)."""
        names = iter(self.taps)
        h = self.stem(x if self.patch == 1 else F.pixel_unshuffle(x, self.patch))  # (B, channels, H / patch, W / patch)
        skips = [h]  # in the order in which the decoder pops them from the end
        for i, block in enumerate(self.encoder, start=1):
            h = block(h, emb)  # (B, C, H', W')
            skips.append(h)
            yield next(names), h
            if i % self.blocks == 0 and i < len(self.encoder):  # the end of a level, not the last
                h = resampled(self.downs[i // self.blocks - 1], h, emb)  # (B, C, H'/2, W'/2)
                skips.append(h)
        h = self.mid2(self.mid1(h, emb), emb)  # (B, C, H', W') at the lowest resolution
        yield next(names), h
        for i, block in enumerate(self.decoder, start=1):
            h = block(torch.cat([h, skips.pop()], dim=1), emb)  # (B, C, H', W')
            yield next(names), h
            if i % (self.blocks + 1) == 0 and i < len(self.decoder):
                h = resampled(self.ups[i // (self.blocks + 1) - 1], h, emb)  # (B, C, 2H', 2W')


def resampled(module: nn.Module, h: Tensor, emb: Tensor) -> Tensor:
    """Apply a resampler: a plain layer, or a residual block, which takes the embedding too."""
    return module(h, emb) if isinstance(module, ResBlock) else module(h)
