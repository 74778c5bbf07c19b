"""Position codes of tokens on a grid: the fixed table that DiT adds, and the rotations of RoPE and GTA.

With R_i the rotation of token i, block-diagonal over pairs of channels:

- RoPE (Su et al., RoFormer: enhanced transformer with rotary position embedding, 2021, eq. 14 to 16) takes R_i q_i and
  R_j k_j, so that the logits q_i' R_(j-i) k_j depend on relative positions alone;
- GTA (Miyato et al., GTA: a geometry-aware attention mechanism for multi-view transformers, ICLR 2024; here with SO(2)
  as the group) also takes R_j v_j and turns the sum back by R_i', so that values too arrive in their query's frame:
  out_i = sum_j softmax_j(q_i' R_(j-i) k_j) R_(j-i) v_j. As R_(j-i) = R_i' R_j, any fused attention computes it.

Both have no parameters.
"""

import torch
from torch import Tensor

from diffprobe.runtime.devices import widest_float


def grid_positions(h: int, w: int, dim: int, device: torch.device, rows_first: bool = False) -> Tensor:
    """The fixed position embeddings (h*w, dim), row by row: the first half of the channels encodes the column, the
    second the row (or the reverse), each as sines and cosines of frequencies 10000^(-k / (dim/4)).
    """
    # In float64 as in the official code, whose table comes from NumPy.
    frequencies = 10000 ** (-torch.arange(dim // 4, device=device, dtype=widest_float(device)) / (dim // 4))  # (dim/4,)

    def encoded(n: int) -> Tensor:
        angles = torch.arange(n, device=device)[:, None] * frequencies  # (n, dim/4)
        return torch.cat([angles.sin(), angles.cos()], dim=1)  # (n, dim/2)

    columns, rows = encoded(w).expand(h, w, -1), encoded(h)[:, None].expand(h, w, -1)  # (h, w, dim/2) each
    return torch.cat([rows, columns] if rows_first else [columns, rows], dim=2).flatten(0, 1).float()  # (h*w, dim)


def grid_rotations(h: int, w: int, dim: int, device: torch.device) -> Tensor:
    """Cosines and sines (2, h*w, dim) of the angles by which tokens rotate their `dim` channels; each angle stands at
    both channels of its pair, with the signs that `rotate` needs.

    As in GTA's code for DiT: pair 2k turns with the row and pair 2k + 1 with the column, at frequency
    10000^(-k / (dim/4)), by integer positions.
    """
    frequencies = 10000 ** (-torch.arange(dim // 4, device=device, dtype=widest_float(device)) / (dim // 4))  # (dim/4,)
    rows, columns = torch.meshgrid(torch.arange(h, device=device), torch.arange(w, device=device), indexing="ij")
    places = torch.stack([rows, columns], dim=2).flatten(0, 1)  # (T, 2)
    angles = (places[:, None] * frequencies[:, None]).flatten(1)  # (T, dim/4, 2) to (T, dim/2): pairs 2k, 2k + 1
    cos, sin = angles.cos(), angles.sin()
    return torch.stack([torch.stack([cos, cos], 2), torch.stack([-sin, sin], 2)]).flatten(2).float()  # (2, T, dim)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Channels (.., T, d) in adjacent pairs (a, b), rotated to (a cos - b sin, b cos + a sin) (RoFormer, eq. 34) by
    `grid_rotations`.

    Computed in float32 where x is bfloat16: position differences at low frequencies are below its resolution.
    """
    swapped = x.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)  # (b, a)
    return torch.addcmul(x * cos, swapped, sin).type_as(x)  # (.., T, d)
