"""The diffusion transformer DiT (Peebles & Xie, Scalable diffusion models with transformers, 2023): patches as tokens,
conditioned on the noise level and the label through adaLN-Zero. Parameters have the names of the published checkpoints.

Options cover its relatives, whose checkpoints have the same names: RoPE and GTA in place of the position table
(`networks.positions`), SiT (Ma et al. 2024), REPA (Yu et al. 2025), diffusers' port, and DiT-PyTorch's recipe of faces.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from diffprobe.config.names import dit_named_taps, dit_taps
from diffprobe.networks.compiled import constant_when_compiled
from diffprobe.networks.condition import NOTHING, Condition
from diffprobe.networks.dit_blocks import Attention, DiTBlock, FinalLayer, LabelEmbedder, TimestepEmbedder
from diffprobe.networks.positions import grid_positions, grid_rotations


class DiT(nn.Module):
    """`forward(x, c_noise, cond)`: x (B, image_channels, H, W), H and W divisible by `patch`; c_noise (B,).

    The augmentation label enters through a linear embedding, to which zeros add nothing (EDM, appendix F.2).

    Taps: block_0.., the residual stream after each block as a map (B, width, H/patch, W/patch); attn_0.. and mlp_0..,
    what the branches of each block compute, before their gates. The output is zero before training.

    With `recompute` set, a training step keeps only the input of each block and computes the rest again in the backward
    pass (Chen et al., Training deep nets with sublinear memory cost, 2016).
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
        position: str = "abs",  # a fixed table, `abs_rows` with the row first; or `rope`, `gta`
        qk_norm: bool | str = False,  # RMS norms of queries and keys; `layer`: layer norms
        time_embedding: str = "dit",  # or `diffusers`, `dit_pytorch`: see `TimestepEmbedder`
        mlp_norm_eps: float = 1e-6,  # of the layer norm before an MLP; diffusers' default: 1e-5
        reversed_flow: bool = False,  # takes 1 - c_noise and predicts the negative velocity (SiT)
        discard_variance: bool = False,  # outputs twice the channels and drops the second half (SiT)
        classes: int = 0,  # labels it is conditioned on, 0 for none
        augment: int = 0,  # length of the augmentation label, 0 for none
        out_channels: int | None = None,  # twice the image's with a learned variance; None: the image's
    ) -> None:
        super().__init__()
        self.patch, self.time_scale, self.classes = patch, time_scale, classes
        self.position, self.rotary = position, position in ("rope", "gta")
        self.width, self.head_width = width, width // heads
        self.reversed_flow, self.recompute = reversed_flow, False
        self.out_channels = out_channels or image_channels
        self.taps, self.named_taps = dit_taps(depth), dit_named_taps(depth)
        # Submodules are created in a fixed order: each draws its initial weights when it is made.
        # A ModuleDict, since the published names are those of timm's PatchEmbed: x_embedder.proj.weight.
        self.x_embedder = nn.ModuleDict({"proj": nn.Conv2d(image_channels, width, patch, stride=patch)})
        self.t_embedder = TimestepEmbedder(width, time_embedding)
        self.y_embedder = LabelEmbedder(classes, width) if classes else None
        self.a_embedder = nn.Linear(augment, width, bias=False) if augment else None
        self.blocks = nn.ModuleList(
            DiTBlock(width, Attention(width, heads, qk_norm, position == "gta"), mlp_ratio, mlp_norm_eps)
            for _ in range(depth)
        )
        final_channels = 2 * image_channels if discard_variance else self.out_channels
        self.final_layer = FinalLayer(width, patch**2 * final_channels)
        # Fixed tables of the last grid seen. Not in the state dict: they follow from the options and the grid.
        self.register_buffer("pos_embed", None, persistent=False)  # (1, T, D)
        self.register_buffer("rotations", None, persistent=False)  # (2, T, D / heads): cosines, sines
        self.grid: tuple[int, int] | None = None
        self.register_load_state_dict_pre_hook(drop_position_table)
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
        h, w = (constant(size) // self.patch for size in x.shape[2:])  # T = h * w
        c = self.condition(c_noise, cond)  # (B, D)
        tapped: dict[str, Tensor] = {}
        # `activations` is a generator, so returning early leaves the later blocks uncomputed.
        patches, rotations = self.tokens(x, h, w)
        for name, tokens in self.activations(patches, rotations, c, taps):
            if name in taps:
                tapped[name] = tokens.mT.unflatten(2, (h, w))  # (B, D, h, w)
                if features_only and len(tapped) == len(taps):
                    return None, tapped
        out = self.image(self.final_layer(tokens, c), h, w)[:, : self.out_channels]  # (B, out_channels, H, W)
        return -out if self.reversed_flow else out, tapped

    def tokens(self, x: Tensor, h: int, w: int) -> tuple[Tensor, Tensor | None]:
        """Patches as tokens (B, T, D) with the position table, or without it and the rotations of queries and keys."""
        embedded, table = self.x_embedder["proj"](x).flatten(2).mT, self.table(h, w, x.device)  # (B, T, D)
        return (embedded, table) if self.rotary else (embedded + table, None)

    # Compiling, a constant: else the first call would compile the table's computation too, and the second all again.
    @constant_when_compiled
    def table(self, h: int, w: int, device: torch.device) -> Tensor:
        """The table of the grid of h x w tokens, computed where the last one was of another grid."""
        if self.grid != (h, w):
            # Also in inference mode an ordinary tensor: a later training step keeps it for its backward pass.
            with torch.inference_mode(False):
                if self.rotary:
                    self.rotations = grid_rotations(h, w, self.head_width, device)
                else:
                    self.pos_embed = self.position_table(h, w, device)
            self.grid = (h, w)
        return self.rotations if self.rotary else self.pos_embed

    @property
    def fixed_parameters(self) -> int:
        """Entries of the position table, which the paper counts with the parameters; DiT-PyTorch holds none."""
        return self.pos_embed.numel() if self.position == "abs" and self.pos_embed is not None else 0

    def position_table(self, h: int, w: int, device: torch.device) -> Tensor:
        """What is added to the patches of a grid of h x w: (1, h*w, D). The published checkpoints hold it."""
        return grid_positions(h, w, self.width, device, rows_first=self.position == "abs_rows")[None]

    def condition(self, c_noise: Tensor, cond: Condition) -> Tensor:
        c = self.t_embedder(self.time_scale * (1 - c_noise if self.reversed_flow else c_noise))  # (B, D)
        if "time" in cond.zeroed:
            c = torch.zeros_like(c)
        if self.y_embedder is not None and "label" not in cond.zeroed:
            no_label = torch.full_like(c_noise, -1, dtype=torch.long)  # (B,)
            c = c + self.y_embedder(no_label if cond.label is None else cond.label)  # (B, D)
        if self.a_embedder is not None and cond.augment is not None:
            c = c + self.a_embedder(cond.augment)  # (B, D)
        return c  # (B, D)

    def activations(
        self, tokens: Tensor, rotations: Tensor | None, c: Tensor, taps: Sequence[str] = ()
    ) -> Iterator[tuple[str, Tensor]]:
        """Each block's branches and output (B, T, D) by name, in the order of computation; of a block that is computed
        again in the backward pass, and of whose branches no tap is named, only the output.
        """
        recompute = self.recompute and self.training and torch.is_grad_enabled()
        names = iter(self.named_taps)
        for block, attn, mlp, out in zip(self.blocks, names, names, names, strict=True):
            assert isinstance(block, DiTBlock)
            if recompute and attn not in taps and mlp not in taps:
                # No draws within a block, so no state of a generator to restore.
                tokens = checkpoint(block, tokens, c, rotations, use_reentrant=False, preserve_rng_state=False)
                yield out, tokens
                continue
            for name, activation in zip((attn, mlp, out), block.activations(tokens, c, rotations), strict=True):
                yield name, activation  # (B, T, D)
            tokens = activation

    def image(self, patches: Tensor, h: int, w: int) -> Tensor:
        """Tokens (B, T, patch*patch*C), each (row, column, channel), to (B, C, H, W)."""
        p = self.patch
        cells = patches.unflatten(2, (p, p, -1)).unflatten(1, (h, w))  # (B, h, w, p, p, C)
        return cells.permute(0, 5, 1, 3, 2, 4).reshape(len(patches), -1, h * p, w * p)  # (B, C, h*p, w*p)


def constant(n: int) -> int:
    """n, to which compiled code is specialised: torch.compile takes sizes that change for variables."""
    return len((0,) * n)


def drop_position_table(
    network: DiT,
    state: dict[str, Tensor],
    prefix: str,
    _metadata: dict[str, Any],
    _strict: bool,
    _missing: list[str],
    _unexpected: list[str],
    errors: list[str],
) -> None:
    """Before weights are loaded, leave out the fixed table that published checkpoints hold; report another."""
    name = f"{prefix}pos_embed"
    if name not in state or network.rotary:
        return
    table = state.pop(name)
    if table.is_meta:
        return
    tokens = table.shape[1] if table.ndim == 3 else 0
    grids = [(h, tokens // h) for h in range(1, tokens + 1) if tokens % h == 0]
    candidates = (network.position_table(h, w, table.device) for h, w in grids)
    # bfloat16, in which a file may hold it, has three digits.
    if not any(own.shape == table.shape and torch.allclose(own, table.float(), atol=1e-2) for own in candidates):
        errors.append(f"{name}: not the fixed table of sines and cosines of position `{network.position}`")
