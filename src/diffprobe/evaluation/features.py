"""Features: activations of a network's taps at a noise level, averaged over positions, by image index.

The store, zarr v3, one per checkpoint: {level}/{split}/identity/{tap}, float16 (draws, N_split, D); row i is the
split's i-th image. The root's zarr.json, written last, is its mark of completeness.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
import zarr
from torch import Tensor
from zarr.codecs import BytesCodec, Crc32cCodec, ZstdCodec

from diffprobe.diffusion.levels import Level
from diffprobe.diffusion.process import Network, Process, perturb
from diffprobe.evaluation.inputs import Inputs
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.keyed import Key, normal

ROWS = 256  # rows per chunk of the store


@torch.inference_mode()
def pooled(
    network: Network,
    process: Process,
    x: Tensor,
    rows: Tensor,
    level: Level,
    taps: Sequence[str],
    key: Key,
    draw: int,
) -> dict[str, Tensor]:
    """Each tap's mean over positions, float32 (B, D).

    x (B, C, H, W) in the model's space; rows (B,) its images' indices in the image store, by which the noise is drawn
    from `key` and `draw`: no batch size and no split changes a feature. A conditional network is told no label.
    """
    noise = normal(key, rows, tuple(x.shape[1:]), draw)
    levels = level.of(x)
    _, found = process.denoise(network, perturb(x, levels, noise), levels, taps=taps, features_only=True)
    return {tap: h.float().mean(dim=(2, 3)) for tap, h in found.items()}


def extract(
    network: Network,
    process: Process,
    data: Inputs,
    level: Level,
    taps: Sequence[str],
    key: Key,
    posterior: Key,
    draw: int,
    batch: int,
    device: torch.device,
) -> Iterator[tuple[slice, dict[str, Tensor]]]:
    """The pooled features of all images, batch by batch: (rows of the split, tap to (B, D)).

    Noise is drawn by `key`, latents from their posteriors by `posterior`.
    """
    for start in range(0, len(data.rows), batch):
        part = slice(start, min(start + batch, len(data.rows)))
        rows = torch.from_numpy(data.rows[part]).to(device)
        yield part, pooled(network, process, data.read(part, posterior, draw), rows, level, taps, key, draw)


def write(
    store: Path, level: str, split: str, found: dict[str, Tensor], shape: tuple[int, int], draw: int, rows: slice
) -> bytes:
    """Write one batch, tap to (B, D), into arrays of `shape` (draws, N), made where they are not yet there.

    Returns the bytes written, for a hash of the content.
    """
    written = b""
    for tap, values in found.items():
        array = array_of(store, level, split, tap, (*shape, values.shape[1]))
        stored = values.half().cpu().numpy()
        array[draw, rows] = stored
        written += stored.tobytes()
    return written


@cache
def array_of(store: Path, level: str, split: str, tap: str, shape: tuple[int, int, int]) -> zarr.Array:
    """The array (draws, N, D) of a tap, its chunks checksummed."""
    path = store / level / split / "identity" / tap
    if path.exists():
        return zarr.open_array(str(path), mode="r+")
    return zarr.create_array(
        store=str(path),
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
