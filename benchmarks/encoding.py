"""Encoding into a latent store against the autoencoder's bare forward pass, in images per second.

    python -m benchmarks.encoding --rows 4096 --size 64       # size of the autoencoder's images, made of 32 pixels

On a GPU the autoencoder has Stable Diffusion's shape and computes in bf16; on a CPU it is a small one.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diffprobe.config.latents import Crop
from diffprobe.data import images, views
from diffprobe.data.pixels import to_float
from diffprobe.latents.encoding import encode
from diffprobe.latents.parts import StorePlan
from diffprobe.networks.autoencoder import Codec
from diffprobe.networks.autoencoder_kl import AutoencoderKL


def encoding(folder: Path, rows: int, size: int, batch: int = 64) -> dict[str, Any]:
    """All of `encode` (reading images, views, writing parts) against the forward pass alone."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    wide = [128, 256, 512, 512] if device.type == "cuda" else [32, 64, 64]
    network = AutoencoderKL(3, 4, wide, 2 if len(wide) == 4 else 1, 8, False).eval().requires_grad_(False)
    codec = Codec(network.to(device, memory_format=torch.channels_last), size, 3, (3, 32, 32))
    pixels = np.random.default_rng(0).integers(0, 256, (rows, 32, 32, 3), np.uint8)
    images.write(folder / "images.h5", pixels, np.zeros(rows, int), np.zeros(rows, int), classes=["all"])

    @torch.inference_mode()
    def moments(x: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            return codec.moments(to_float(x.to(device)))

    def bare() -> float:
        begun = time.perf_counter()
        for start in range(0, rows, batch):
            moments(torch.from_numpy(pixels[start : start + batch]))
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - begun

    def whole(number: int) -> float:
        views_of = {"train": views.expand([Crop(kind="crop")])}
        plan = StorePlan(folder / f"encoded{number}" / "latents.zarr", {}, 0, {"train": rows}, views_of, shard_chunks=4)
        begun = time.perf_counter()
        encode(plan, folder / "images.h5", moments, batch)
        return time.perf_counter() - begun

    bare()  # warm-up
    times = [(bare(), whole(number)) for number in range(3)]  # alternating, since shared machines are noisy
    forward, all_of_it = (min(each) for each in zip(*times, strict=True))
    ratios = [b / a - 1 for a, b in times]
    return {"bare": rows / forward, "encode": rows / all_of_it, "overhead": sorted(ratios)[1], "each": ratios}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--size", type=int, default=64, help="of the autoencoder's images")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=".") as folder:
        print(json.dumps(encoding(Path(folder), arguments.rows, arguments.size)))


if __name__ == "__main__":
    main()
