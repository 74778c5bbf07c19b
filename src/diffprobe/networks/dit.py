"""The diffusion transformer DiT (Peebles & Xie, Scalable diffusion models with transformers, 2023): patches as tokens,
conditioned on the noise level and the label through adaLN-Zero. Parameters have the names of the published checkpoints.
"""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffprobe.config.names import dit_taps
from diffprobe.networks.condition import NOTHING, Condition

FREQUENCIES = 256  # width of the noise level's sinusoids


def sinusoid(t: Tensor, dim: int) -> Tensor:
    """(B,) to (B, dim): cosines, then sines, of frequencies 10000^(-k / (dim/2)), k = 0 .. dim/2 - 1."""
    frequencies = 10000 ** (-torch.arange(dim // 2, device=t.device) / (dim // 2))  # (dim/2,)
    angles = t[:, None] * frequencies  # (B, dim/2)
    return torch.cat([angles.cos(), angles.sin()], dim=1)  # (B, dim)


def grid_positions(h: int, w: int, dim: int, device: torch.device) -> Tensor:
    """The fixed position embeddings (h*w, dim), row by row: the first half of the channels encodes the column, the
    second the row, each as sines and cosines of frequencies 10000^(-k / (dim/4)).
    """
    # In float64 as in the official code, whose table comes from NumPy.
    frequencies = 10000 ** (-torch.arange(dim // 4, device=device, dtype=torch.float64) / (dim // 4))  # (dim/4,)

    def encoded(n: int) -> Tensor:
        angles = torch.arange(n, device=device)[:, None] * frequencies  # (n, dim/4)
        return torch.cat([angles.sin(), angles.cos()], dim=1)  # (n, dim/2)

    columns, rows = encoded(w).expand(h, w, -1), encoded(h)[:, None].expand(h, w, -1)  # (h, w, dim/2) each
    return torch.cat([columns, rows], dim=2).flatten(0, 1).float()  # (h*w, dim)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Layer norm without weights of the tokens x (B, T, D), then scale and shift (B, D)."""
    # The factor is 1 + scale, so that a zero projection leaves the norm as it is.
    return F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale[:, None]) + shift[:, None]  # (B, T, D)


class TimestepEmbedder(nn.Module):
    """The noise level's embedding: sinusoids and two layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: Tensor) -> Tensor:
        return self.mlp(sinusoid(t, FREQUENCIES))  # (B, D)


class LabelEmbedder(nn.Module):
    """A row for each class, and a last one for no label, which guidance needs."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.embedding_table = nn.Embedding(classes + 1, width)

    def forward(self, label: Tensor) -> Tensor:
        """Labels (B,), -1 for none, to (B, D)."""
        return self.embedding_table(label % self.embedding_table.num_embeddings)  # -1 wraps to the last row


class Attention(nn.Module):
    """Multi-head self-attention over tokens (B, T, D)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        B, T, D = x.shape
        q, k, v = self.qkv(x).reshape(B, T, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)  # (B, heads, T, d)
        mixed = F.scaled_dot_product_attention(q, k, v)  # softmax(q k^T / sqrt(d)) v: (B, heads, T, d)
        return self.proj(mixed.transpose(1, 2).reshape(B, T, D))  # (B, T, D)


class Mlp(nn.Module):
    """Two layers with GELU between them: exact with `approximate="none"`, as Dosovitskiy et al. 2021 have it, or DiT's
    approximation by tanh.
    """

    def __init__(self, width: int, hidden: int, approximate: str = "tanh") -> None:
        super().__init__()
        self.approximate = approximate
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x), approximate=self.approximate))  # (B, T, D)


class DiTBlock(nn.Module):
    """Attention and MLP, each modulated before and gated after (adaLN-Zero, the paper's figure 3)."""

    def __init__(self, width: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.attn = Attention(width, heads)
        self.mlp = Mlp(width, int(width * mlp_ratio))
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """Tokens x (B, T, D), condition c (B, D)."""
        # gamma, beta and alpha of the figure, for each of the two branches; the order is that of the checkpoints.
        shift1, scale1, gate1, shift2, scale2, gate2 = self.adaLN_modulation(c).chunk(6, dim=1)  # (B, D) each
        x = x + gate1[:, None] * self.attn(modulate(x, shift1, scale1))  # (B, T, D)
        return x + gate2[:, None] * self.mlp(modulate(x, shift2, scale2))  # (B, T, D)


class FinalLayer(nn.Module):
    """Tokens to patches, modulated."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, out)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(c).chunk(2, dim=1)  # (B, D) each
        return self.linear(modulate(x, shift, scale))  # (B, T, out)


class DiT(nn.Module):
    """`forward(x, c_noise, cond)`: x (B, image_channels, H, W), H and W divisible by `patch`; c_noise (B,).

    The augmentation label enters through a linear embedding, to which zeros add nothing (EDM, appendix F.2).

    Taps: block_0.., the residual stream after each block as a map (B, width, H/patch, W/patch). The output is zero
    before training.
    """

    def __init__(
        self,
        image_channels: int,
        width: int,  # of the tokens, D
        depth: int,  # blocks
        heads: int,  # must divide the width
        patch: int,  # height and width of a token's patch
        mlp_ratio: float = 4.0,  # width of the MLPs, in widths
        time_scale: float = 1.0,  # factor on c_noise before its sinusoids, which are made for t up to 1000
        classes: int = 0,  # labels it is conditioned on, 0 for none
        augment: int = 0,  # length of the augmentation label, 0 for none
        out_channels: int | None = None,  # twice the image's with a learned variance; None: the image's
    ) -> None:
        super().__init__()
        self.patch, self.time_scale, self.classes = patch, time_scale, classes
        self.taps = dit_taps(depth)
        # Submodules are created in a fixed order: each draws its initial weights when it is made.
        # A ModuleDict, since the published names are those of timm's PatchEmbed: x_embedder.proj.weight.
        self.x_embedder = nn.ModuleDict({"proj": nn.Conv2d(image_channels, width, patch, stride=patch)})
        self.t_embedder = TimestepEmbedder(width)
        self.y_embedder = LabelEmbedder(classes, width) if classes else None
        self.a_embedder = nn.Linear(augment, width, bias=False) if augment else None
        self.blocks = nn.ModuleList(DiTBlock(width, heads, mlp_ratio) for _ in range(depth))
        self.final_layer = FinalLayer(width, patch**2 * (out_channels or image_channels))
        self.initialise()

    @torch.no_grad()
    def initialise(self) -> None:
        """The official initialisation: Xavier, small embeddings, zero where a block or the output joins."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                # As a matrix: the patches' convolution is a linear layer over flattened patches.
                nn.init.xavier_uniform_(module.weight.view(len(module.weight), -1))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for name, weight in self.named_parameters():
            if name.startswith(("t_embedder", "y_embedder")) and name.endswith("weight"):
                nn.init.normal_(weight, std=0.02)
            # "Zero" in adaLN-Zero: every gate, so each block starts as the identity; and the output.
            elif "adaLN_modulation" in name or name == "final_layer.linear.weight":
                nn.init.zeros_(weight)

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
        h, w = x.shape[2] // self.patch, x.shape[3] // self.patch  # T = h * w
        c = self.condition(c_noise, cond)  # (B, D)
        tapped: dict[str, Tensor] = {}
        # `activations` is a generator, so returning early leaves the later blocks uncomputed.
        for name, tokens in self.activations(self.tokens(x, h, w), c):
            if name in taps:
                tapped[name] = tokens.mT.unflatten(2, (h, w))  # (B, D, h, w)
                if features_only and len(tapped) == len(taps):
                    return None, tapped
        return self.image(self.final_layer(tokens, c), h, w), tapped  # (B, out_channels, H, W)

    def tokens(self, x: Tensor, h: int, w: int) -> Tensor:
        embedded = self.x_embedder["proj"](x).flatten(2).mT  # (B, T, D)
        return embedded + grid_positions(h, w, embedded.shape[2], x.device)  # (B, T, D)

    def condition(self, c_noise: Tensor, cond: Condition) -> Tensor:
        c = self.t_embedder(self.time_scale * c_noise)  # (B, D)
        if self.y_embedder is not None:
            no_label = torch.full_like(c_noise, -1, dtype=torch.long)  # (B,)
            c = c + self.y_embedder(no_label if cond.label is None else cond.label)  # (B, D)
        if self.a_embedder is not None and cond.augment is not None:
            c = c + self.a_embedder(cond.augment)  # (B, D)
        return c  # (B, D)

    def activations(self, tokens: Tensor, c: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Each block's name and output (B, T, D), in the order of computation."""
        for name, block in zip(self.taps, self.blocks, strict=True):
            tokens = block(tokens, c)  # (B, T, D)
            yield name, tokens

    def image(self, patches: Tensor, h: int, w: int) -> Tensor:
        """Tokens (B, T, patch*patch*C), each (row, column, channel), to (B, C, H, W)."""
        p = self.patch
        cells = patches.unflatten(2, (p, p, -1)).unflatten(1, (h, w))  # (B, h, w, p, p, C)
        return cells.permute(0, 5, 1, 3, 2, 4).reshape(len(patches), -1, h * p, w * p)  # (B, C, h*p, w*p)
