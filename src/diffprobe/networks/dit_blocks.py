"""The parts of a DiT: embeddings, attention with its position codes, MLP, blocks, the final layer."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffprobe.networks.linear import Linear
from diffprobe.networks.positions import rotate

FREQUENCIES = 256  # width of the noise level's sinusoids in DiT
EPS = 1e-6  # of the layer norms


def sinusoid(t: Tensor, dim: int, last: int = 0) -> Tensor:
    """(B,) to (B, dim): cosines, then sines, of frequencies 10000^(-k / (dim/2)), k = 0 .. dim/2 - 1.

    With `last` = 1 the divisor is dim/2 - 1, so that the last frequency is 1/10000 (diffusers).
    """
    frequencies = 10000 ** (-torch.arange(dim // 2, device=t.device) / (dim // 2 - last))  # (dim/2,)
    angles = t[:, None] * frequencies  # (B, dim/2)
    return torch.cat([angles.cos(), angles.sin()], dim=1)  # (B, dim)


def modulate(x: Tensor, shift: Tensor, scale: Tensor, eps: float = EPS) -> Tensor:
    """Layer norm without weights of the tokens x (B, T, D), then scale and shift (B, D)."""
    # The factor is 1 + scale, so that a zero projection leaves the norm as it is.
    return F.layer_norm(x, x.shape[-1:], eps=eps) * (1 + scale[:, None]) + shift[:, None]  # (B, T, D)


class TimestepEmbedder(nn.Module):
    """The noise level's embedding: sinusoids and two layers.

    `form`: `dit`; `diffusers`, whose frequencies are spaced a little wider; or `dit_pytorch`, whose sinusoids are as
    wide as the tokens, sines first (explainingai-code/DiT-PyTorch).
    """

    def __init__(self, width: int, form: str = "dit") -> None:
        super().__init__()
        self.form, self.dim = form, width if form == "dit_pytorch" else FREQUENCIES
        self.mlp = nn.Sequential(nn.Linear(self.dim, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: Tensor) -> Tensor:
        embedded = sinusoid(t, self.dim, last=int(self.form == "diffusers"))  # (B, dim)
        if self.form == "dit_pytorch":
            embedded = embedded.roll(self.dim // 2, 1)  # sines, then cosines
        return self.mlp(embedded)  # (B, D)


class LabelEmbedder(nn.Module):
    """A row for each class, and a last one for no label, which guidance needs."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.embedding_table = nn.Embedding(classes + 1, width)

    def forward(self, label: Tensor) -> Tensor:
        """Labels (B,), -1 or the number of classes for none, to (B, D)."""
        return self.embedding_table(label % self.embedding_table.num_embeddings)  # -1 wraps to the last row


class RMSNorm(nn.Module):
    """x / RMS(x), times a learned scale per channel (Zhang & Sennrich, Root mean square layer normalization, 2019, eq.
    4), under the name that GTA's checkpoints have.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        # GTA's code adds 1e-8 to the root; this adds its square to the mean, as torch's fused kernels do.
        # In the weights' type: torch warns of bfloat16 beside float32, and has no fused kernel for it.
        return F.rms_norm(x.to(self.scale.dtype), self.scale.shape, self.scale, eps=1e-16)


QK_NORMS = {True: RMSNorm, "layer": nn.LayerNorm}  # GTA's; REPA's, with torch's eps 1e-5


class Attention(nn.Module):
    """Multi-head self-attention over tokens (B, T, D); optionally with normed queries and keys (Henry et al.,
    Query-key normalization for transformers, 2020), before any rotation.
    """

    def __init__(self, width: int, heads: int, qk_norm: bool | str = False, rotate_values: bool = False) -> None:
        super().__init__()
        self.heads, self.rotate_values = heads, rotate_values
        self.qkv = Linear(width, 3 * width)
        self.proj = Linear(width, width)
        self.q_norm = QK_NORMS[qk_norm](width // heads) if qk_norm else None
        self.k_norm = QK_NORMS[qk_norm](width // heads) if qk_norm else None

    def forward(self, x: Tensor, rotations: Tensor | None = None) -> Tensor:
        """`rotations`: see `grid_rotations`, for RoPE, and with `rotate_values` for GTA."""
        B, T, D = x.shape
        q, k, v = self.qkv(x).reshape(B, T, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)  # (B, heads, T, d)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q).type_as(v), self.k_norm(k).type_as(v)
        if rotations is not None:
            cos, sin = rotations  # (T, d) each
            q, k = rotate(q, cos, sin), rotate(k, cos, sin)  # RoFormer, eq. 14
            v = rotate(v, cos, sin) if self.rotate_values else v
        mixed = F.scaled_dot_product_attention(q, k, v)  # softmax(q k^T / sqrt(d)) v: (B, heads, T, d)
        if rotations is not None and self.rotate_values:
            mixed = rotate(mixed, cos, -sin)  # GTA: back by the query's own rotation
        return self.proj(mixed.transpose(1, 2).reshape(B, T, D))  # (B, T, D)


class Mlp(nn.Module):
    """Two layers with GELU between them: exact with `approximate="none"`, as Dosovitskiy et al. 2021 have it, or DiT's
    approximation by tanh.
    """

    def __init__(self, width: int, hidden: int, approximate: str = "tanh") -> None:
        super().__init__()
        self.approximate = approximate
        self.fc1, self.fc2 = Linear(width, hidden), Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x), approximate=self.approximate))  # (B, T, D)


class DiTBlock(nn.Module):
    """Attention and MLP, each modulated before and gated after (adaLN-Zero, the paper's figure 3)."""

    def __init__(self, width: int, attention: Attention, mlp_ratio: float, mlp_norm_eps: float) -> None:
        super().__init__()
        self.mlp_norm_eps = mlp_norm_eps
        self.attn = attention
        self.mlp = Mlp(width, int(width * mlp_ratio))
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, x: Tensor, c: Tensor, rotations: Tensor | None = None) -> Tensor:
        """Tokens x (B, T, D), condition c (B, D)."""
        *_, out = self.activations(x, c, rotations)
        return out  # (B, T, D)

    def activations(self, x: Tensor, c: Tensor, rotations: Tensor | None = None) -> Iterator[Tensor]:
        """What attention and MLP compute, before their gates, and the output, each (B, T, D); one at a time, so that
        nothing is computed after the last that is taken.
        """
        # gamma, beta and alpha of the figure, for each of the two branches; the order is that of the checkpoints.
        shift1, scale1, gate1, shift2, scale2, gate2 = self.adaLN_modulation(c).chunk(6, dim=1)  # (B, D) each
        attended = self.attn(modulate(x, shift1, scale1), rotations)  # (B, T, D)
        yield attended
        x = x + gate1[:, None] * attended  # (B, T, D)
        transformed = self.mlp(modulate(x, shift2, scale2, self.mlp_norm_eps))  # (B, T, D)
        yield transformed
        yield x + gate2[:, None] * transformed


class FinalLayer(nn.Module):
    """Tokens to patches, modulated."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.linear = Linear(width, out)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(c).chunk(2, dim=1)  # (B, D) each
        return self.linear(modulate(x, shift, scale))  # (B, T, out)
