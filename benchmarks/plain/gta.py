"""GTA's DiT in the peers' manner: in every layer and pass a table of 2x2 rotations, two products and a softmax."""

import torch
from torch import Tensor, nn

from benchmarks.plain.dit import PlainDiT


class RMSNorm(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale / (x.norm(dim=-1, keepdim=True) / x.shape[-1] ** 0.5 + 1e-8)


def rotations(side: int, dim: int) -> Tensor:
    """(side * side, dim / 2, 2, 2): rows and columns alternate from pair to pair."""
    frequencies = 1 / 10000 ** (torch.arange(dim // 4) / (dim // 4))
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    angles = torch.stack([place.flatten()[:, None] * frequencies for place in (rows, columns)], dim=-1).flatten(1)
    cos, sin = angles.cos(), angles.sin()
    return torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)


def rotated(x: Tensor, rho: Tensor) -> Tensor:
    return (rho @ x.unflatten(-1, (-1, 2)).unsqueeze(-1)).squeeze(-1).flatten(-2)


class GTAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.q_norm, self.k_norm = RMSNorm(width // heads), RMSNorm(width // heads)

    def forward(self, x: Tensor) -> Tensor:
        B, T, D = x.shape
        q, k, v = self.qkv(x).reshape(B, T, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        rho = rotations(int(T**0.5), D // self.heads)
        q, k, v = rotated(self.q_norm(q), rho), rotated(self.k_norm(k), rho), rotated(v, rho)
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
        x = rotated(scores.softmax(dim=-1) @ v, rho.transpose(-2, -1))
        return self.proj(x.transpose(1, 2).reshape(B, T, D))


def plain_gta(channels: int, size: int, width: int, depth: int, heads: int, patch: int, classes: int) -> PlainDiT:
    module = PlainDiT(channels, size, width, depth, heads, patch, classes, dropout=0.0)
    module.pos_embed.zero_()
    for block in module.blocks:
        block.attn = GTAttention(width, heads)
    return module
