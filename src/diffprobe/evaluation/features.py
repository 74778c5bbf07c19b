"""Features: activations of a network's taps at a noise level, averaged over positions, by image index.

The store, zarr v3, one per checkpoint: {level}/{split}/identity/{tap}, float16 (draws, N_split, D); row i is the
split's i-th image. The root's zarr.json, written last, is its mark of completeness.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import zarr
from torch import Tensor, nn
from zarr.codecs import BytesCodec, Crc32cCodec, ZstdCodec

from diffprobe.data.images import Images
from diffprobe.diffusion.edm import EDM
from diffprobe.diffusion.levels import Level
from diffprobe.diffusion.samplers import to_float
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.keyed import Key, normal

ROWS = 256  # rows per chunk of the store


@torch.inference_mode()
def pooled(
    network: nn.Module,
    process: EDM,
    images: Tensor,
    rows: Tensor,
    level: Level,
    taps: Sequence[str],
    seed: int,
    draw: int,
) -> dict[str, Tensor]:
    """Each tap's mean over positions, float32 (B, D).

    images uint8 (B, H, W, C); rows (B,) their indices in the image store, which key the noise together with the
    level, the seed and the draw: no batch size and no split changes a feature.
    """
    x = to_float(images)  # (B, C, H, W)
    noise = normal(Key(seed, f"features/{level.name}"), rows, tuple(x.shape[1:]), draw)
    sigma = torch.full((len(x),), level.sigma, device=x.device)
    _, found = process.denoise(network, process.perturb(x, sigma, noise), sigma, taps, features_only=True)
    return {tap: h.float().mean(dim=(2, 3)) for tap, h in found.items()}


def extract(
    network: nn.Module,
    process: EDM,
    data: Images,
    level: Level,
    taps: Sequence[str],
    seed: int,
    draw: int,
    batch: int,
    device: torch.device,
) -> Iterator[tuple[slice, dict[str, Tensor]]]:
    """The pooled features of all images, batch by batch: (rows of the split, tap to (B, D))."""
    for start in range(0, len(data.rows), batch):
        part = slice(start, min(start + batch, len(data.rows)))
        images = torch.from_numpy(data.images[part]).to(device)
        rows = torch.from_numpy(data.rows[part]).to(device)
        yield part, pooled(network, process, images, rows, level, taps, seed, draw)


def create(store: Path, level: str, split: str, tap: str, shape: tuple[int, int, int]) -> zarr.Array:
    """An empty array (draws, N, D) of the store, its chunks checksummed."""
    return zarr.create_array(
        store=str(store / level / split / "identity"),
        name=tap,
        shape=shape,
        chunks=(1, min(ROWS, shape[1]), shape[2]),
        dtype="float16",
        serializer=BytesCodec(),
        compressors=[ZstdCodec(level=1), Crc32cCodec()],
    )


def load(store: Path, level: str, split: str, tap: str) -> np.ndarray:
    """One tap's features at one level, float16 (draws, N, D). Raises UserError where they cannot be read whole."""
    path = store / level / split / "identity" / tap
    try:
        return np.asarray(zarr.open_array(str(path), mode="r")[:])
    except Exception as error:
        raise UserError(f"{path}: features cannot be read ({error}); delete {store} and run again") from None
