"""The diffusion transformer DiT (Peebles & Xie, Scalable diffusion models with transformers, 2023): patches as tokens,
the noise level and the label through adaLN-Zero. Parameters bear the names of the published checkpoints.
"""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffprobe.config.names import dit_taps
from diffprobe.networks.condition import NOTHING, Condition

FREQUENCIES = 256  # width of the sinusoids of the noise level


def sinusoid(t: Tensor, dim: int) -> Tensor:
    """(B,) to (B, dim): cosines, then sines, of frequencies 10000^(-k / (dim/2)), k = 0 .. dim/2 - 1."""
    frequencies = 10000 ** (-torch.arange(dim // 2, device=t.device) / (dim // 2))
    angles = t[:, None] * frequencies  # (B, dim/2)
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def grid_positions(h: int, w: int, dim: int, device: torch.device) -> Tensor:
    """The fixed table (h*w, dim) added to the tokens: the first half of the channels encodes the column, the second
    the row, each as sines and cosines of frequencies 10000^(-k / (dim/4)), row by row.
    """
    frequencies = 10000 ** (-torch.arange(dim // 4, device=device, dtype=torch.float64) / (dim // 4))

    def encoded(n: int) -> Tensor:
        angles = torch.arange(n, device=device)[:, None] * frequencies  # (n, dim/4)
        return torch.cat([angles.sin(), angles.cos()], dim=1)  # (n, dim/2)

    columns, rows = encoded(w).expand(h, w, -1), encoded(h)[:, None].expand(h, w, -1)
    return torch.cat([columns, rows], dim=2).flatten(0, 1).float()


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Layer norm without weights, then scale and shift (B, D) of the tokens x (B, T, D)."""
    return F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale[:, None]) + shift[:, None]


class Embedder(nn.Module):
    """The noise level's embedding: sinusoids and two layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: Tensor) -> Tensor:
        return self.mlp(sinusoid(t, FREQUENCIES))  # (B, D)


class Labels(nn.Module):
    """A row for each class, and a last one for none."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.embedding_table = nn.Embedding(classes + 1, width)

    def forward(self, label: Tensor) -> Tensor:
        """Labels (B,), -1 for none, to (B, D)."""
        return self.embedding_table(label % self.embedding_table.num_embeddings)  # -1 becomes the last


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
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.proj(mixed.transpose(1, 2).reshape(B, T, D))


class Mlp(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


class Block(nn.Module):
    """Attention and MLP, each modulated before and gated after (adaLN-Zero, the paper's figure 3)."""

    def __init__(self, width: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.attn = Attention(width, heads)
        self.mlp = Mlp(width, int(width * mlp_ratio))
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """Tokens x (B, T, D), condition c (B, D)."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.adaLN_modulation(c).chunk(6, dim=1)  # (B, D) each
        x = x + gate1[:, None] * self.attn(modulated(x, shift1, scale1))
        return x + gate2[:, None] * self.mlp(modulated(x, shift2, scale2))


class FinalLayer(nn.Module):
    """Tokens to patches, modulated."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, out)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(c).chunk(2, dim=1)
        return self.linear(modulated(x, shift, scale))  # (B, T, out)


class DiT(nn.Module):
    """`forward(x, c_noise, cond)`: x (B, image_channels, H, W), H and W divisible by `patch`; c_noise (B,).

    `classes` is the number of labels where the network is told them, else 0; `augment` the length of what it is told of
    an image's view (EDM's augmentation label: a linear embedding, which zeros leave out), else 0. `time_scale`
    multiplies c_noise before its sinusoids, which are made for t up to 1000.

    Taps: block_0.., the residual stream after each block as a map (B, width, H/patch, W/patch). The output is zero
    before training.
    """

    def __init__(
        self,
        image_channels: int,
        width: int,
        depth: int,
        heads: int,
        patch: int,
        mlp_ratio: float = 4.0,
        time_scale: float = 1.0,
        classes: int = 0,
        augment: int = 0,
        out_channels: int | None = None,
    ) -> None:
        super().__init__()
        self.patch, self.time_scale, self.classes = patch, time_scale, classes
        self.taps = dit_taps(depth)
        self.x_embedder = nn.ModuleDict({"proj": nn.Conv2d(image_channels, width, patch, stride=patch)})
        self.t_embedder = Embedder(width)
        self.y_embedder = Labels(classes, width) if classes else None
        self.a_embedder = nn.Linear(augment, width, bias=False) if augment else None
        self.blocks = nn.ModuleList(Block(width, heads, mlp_ratio) for _ in range(depth))
        self.final_layer = FinalLayer(width, patch**2 * (out_channels or image_channels))
        self.initialise()

    def initialise(self) -> None:
        """The official initialisation: Xavier, small embeddings, zero where a block or the output joins."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.xavier_uniform_(module.weight.view(len(module.weight), -1))
            if getattr(module, "bias", None) is not None:
                nn.init.zeros_(module.bias)
        embeddings = [self.t_embedder.mlp[0], self.t_embedder.mlp[2]]
        embeddings += [self.y_embedder.embedding_table] if self.y_embedder else []
        for module in embeddings:
            nn.init.normal_(module.weight, std=0.02)
        joins = [block.adaLN_modulation[1] for block in self.blocks]
        for module in (*joins, self.final_layer.adaLN_modulation[1], self.final_layer.linear):
            nn.init.zeros_(module.weight)

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
        h, w = x.shape[2] // self.patch, x.shape[3] // self.patch
        c = self.condition(c_noise, cond)  # (B, D)
        found: dict[str, Tensor] = {}
        for name, tokens in self.activations(self.tokens(x, h, w), c):
            if name in taps:
                found[name] = tokens.mT.unflatten(2, (h, w))  # (B, D, h, w)
                if features_only and len(found) == len(taps):
                    return None, found
        return self.image(self.final_layer(tokens, c), h, w), found

    def tokens(self, x: Tensor, h: int, w: int) -> Tensor:
        embedded = self.x_embedder["proj"](x).flatten(2).mT  # (B, T, D)
        return embedded + grid_positions(h, w, embedded.shape[2], x.device)

    def condition(self, c_noise: Tensor, cond: Condition) -> Tensor:
        c = self.t_embedder(self.time_scale * c_noise)  # (B, D)
        if self.y_embedder is not None:
            label = cond.label if cond.label is not None else torch.full_like(c_noise, -1, dtype=torch.long)
            c = c + self.y_embedder(label)
        if self.a_embedder is not None and cond.augment is not None:
            c = c + self.a_embedder(cond.augment)
        return c

    def activations(self, tokens: Tensor, c: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Each block's name and output (B, T, D), in the order of computation."""
        for name, block in zip(self.taps, self.blocks, strict=True):
            tokens = block(tokens, c)
            yield name, tokens

    def image(self, patches: Tensor, h: int, w: int) -> Tensor:
        """Tokens (B, T, patch*patch*C), each (row, column, channel), to (B, C, H, W)."""
        p = self.patch
        cells = patches.unflatten(2, (p, p, -1)).unflatten(1, (h, w))  # (B, h, w, p, p, C)
        return cells.permute(0, 5, 1, 3, 2, 4).reshape(len(patches), -1, h * p, w * p)
