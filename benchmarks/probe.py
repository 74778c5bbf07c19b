"""The grid over layer and noise against the published procedure, in one run on one machine.

    python -m benchmarks.probe cifar10-a.zip --count 4000 --weights ema.safetensors   # speed and accuracy
    python -m benchmarks.probe --memory 0.5                  # bytes held on a store three times as large as the bound
    python -m benchmarks.probe cifar10-a.zip cifar10-b.zip --recipe DDPM_ddpm --count 50000 --precision bf16   # a GPU

The reference is DDAE's algorithm, written plainly. For every level and epoch, all training images are cropped, flipped
and noised anew and pass through the whole network; each tap's linear head has its own Adam. At the end the test images
pass through once. Several learning rates mean as many runs. Ours computes V copies once, in a store, and fits all taps
and rates as one problem. Both use the same network, levels, taps, batch, epochs and crops, and are scored on one noisy
copy of the last fifth of the images.
"""

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import zarr
from torch import Tensor, nn

from benchmarks.plain.grid import BATCH, CROP, EPOCHS, published_level
from benchmarks.recipes import device, device_name, recipes, settings
from diffprobe.config.evaluators.knn import KNN
from diffprobe.config.evaluators.linear import Linear
from diffprobe.config.evaluators.logistic import Logistic
from diffprobe.config.evaluators.ridge import Ridge
from diffprobe.data import views
from diffprobe.data.pixels import to_float
from diffprobe.diffusion.build import build_process
from diffprobe.evaluation.representation.features import FeatureModel
from diffprobe.evaluation.representation.featurestore import Copies, write_level
from diffprobe.evaluation.representation.grid import ProbeData, score_level
from diffprobe.evaluation.representation.inputs import ModelInputs
from diffprobe.evaluation.representation.table import StoredFeatures
from diffprobe.runtime.keyed import Key

SMALL = {"kind": "unet", "channels": 32, "multipliers": [1, 2, 2], "blocks": 1, "attention": [2], "groups": 8}
SMALL |= {"build": "diffprobe.networks.unet:UNet"}
PROCESS = {"build": "diffprobe.diffusion.edm:EDM"}


class Setup(NamedTuple):
    """What both procedures share."""

    network: Any
    process: Any
    taps: list[str]
    levels: list[Any]
    train: Tensor  # uint8 (N, H, W, C), on the device
    test: Tensor
    labels: Tensor  # int64 (N,), on the device
    truth: Tensor
    device: torch.device
    bf16: bool


# --- the published procedure --------------------------------------------------------------------------------


def published(setup: Setup, lr: float) -> tuple[np.ndarray, float]:
    """Accuracies (levels, taps) and seconds."""
    begun = time.perf_counter()
    images = (setup.train, setup.labels, setup.test, setup.truth)
    accuracies = [published_level(partial(seen, setup, level=level), *images, lr) for level in setup.levels]
    return np.array(accuracies), time.perf_counter() - begun


@torch.no_grad()
def seen(setup: Setup, x: Tensor, level: Any) -> list[Tensor]:
    """Every tap's mean over positions, from one pass through the whole network under fresh noise."""
    noisy = (level.alpha * x + level.sigma * torch.randn_like(x)).contiguous(memory_format=torch.channels_last)
    with torch.autocast(setup.device.type, torch.bfloat16, enabled=setup.bf16):
        features = setup.process.denoise(setup.network, noisy, level.of(x), taps=setup.taps).activations
    return [features[tap].float().mean(dim=(2, 3)) for tap in setup.taps]


# --- ours ---------------------------------------------------------------------------------------------------


def ours(setup: Setup, copies: int, rates: list[float], folder: Path) -> tuple[np.ndarray, float]:
    """The best accuracies over the rates (levels, taps), and seconds."""
    begun = time.perf_counter()
    source = FeatureModel(setup.network, setup.process, 0, setup.device, BATCH, bf16=setup.bf16)
    data = {"train": inputs(setup.train), "test": inputs(setup.test)}
    pooled = {tap: (tap, "mean") for tap in setup.taps}
    blocks = [Copies("train", "augmented", copies), Copies("test", "identity", 1)]
    labels = {"train": setup.labels.cpu().numpy(), "test": setup.truth.cpu().numpy()}
    scorer = linear(rates, average=False)
    accuracies = []
    for level in setup.levels:
        write_level(folder / f"{level.name}.zarr", source, data, level, pooled, blocks, "benchmark", lambda _: None)
        features = StoredFeatures({level.name: folder}, labels, augmented=True)
        stored = ProbeData(features, int(setup.labels.max()) + 1, 2**31, setup.device)
        cells = score_level(stored, level.name, setup.taps, scorer, 0, ["train"], "test")
        accuracies.append(cells.groupby("tap")["accuracy"].max().loc[setup.taps].tolist())
    return np.array(accuracies), time.perf_counter() - begun


def inputs(pixels: Tensor) -> ModelInputs:
    rows = np.arange(len(pixels))

    def read(part: slice, key: Key, draw: int, augmented: bool) -> Tensor:
        if not augmented:
            return to_float(pixels[part])
        numbers = torch.from_numpy(rows[part]).to(pixels.device)
        return to_float(views.apply({"kind": "crop", **CROP, "draw": draw}, pixels[part], numbers, key.seed))

    return ModelInputs(rows, read)


def linear(rates: list[float], **changes: Any) -> Linear:
    """The published heads."""
    published = {"lr": rates, "epochs": EPOCHS, "batch": BATCH, "weight_decay": 0.0, "standardise": False}
    return Linear(kind="linear", cosine="epoch", **published | changes)


# --- what is measured ---------------------------------------------------------------------------------------


def compare(setup: Setup, lr: float, row: Callable[..., None]) -> None:
    """Both procedures: ours at 15 copies, at 4, and at 4 with five rates."""
    with tempfile.TemporaryDirectory() as folder:
        ours(setup._replace(train=setup.train[:256], labels=setup.labels[:256]), 1, [lr], Path(folder) / "warm")
        theirs, long = published(setup, lr)
        row("published procedure, one rate", f"{long:.1f} s", best(theirs), "")
        rates = [lr / 4, lr / 2, lr, 2 * lr, 4 * lr]
        for name, copies, fitted in (("V = 15", 15, [lr]), ("V = 4", 4, [lr]), ("V = 4, five rates", 4, rates)):
            accuracies, seconds = ours(setup, copies, fitted, Path(folder) / name)
            faster = len(fitted) * long / seconds  # theirs runs once per rate
            gap = 100 * (accuracies - theirs).mean()
            row(f"ours, {name}", f"{seconds:.1f} s", best(accuracies), f"{faster:.2f} times, {gap:+.2f} points")


def best(accuracies: np.ndarray) -> str:
    return f"best cell {accuracies.max():.2%}, mean {accuracies.mean():.2%}"


def heads_alone(setup: Setup, row: Callable[..., None]) -> None:
    """Heads of all taps on the same features in memory: one by one, and as one problem."""
    from diffprobe.evaluation.representation.heads import fit
    from diffprobe.evaluation.representation.table import table_of

    features = torch.cat(
        [torch.cat(seen(setup, to_float(part), setup.levels[0]), 1).cpu() for part in setup.train.split(BATCH)]
    )
    widths = [h.shape[1] for h in seen(setup, to_float(setup.train[:2]), setup.levels[0])]
    whole = [h.to(setup.device) for h in features.split(widths, dim=1)]
    heads = [nn.Linear(width, 10).to(setup.device) for width in widths]
    optimisers = [torch.optim.Adam(head.parameters(), lr=1e-3) for head in heads]
    wait, begun = settled(setup.device), time.perf_counter()
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(features), device=setup.device).split(BATCH):
            for h, head, optimiser in zip(whole, heads, optimisers, strict=True):
                optimiser.zero_grad()
                nn.functional.cross_entropy(head(h[rows]), setup.labels[rows]).backward()
                optimiser.step()
    wait()
    looped, begun = time.perf_counter() - begun, time.perf_counter()
    table = table_of(features.half()[None], setup.labels.cpu(), widths)
    fit(linear([1e-3]), [table], [0], 10, 2**31, setup.device)
    wait()
    batched = time.perf_counter() - begun
    row("heads alone, looped", f"{looped:.1f} s", f"{len(heads)} taps, {EPOCHS} epochs", "")
    row("heads alone, batched", f"{batched:.1f} s", "", f"{looped / batched:.2f} times")


def settled(where: torch.device) -> Callable[[], None]:
    wait = torch.cuda.synchronize if where.type == "cuda" else lambda: None
    wait()
    return wait


def early_exit(where: torch.device, batch: int, plan: Path | None, row: Callable[..., None]) -> None:
    """A pass up to the published tap, or to a DiT's middle, against the whole pass."""
    from diffprobe.networks.build import build

    dit = {"kind": "dit", "width": 384, "depth": 28, "heads": 6, "patch": 2, "conditional": False, "augment": False}
    dit |= {"mlp_ratio": 4.0, "time_scale": 1.0, "label_dropout": 0.0, "build": "diffprobe.networks.dit:DiT"}
    unets = {name: recipe["network"] for name, recipe in recipes(plan).items()}
    cases = [("DDPM_ddpm", unets["DDPM_ddpm"], "out_6", 3, 32), ("EDM_ddpmpp", unets["EDM_ddpmpp"], "out_7", 3, 32)]
    for name, network, tap, channels, size in (*cases, ("DiT, 28 blocks", dit, "block_13", 4, 32)):
        module = build(settings(network), image_channels=channels).eval().to(where, memory_format=torch.channels_last)
        x = torch.randn(batch, channels, size, size, device=where).contiguous(memory_format=torch.channels_last)
        noise = torch.full((batch,), 0.1, device=where)
        whole = timed(partial(module, x, noise, taps=[tap]), where)
        part = timed(partial(module, x, noise, taps=[tap], features_only=True), where)
        ms = [f"{seconds * 1e3:.0f} ms" for seconds in (part, whole)]
        row(f"early exit, {name} at {tap}", *ms, f"{whole / part:.2f} times")


@torch.inference_mode()
def timed(run: Callable[[], object], where: torch.device, repeats: int = 3) -> float:
    """Seconds of the fastest call, after one to warm up."""
    run()
    times = []
    for _ in range(repeats):
        wait, begun = settled(where), time.perf_counter()
        run()
        wait()
        times.append(time.perf_counter() - begun)
    return min(times)


def memory(bound: float, row: Callable[..., None]) -> None:
    """Added anonymous memory of fitting each evaluator on a store three times the bound."""
    from diffprobe.evaluation.representation.evaluators import fit, score
    from diffprobe.evaluation.representation.featurestore import write_block

    with tempfile.TemporaryDirectory() as folder:
        width, draws = 1024, 4
        n = int(3 * bound / (draws * width * 2))
        labels = {"train": np.random.default_rng(0).integers(0, 10, n), "test": np.arange(1024) % 10}
        path = Path(folder) / "0.1.zarr"
        for split, count in (("train", draws), ("test", 1)):
            total = len(labels[split])
            for draw in range(count):
                for start in range(0, total, 1024):
                    rows = slice(start, min(start + 1024, total))
                    noise = np.random.default_rng(start).normal(size=(rows.stop - start, width)).astype(np.float16)
                    write_block(path / split / "identity", {"tap": noise}, (count, total), draw, rows, sha256())
        store = draws * n * width * 2
        source = StoredFeatures({"0.1": Path(folder)}, labels, augmented=False)
        row("store", f"{store / 2**30:.2f} GiB", f"{n:,} x {draws} x {width}", f"bound {bound / 2**30:.2f} GiB")
        for evaluator in (
            linear([1e-3], epochs=4, standardise=True),
            Ridge(kind="ridge", strength=[1e-2]),
            Logistic(kind="logistic", strength=[1e-2], iterations=2),
            KNN(kind="knn"),
        ):
            with Anonymous() as used:
                begun = time.perf_counter()
                tables = source.training_tables(evaluator.plain, [("0.1", "tap")], ["train"], 1)
                predictors = fit(evaluator, tables, [0], 10, bound, torch.device("cpu"))
                score(predictors, source.plain_tables([("0.1", "tap")], ["test"], 1), 10, True, torch.device("cpu"))
            seconds = time.perf_counter() - begun
            peak, share = f"{used.peak / 2**30:.2f} GiB", f"{used.peak / bound:.2f} of the bound"
            row(f"memory, {evaluator.kind}", peak, f"{seconds:.0f} s", share)


class Anonymous:
    """The largest anonymous memory of this process above that at the start."""

    def __enter__(self) -> "Anonymous":
        self.before, self.peak, self.running = anonymous(), 0, True
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()
        return self

    def watch(self) -> None:
        while self.running:
            self.peak = max(self.peak, anonymous() - self.before)
            time.sleep(0.02)

    def __exit__(self, *_: object) -> None:
        self.running = False
        self.thread.join()


def anonymous() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) * 1024


# --- the command --------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description="The grid over layer and noise against the published procedure.")
    parser.add_argument("images", nargs="*", type=Path, help="zips of labelled images in EDM's form; none: noise")
    parser.add_argument("--count", type=int, default=4000, help="images; the last fifth is for scoring")
    parser.add_argument("--recipe", help="a network of config/ddae.yaml, untrained; default: a small one")
    parser.add_argument("--plan", type=Path, help="recipes as throughput.py --write-plan wrote them")
    parser.add_argument("--channels", type=int, default=32, help="of the small network")
    parser.add_argument("--weights", type=Path, help="a checkpoint of the workflow, in place of untrained weights")
    parser.add_argument("--levels", nargs="+", type=float, default=[0.0599])
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--exit-batch", type=int, default=8, help="images of a pass whose early exit is timed")
    parser.add_argument("--memory", type=float, metavar="GIB", help="only: memory on a store three times this bound")
    parser.add_argument("--only", nargs="+", choices=["compare", "heads", "exit"], default=["compare", "heads", "exit"])
    arguments = parser.parse_args()
    if not hasattr(zarr, "__version__"):  # recipes.py mocks it for benchmarks that store nothing
        raise SystemExit("zarr is missing: pip install zarr")
    where = device()
    print(f"{device_name(where)}\n\n| what | figure | of | against |\n|---|---|---|---|", flush=True)

    def row(*cells: str) -> None:
        print(f"| {' | '.join(cells)} |", flush=True)

    if arguments.memory:
        memory(arguments.memory * 2**30, row)
        return
    if {"compare", "heads"} & set(arguments.only):
        setup = prepared(arguments, where)
        if "compare" in arguments.only:
            compare(setup, arguments.lr, row)
        if "heads" in arguments.only:
            heads_alone(setup, row)
    if "exit" in arguments.only:
        early_exit(where, arguments.exit_batch, arguments.plan, row)


def prepared(arguments: argparse.Namespace, where: torch.device) -> Setup:
    pixels, labels = read(arguments.images, arguments.count)
    cut = len(pixels) - len(pixels) // 5
    if arguments.weights:
        from diffprobe.evaluation.model import load

        model = load(arguments.weights, where)
        network, process = model.network, model.process
    else:
        from diffprobe.networks.build import build

        torch.manual_seed(0)
        recipe = {"network": SMALL | {"channels": arguments.channels}, "process": PROCESS}
        if arguments.recipe:
            recipe = recipes(arguments.plan)[arguments.recipe]
        network = build(settings(recipe["network"]), image_channels=3).eval().requires_grad_(False)
        network.to(where, memory_format=torch.channels_last)
        process = build_process(settings(recipe["process"]))
    taps = [tap for tap in network.taps if tap.startswith("out_")]
    levels = [process.level(level) for level in arguments.levels]
    data = [x.to(where) for x in (pixels[:cut], pixels[cut:], labels[:cut], labels[cut:])]
    return Setup(network, process, taps, levels, *data, where, arguments.precision == "bf16")


def read(paths: list[Path], count: int) -> tuple[Tensor, Tensor]:
    """The first images, uint8 (N, H, W, C), and their labels int64 (N,)."""
    if not paths:
        pixels = torch.randint(256, (count, 32, 32, 3), dtype=torch.uint8)
        return pixels, torch.arange(count) % 10
    import io
    import zipfile

    from PIL import Image

    pixels, labels = [], []
    for path in paths:
        with zipfile.ZipFile(path) as archive:
            for name, label in json.loads(archive.read("dataset.json"))["labels"][: count - len(pixels)]:
                pixels.append(np.asarray(Image.open(io.BytesIO(archive.read(name)))))
                labels.append(label)
    return torch.from_numpy(np.stack(pixels)), torch.tensor(labels)


if __name__ == "__main__":
    main()
