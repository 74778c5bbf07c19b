"""Views: what an image is turned into before it is encoded, or trained on. Kinds, as in the config:

{kind: identity}
{kind: mirror}                                                  flipped left to right
{kind: crop, pad: 4, flip: true, fill: zero | edge, count: 10}  a random flip (p 0.5), then a random crop of the
                                                                padded image at its own size; `count` draws of it
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from diffprobe.config.names import VIEW_LABEL
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.keyed import Key, uniform

View = dict[str, Any]

DEFAULTS: dict[str, View] = {
    "identity": {},
    "mirror": {},
    "crop": {"pad": 4, "flip": True, "fill": "zero", "count": 1},
}
FILLS = ("zero", "edge")
LABEL = VIEW_LABEL  # numbers that tell what a view has done to an image


def expand(views: list[View]) -> list[View]:
    """One entry per view: defaults filled in, `count` unrolled, each with its index in the list as its `draw`.

    Raises UserError for an unknown kind, option or fill.
    """
    expanded: list[View] = []
    for view in views:
        full = complete(view)
        count = full.pop("count", 1)
        expanded += [{**full, "draw": len(expanded) + i} for i in range(count)]
    return expanded


def complete(view: View) -> View:
    """A view with its kind's defaults."""
    kind = view.get("kind")
    if kind not in DEFAULTS:
        raise UserError(f"views: kind {kind!r} is unknown; use {', '.join(DEFAULTS)}")
    full = {"kind": kind, **DEFAULTS[kind], **view}
    for option in full.keys() - DEFAULTS[kind].keys() - {"kind"}:
        raise UserError(f"views: {kind} has no option {option!r}; it has {', '.join(DEFAULTS[kind]) or 'none'}")
    if full.get("fill", "zero") not in FILLS:
        raise UserError(f"views: fill {full['fill']!r} is unknown; use {' or '.join(FILLS)}")
    return full


def apply(view: View, images: Tensor, rows: Tensor, seed: int) -> Tensor:
    """One view of images, uint8 (B, H, W, C) to uint8 (B, H, W, C).

    `view` is an entry of `expand`; rows int64 (B,) are the images' indices in the image store: with `seed` and the
    view's draw they alone decide what is drawn, so that any batching gives the same bytes.
    """
    if view["kind"] == "identity":
        return images
    if view["kind"] == "mirror":
        return images.flip(2)
    kinds = table([view]).to(rows.device).expand(len(rows), -1)
    return shifted(images, *drawn(kinds, rows, seed), view["fill"])


def table(views: Sequence[View]) -> Tensor:
    """What is drawn for views, int64 (V, 4): the draw, the most that is shifted, whether flipped at random, or always.

    Nothing but a draw for the image as it is, and for views of other kinds, of which nothing is known.
    """
    names = ("draw", "pad", "flip")
    return torch.tensor([[*(view.get(name, 0) for name in names), view["kind"] == "mirror"] for view in views])


def drawn(kinds: Tensor, rows: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """What is done to each image by a view, its row of `table`, int64 (B, 4): its shift int64 (B, 2), down and right
    from -pad to pad, and its flip (B,).
    """
    draw, pad, sometimes, always = kinds.unbind(1)
    u = uniform(Key(seed, "view"), rows, (3,), draw)  # (B, 3)
    shift = (u[:, :2] * (2 * pad + 1)[:, None]).long() - pad[:, None]
    return shift, (u[:, 2] < 0.5) & sometimes.bool() | always.bool()


def label(kinds: Tensor, rows: Tensor, seed: int) -> Tensor:
    """What was done to each image by its view, a row of `table`: float32 (B, 3): shift down and right, in paddings,
    and 1 where it was flipped.

    A network that is told this does not take the augmented images for the dataset's own: asked with zeros, it draws
    those (Karras et al., Training GANs with limited data, 2020; EDM 2022, F.2).
    """
    if not kinds[:, 1:].any():
        return torch.zeros(len(rows), LABEL)
    shift, flip = drawn(kinds, rows, seed)
    return torch.cat([shift / kinds[:, 1:2].clamp(min=1), flip[:, None]], dim=1)


def shifted(images: Tensor, shift: Tensor, flip: Tensor, fill: str) -> Tensor:
    """Each image flipped where `flip` (B,), then read from `shift` (B, 2) = (down, right) on, in its own size."""
    b, h, w, _ = images.shape
    y = torch.arange(h, device=images.device) + shift[:, :1]  # (B, H)
    x = torch.arange(w, device=images.device) + shift[:, 1:]  # (B, W)
    inside = ((y >= 0) & (y < h))[:, :, None] & ((x >= 0) & (x < w))[:, None, :]  # (B, H, W)
    y, x = y.clamp(0, h - 1), x.clamp(0, w - 1)
    x = torch.where(flip[:, None], w - 1 - x, x)
    found = images[torch.arange(b, device=images.device)[:, None, None], y[:, :, None], x[:, None, :]]  # (B, H, W, C)
    return found if fill == "edge" else found * inside[..., None]
