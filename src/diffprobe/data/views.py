"""Views: what an image is turned into before it is encoded or trained on.

identity   the image as it is
mirror     flipped left to right
crop       a random flip (p = 0.5), then a random crop of the padded image at its original size: the usual augmentation
           of CIFAR-10 (He et al. 2016, section 4.2); the config asks for `count` draws of it

In files a view is a plain dictionary: see `StoredView`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, TypedDict

import torch
from torch import Tensor

from diffprobe.config.names import VIEW_LABEL
from diffprobe.runtime.keyed import Draws, Key, bits

if TYPE_CHECKING:
    from diffprobe.config.latents import View
    from diffprobe.config.views import Crop

LABEL_DIM = VIEW_LABEL  # numbers in an image's augmentation label


class StoredView(TypedDict, total=False):
    """One view as the attributes of a store have it; the last three keys belong to crops."""

    kind: str  # also `foreign`, for imported latents whose augmentation is not recorded
    draw: int  # the index of the view, which keys its random draws
    pad: int
    flip: bool
    fill: Literal["zero", "edge"]


def expand(views: Sequence[View]) -> list[StoredView]:
    """The configured views one by one: `count` unrolled, each with its index in the list as its `draw`."""
    expanded: list[StoredView] = []
    for view in views:
        settings = view.model_dump(mode="json", exclude={"count"})
        for _ in range(view.number):
            stored: StoredView = {"kind": view.kind}
            for key in ("pad", "flip", "fill"):  # in this order: it reaches the bytes of zarr.json
                if key in settings:
                    stored[key] = settings[key]
            expanded.append({**stored, "draw": len(expanded)})
    return expanded


def apply(view: StoredView, images: Tensor, rows: Tensor, seed: int) -> Tensor:
    """One view of images, uint8 (B, H, W, C) to uint8 (B, H, W, C).

    Rows int64 (B,) are the images' indices in the image store. Draws are keyed by seed, row and the view's draw alone,
    so every batching gives the same bytes.
    """
    if view["kind"] == "identity":
        return images
    if view["kind"] == "mirror":
        return images.flip(2)
    table = view_table([view]).to(rows.device).expand(len(rows), -1)  # (B, 4)
    return crop(images, *draw_crops(table, rows, seed), view["fill"])


def padded_crop(x: Tensor, draws: Draws, by: Crop) -> Tensor:
    """Images (B, C, H, W) in [-1, 1], each flipped and cropped anew for each of its draws; black is -1."""
    view: StoredView = {"kind": "crop", "pad": by.pad, "flip": by.flip}
    table = view_table([view]).to(x.device).expand(len(x), -1)  # (B, 4)
    cropped = crop((x + 1).permute(0, 2, 3, 1), *draw_crops(table, draws.rows, draws.seed), by.fill)
    return cropped.permute(0, 3, 1, 2) - 1


def view_table(views: Sequence[StoredView]) -> Tensor:
    """Views as numbers, int64 (V, 4): draw, padding, random flip (0 or 1), certain flip (0 or 1).

    All but the draw are 0 for an identity, and for views of foreign kinds, whose transforms are not recorded.
    """
    return torch.tensor(
        [
            [view.get("draw", 0), view.get("pad", 0), view.get("flip", False), view["kind"] == "mirror"]
            for view in views
        ]
    )  # fmt: skip


def draw_crops(table: Tensor, rows: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Each image's shift, int64 (B, 2), down and right in [-pad, pad], and whether it is flipped, bool (B,).

    `table` (B, 4) holds the row of `view_table` for each image's view.
    """
    draw, pad, random_flip, mirror = table.unbind(1)
    # Keyed draws instead of a generator's state: the n-th image's view never depends on the n - 1 before.
    words = bits(Key(seed, "view"), rows, 3, draw)
    # The upper 23 bits and a half: a rule of its own, since stores of latents were made by it.
    u = ((words >> 9).to(torch.float32) + 0.5) * 2.0**-23  # (B, 3) in (0, 1): down, right, flip
    shift = (u[:, :2] * (2 * pad + 1)[:, None]).long() - pad[:, None]  # uniform over 2 pad + 1 integers
    return shift, (u[:, 2] < 0.5) & random_flip.bool() | mirror.bool()


def augment_labels(table: Tensor, rows: Tensor, seed: int) -> Tensor:
    """What its view did to each image, float32 (B, 3): shift down and right in units of the padding, 1 if flipped.

    A network conditioned on these labels does not leak augmentations into its samples: given zeros, it draws images
    from the undistorted distribution (Karras et al. 2022, EDM, appendix F.2). `table` is as in `draw_crops`.
    """
    if not table[:, 1:].any():  # spares stores of identities the hashing of draws
        return torch.zeros(len(rows), LABEL_DIM)
    shift, flip = draw_crops(table, rows, seed)
    return torch.cat([shift / table[:, 1:2].clamp(min=1), flip[:, None]], dim=1)


def crop(images: Tensor, shift: Tensor, flip: Tensor, fill: Literal["zero", "edge"]) -> Tensor:
    """Flip where `flip` (B,) says so, then cut (H, W) from the padded image at `shift` (B, 2) = (down, right).

    Padding is never materialised: coordinates are clamped to the image, which repeats its edge, and with a fill of
    `zero` what lies outside is masked.
    """
    b, h, w, _ = images.shape
    # One gather for shift, padding and flip, with coordinates per image.
    y = torch.arange(h, device=images.device) + shift[:, :1]  # (B, H)
    x = torch.arange(w, device=images.device) + shift[:, 1:]  # (B, W)
    inside = ((y >= 0) & (y < h))[:, :, None] & ((x >= 0) & (x < w))[:, None, :]  # (B, H, W)
    y, x = y.clamp(0, h - 1), x.clamp(0, w - 1)
    x = torch.where(flip[:, None], w - 1 - x, x)  # after clamping, so that the flipped image is what is padded
    cropped = images[torch.arange(b, device=images.device)[:, None, None], y[:, :, None], x[:, None, :]]  # (B, H, W, C)
    return cropped if fill == "edge" else cropped * inside[..., None]
