"""What the code of an image holds (Hudson et al. 2024, "SODA", section 4.2): images decoded from it by different noise,
from what lies between two codes, and from a code with one part of another's.

All are functions of the codes and of the numbers of their noise, as samples are; images are uint8 (..., H, W, C).
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from diffprobe.data.pixels import to_float
from diffprobe.evaluation.generation.reconstruction import Similarity
from diffprobe.evaluation.sampling import Drawing, draw


@torch.inference_mode()
def encoded(drawing: Drawing, images: Tensor) -> Tensor:
    """The codes (B, D) of images (B, H, W, C), as they are."""
    parts = to_float(images.to(drawing.device)).split(drawing.batch)
    return torch.cat([drawing.model.encode(part) for part in parts])


def decoded(drawing: Drawing, codes: Tensor, noise: Tensor) -> Tensor:
    """Images (M, H, W, C) from codes (M, D); the one with the noise of a number, int64 (M,), starts as that sample."""
    parts = zip(codes.split(drawing.batch), noise.to(codes.device).split(drawing.batch), strict=True)
    return torch.cat([decoded_at_once(drawing, part, numbers) for part, numbers in parts])


def decoded_at_once(drawing: Drawing, codes: Tensor, noise: Tensor) -> Tensor:
    return draw(drawing.model._replace(codes=lambda _: codes), drawing.sampler, noise, drawing.seed)


def reconstructions(drawing: Drawing, images: Tensor, first: int = 0) -> Tensor:
    """Decodings of images (B, H, W, C); image i has the noise numbered `first` + i."""
    return decoded(drawing, encoded(drawing, images), torch.arange(first, first + len(images)))


def compared(
    originals: Tensor, others: Tensor, measures: Mapping[str, Similarity], device: torch.device
) -> dict[str, Tensor]:
    """Each measure (B,) of each pair of images (B, H, W, C)."""
    a, b = (to_float(images.to(device)) for images in (others, originals))
    return {name: measure(a, b) for name, measure in measures.items()}


def variations(drawing: Drawing, codes: Tensor, count: int, apart: int) -> Tensor:
    """`count` decodings of each code, (n, count, H, W, C), by noise n, n + apart, n + 2 apart, ... of code n."""
    noise = torch.arange(len(codes))[:, None] + apart * torch.arange(count)  # (n, count)
    return decoded(drawing, codes.repeat_interleave(count, 0), noise.flatten()).unflatten(0, noise.shape)


def between(drawing: Drawing, first: Tensor, second: Tensor, steps: int) -> Tensor:
    """Decodings (n, steps, H, W, C) on the straight line between two codes, each (n, D), ends included; a row has one
    noise.
    """
    share = torch.linspace(0, 1, steps, device=first.device)[:, None]  # (steps, 1)
    codes = first[:, None] + share * (second - first)[:, None]  # (n, steps, D)
    return rows_of(drawing, codes)


def exchanged(drawing: Drawing, first: Tensor, second: Tensor, lengths: list[int]) -> Tensor:
    """Decodings (n, K, H, W, C) of the first codes (n, D), each with one of its K parts from the second; a row has one
    noise. `lengths`: of the parts, D in all.
    """
    part = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths)).to(first.device)  # (D,)
    chosen = torch.arange(len(lengths), device=first.device)[:, None] == part  # (K, D)
    return rows_of(drawing, torch.where(chosen, second[:, None], first[:, None]))


def rows_of(drawing: Drawing, codes: Tensor) -> Tensor:
    """Decodings of codes (n, m, D); those of row i have the noise numbered i."""
    noise = torch.arange(len(codes)).repeat_interleave(codes.shape[1])
    return decoded(drawing, codes.flatten(0, 1), noise).unflatten(0, codes.shape[:2])
