"""Statistics and distance against pytorch-fid's command line: the same images, in the same run, on the CPU.

    python -m benchmarks.fid cifar10-a.zip --weights FILE --dims 768 --images 1000

Ours reads the images from arrays (.npz), pytorch-fid from PNG files. Each command is timed as a whole, its start
included; peak memory is that of the process, without pytorch-fid's loaders. Then the distance alone is timed at 2048
features, and our peak memory measured over a growing number of images, with a small classifier that has logits.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from diffprobe.config.built import parse_network
from diffprobe.data.export import to_npz, to_png
from diffprobe.data.imagesets import ImageSet, open_images
from diffprobe.evaluation.generation.frechet import frechet_distance
from diffprobe.networks.build import build
from diffprobe.training import checkpoints

# pytorch-fid's own command line; a local file of weights replaces its download.
THEIRS = """
import sys, torch
from pathlib import Path
from diffprobe.evaluation.generation.extractors import weights
import pytorch_fid.inception as fid, pytorch_fid.fid_score as score
file, dims = sys.argv.pop(1), int(sys.argv[sys.argv.index("--dims") + 1])
if file:
    import torchvision
    whole = torchvision.models.inception_v3(num_classes=1008, aux_logits=False, weights=None, init_weights=False)
    tensors = {name: torch.zeros_like(value) for name, value in whole.state_dict().items()}
    tensors |= weights.read(Path(file), "weights")
    fid.load_state_dict_from_url = lambda *_, **__: tensors
score.main()
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Against pytorch-fid's command line.")
    parser.add_argument("zip", type=Path)
    parser.add_argument("--weights", default="", help="Inception's (default: the public download)")
    parser.add_argument("--dims", type=int, default=2048)
    parser.add_argument("--images", type=int, default=1000, help="of each of the two sets")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--only", choices=["commands"], help="leave out distance and memory")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        commands(arguments, Path(folder))
        if arguments.only == "commands":
            return
        distances()
        memory(open_images(arguments.zip), Path(folder))


def commands(arguments: argparse.Namespace, folder: Path) -> None:
    """Both command lines on two sets of images."""
    images, n = open_images(arguments.zip), arguments.images
    for i, name in enumerate("ab"):
        part = ImageSet(name, n, images.shape, lambda a, b, i=i: images.read(i * n + a, i * n + b), images.identify)
        to_npz(part, folder / f"{name}.npz")
        to_png(part, folder / name)
    dims = str(arguments.dims)
    theirs = [sys.executable, "-c", THEIRS, arguments.weights, str(folder / "a"), str(folder / "b"), "--dims", dims]
    extractor = ["inception", f"dims={dims}", *([f"weights={arguments.weights}"] if arguments.weights else [])]
    ours = [sys.executable, "-m", "diffprobe", "measure", str(folder / "a.npz"), "--against", str(folder / "b.npz")]
    ours += ["--figures", "fd", "--extractor", *extractor, "--json", str(folder / "ours.json")]
    print(f"{'command':<14}{'images':>8}{'seconds':>9}{'images/s':>10}{'peak MB':>9}  FID", flush=True)
    for _ in range(arguments.repeats):
        seconds, peak, output = timed([*theirs, "--device", "cpu", "--batch-size", "64"])
        expected = float(output.rsplit("FID:", 1)[1])
        row("pytorch-fid", 2 * n, seconds, peak, expected)
        seconds, peak, _ = timed(ours)
        (figure,) = json.loads((folder / "ours.json").read_text())["figures"]
        row("diffprobe", 2 * n, seconds, peak, figure["value"])
        print(f"relative difference {abs(figure['value'] / expected - 1):.1e}", flush=True)


def row(name: str, n: int, seconds: float, peak: float, value: float) -> None:
    print(f"{name:<14}{n:>8}{seconds:>9.1f}{n / seconds:>10.1f}{peak:>9.0f}  {value:.8g}", flush=True)


def timed(command: list[str]) -> tuple[float, float, str]:
    """Seconds, peak resident memory of the process in MB, and its output."""
    begun, peak = time.perf_counter(), 0
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.DEVNULL, env=environment)
        while process.poll() is None:
            # getrusage at the end would also count the parent's memory, from which the process was forked.
            status = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())
            peak = max(peak, int(status[1])) if status else peak
            time.sleep(0.05)
        if process.returncode:
            sys.exit(f"{' '.join(command[:6])} ... failed")
        output.seek(0)
        return time.perf_counter() - begun, peak / 1000, output.read()


def distances(dim: int = 2048) -> None:
    """The distance alone, between Gaussians of full rank and of few images; the faster of two runs each."""
    from pytorch_fid.fid_score import calculate_frechet_distance

    warnings.simplefilter("ignore")
    for n, m in ((5000, 4000), (1000, 1000)):
        pair = [*gaussian(n, dim, 0), *gaussian(m, dim, 1)]
        theirs, expected = fastest(lambda pair=pair: calculate_frechet_distance(*pair))
        ours, value = fastest(lambda pair=pair: frechet_distance(*pair))
        print(f"distance at {dim}, of {n} and {m} images: pytorch-fid {theirs:.2f} s, diffprobe {ours:.2f} s,", end=" ")
        print(f"{theirs / ours:.1f} times; relative difference {abs(value / expected - 1):.1e}", flush=True)


def gaussian(n: int, dim: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of n correlated non-negative vectors, as Inception's features are."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 256)) @ rng.normal(size=(256, dim)) / 16 + 0.3 * rng.normal(size=(n, dim))
    x = np.maximum(x, 0)
    return x.mean(0), np.cov(x, rowvar=False)


def fastest(run: Callable[[], float], repeats: int = 2) -> tuple[float, float]:
    seconds = []
    for _ in range(repeats):
        begun = time.perf_counter()
        value = run()
        seconds.append(time.perf_counter() - begun)
    return min(seconds), value


def memory(images: ImageSet, folder: Path) -> None:
    """Peak memory of FID and IS, and of all figures, over a growing number of images."""
    network = {"kind": "classifier", "channels": 16}
    shape = {"image_channels": 3, "classes": 10}
    torch.manual_seed(0)
    weights = folder / "classifier.safetensors"
    checkpoints.write(
        weights, {"raw": build(parse_network(network), **shape).state_dict()}, {"network": network, "shape": shape}
    )
    for n in (2_000, 8_000, 24_000):
        to_npz(ImageSet("many", n, images.shape, images.read, images.identify), folder / "many.npz")
        for figures in (["fd", "is"], ["fd", "is", "kid", "precision", "recall", "density", "coverage"]):
            command = [sys.executable, "-m", "diffprobe", "measure", str(folder / "many.npz"), "--against"]
            command += [str(folder / "a.npz"), "--figures", *figures, "--extractor", "classifier", f"weights={weights}"]
            seconds, peak, _ = timed(command)
            print(f"{n:>7} images, {len(figures)} figures: {seconds:.1f} s, peak {peak:.0f} MB", flush=True)


if __name__ == "__main__":
    main()
