"""DINOv2's vision transformer (Oquab et al., DINOv2: learning robust visual features without supervision, 2023), for
inference: the ViT of Dosovitskiy et al. 2021 with LayerScale (Touvron et al. 2021). Parameters have the names of Meta's
checkpoints.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffprobe.networks.dit_blocks import Attention, Mlp

SIZES = {"s": (384, 12), "b": (768, 12), "l": (1024, 24)}  # width, blocks
HEAD = 64  # channels of an attention head, in every size
EPS = 1e-6  # of the layer norms


class LayerScale(nn.Module):
    """A learned factor per channel on what a branch adds (Touvron et al. 2021, equation 4)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma  # (B, T, D)


class ViTBlock(nn.Module):
    """Attention and MLP on normed tokens, scaled and added (Dosovitskiy et al. 2021, equations 2 and 3)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=EPS), nn.LayerNorm(width, eps=EPS)
        self.attn = Attention(width, width // HEAD)
        self.mlp = Mlp(width, 4 * width, approximate="none")
        self.ls1, self.ls2 = LayerScale(width), LayerScale(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))  # equation 2: (B, T, D)
        return x + self.ls2(self.mlp(self.norm2(x)))  # equation 3: (B, T, D)


class DINOv2(nn.Module):
    """`forward(x)`: images (B, 3, H, W), H and W divisible by `patch`, normalised with ImageNet's mean and deviation,
    to the normed class token (B, width).

    Positions are stored for a grid of `grid` x `grid` patches and interpolated to the image's h x w patches, at the
    scale of a grid of h + `offset` by w + `offset`. Meta's network has 0.1 there, against rounding: at 224 px it moves
    the last position by a fifth of a stored cell, and the published features include that shift. Hugging Face's port
    has no offset. It must be positive; 1e-8 is as good as none.
    """

    def __init__(self, width: int, depth: int, patch: int = 14, grid: int = 37, offset: float = 0.1) -> None:
        super().__init__()
        self.patch, self.grid, self.offset = patch, grid, offset
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + grid**2, width))  # the class token's comes first
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, patch, stride=patch)})
        self.blocks = nn.ModuleList(ViTBlock(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.tokens(x)  # (B, 1 + h*w, D)
        for block in self.blocks:
            tokens = block(tokens)  # (B, 1 + h*w, D)
        return self.norm(tokens[:, 0])  # (B, D)

    def tokens(self, x: Tensor) -> Tensor:
        """The class token and the patches, with their positions (Dosovitskiy et al. 2021, equation 1)."""
        patches = self.patch_embed["proj"](x)  # (B, D, h, w)
        h, w = patches.shape[2:]
        sequence = torch.cat([self.cls_token.expand(len(x), -1, -1), patches.flatten(2).mT], dim=1)  # (B, 1 + h*w, D)
        return sequence + self.positions(h, w)

    def positions(self, h: int, w: int) -> Tensor:
        """Position embeddings (1, 1 + h*w, D) of an h x w grid, interpolated bicubically; the class token's is kept."""
        if (h, w) == (self.grid, self.grid):
            return self.pos_embed
        stored = self.pos_embed[:, 1:].mT.unflatten(2, (self.grid, self.grid))  # (1, D, grid, grid)
        # Given a scale, torch samples at that spacing, although the output still has h x w cells.
        scale = ((h + self.offset) / self.grid, (w + self.offset) / self.grid)
        resized = F.interpolate(stored, scale_factor=scale, mode="bicubic")  # (1, D, h, w)
        return torch.cat([self.pos_embed[:, :1], resized.flatten(2).mT], dim=1)  # (1, 1 + h*w, D)
