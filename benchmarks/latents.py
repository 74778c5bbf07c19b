"""The latent cache: speed, memory and quality of its shuffling, against the peers' way, in one run.

    python -m benchmarks.latents reading --rows 300000        # rows (8, 32, 32) float16: 4.9 GB on disk, then in memory
    python -m benchmarks.latents readers --rows 60000         # other readers of the same files, where installed
    python -m benchmarks.latents feeding --rows 100000        # latents drawn on the device, by each way of holding them
    python -m benchmarks.latents peers --rows 50000           # ten arrays loaded whole by each of four processes
    python -m benchmarks.latents shuffle                      # heads trained on streamed and on fully random rows

Each measurement runs in its own process. Memory is the peak of resident memory above that after the imports, sampled a
hundred times a second. Cold means that the kernel dropped the store's pages (posix_fadvise) before. Reading is compared
with a random gather of batches of 256 from an array in memory. `make bench` compares it with a mapped array in full
shuffle, warm and cold (rows/latents.py, rows/latents_cold.py).
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from diffprobe.config.latents import Crop
from diffprobe.data import views
from diffprobe.latents.completion import finish
from diffprobe.latents.parts import CHUNK, StorePlan, write_part
from diffprobe.latents.store import LatentStore, open_store
from diffprobe.runtime.keyed import Key, permutation
from diffprobe.training.latentstream import Budget, LatentStream, open_source

SHAPE, BATCH, WINDOW = (8, 32, 32), 256, 48 * 2**20
MAPPED = Budget(0, 0, "checked")
VIEWS = [Crop(kind="crop")]  # so that every row has an augmentation label too


# --- what is measured ---------------------------------------------------------------------------------------


class Peak:
    """The peak of resident memory, in MB, above that at the start."""

    def __init__(self) -> None:
        self.process, self.peak, self.running = psutil.Process(), 0.0, True
        self.before = self.process.memory_info().rss
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()

    def watch(self) -> None:
        while self.running:
            self.peak = max(self.peak, (self.process.memory_info().rss - self.before) / 1e6)
            time.sleep(0.01)

    def stop(self) -> float:
        self.running = False
        self.thread.join()
        return round(self.peak)


def rate(read: Callable[[int, int], Any], rows: int, start: int = 0) -> float:
    """Rows per second in batches."""
    begun = time.perf_counter()
    for position in range(start, start + rows - BATCH + 1, BATCH):
        read(position, position + BATCH)
    return (rows // BATCH * BATCH) / (time.perf_counter() - begun)


def store_of(folder: Path, rows: int) -> LatentStore:
    """A store of random moments in an autoencoder's shape; written if it does not exist."""
    path = folder / f"{rows}" / "latents.zarr"
    if not (path / "zarr.json").exists():
        plan = StorePlan(path, {}, 0, {"train": rows}, {"train": views.expand(VIEWS)}, shard_chunks=16)
        rng = np.random.default_rng(0)
        for part in plan.parts:
            write_part(plan, part, rng.standard_normal((part.stop - part.start, *SHAPE), np.float32).astype(np.float16))
        numbers = {"train": np.arange(rows)}
        finish(plan, numbers, numbers, "own", {"scale": 1.0, "shift": 0.0})
    return open_store(path)


def drop(folder: Path) -> None:
    """Make the kernel drop the files' pages."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def touch(folder: Path) -> None:
    """Make the kernel read the files' pages."""
    piece = bytearray(2**20)
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb", buffering=0) as file:
                while file.readinto(piece):
                    pass


@contextmanager
def made(argument: str | None) -> Iterator[Path]:
    """The folder of the stores; a temporary one, removed at the end, where none is named."""
    folder = Path(argument) if argument else Path("results/bench_latents")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield folder
    finally:
        if not argument:
            shutil.rmtree(folder)


# --- reading ------------------------------------------------------------------------------------------------


def streamed(folder: Path, rows: int) -> dict[str, Any]:
    """As training does, without drawing from the posterior: cold, then warm."""
    latents = store_of(folder, rows)
    drop(latents.path)
    peak = Peak()
    source, _ = open_source(latents, ["train"], 0, torch.device("cpu"), WINDOW, Budget(0, 0), BATCH)
    cold = rate(source.read, rows)
    touch(latents.path)  # all pages are in memory again, whatever the kernel had kept
    warm = max(rate(source.read, rows, epoch * rows) for epoch in (1, 2))
    return {"cold": cold, "warm": warm, "MB": peak.stop()}


def gathered(folder: Path, rows: int) -> dict[str, Any]:
    """Random batches from an array in memory, by all threads and by one."""
    latents = store_of(folder, rows)
    peak = Peak()
    whole = torch.empty(rows, *SHAPE, dtype=torch.float16)
    for start in range(0, rows, CHUNK):
        whole[start : start + CHUNK] = torch.from_numpy(latents.moments("train", 0, start, min(start + CHUNK, rows)))
    order = permutation(Key(0, "order"), rows)
    rates: dict[str, Any] = {}
    for threads in (torch.get_num_threads(), 1):
        torch.set_num_threads(threads)
        pick = lambda start, stop: whole.index_select(0, order[start:stop])  # noqa: E731
        rates[f"{threads} threads"] = max(rate(pick, rows) for _ in range(3))
    return rates | {"MB": peak.stop()}


def held(folder: Path, rows: int) -> dict[str, Any]:
    """The same order with the store resident in host memory."""
    latents = store_of(folder, rows)
    peak, begun = Peak(), time.perf_counter()
    source, _ = open_source(latents, ["train"], 0, torch.device("cpu"), WINDOW, Budget(0, 1e12), BATCH)
    start = time.perf_counter() - begun
    return {"warm": max(rate(source.read, rows, epoch * rows) for epoch in (0, 1)), "start": start, "MB": peak.stop()}


def sampled(folder: Path, rows: int) -> dict[str, Any]:
    """Streamed, with a latent drawn from each posterior: the rate of training on this CPU."""
    latents = store_of(folder, rows)
    source, _ = open_source(latents, ["train"], 0, torch.device("cpu"), WINDOW, Budget(0, 0), BATCH)
    few = min(rows, 20_000)
    return {kind: rate(LatentStream(latents, source, 0, kind).read, few) for kind in ("mean", "sample")}


def feeding(folder: Path, rows: int) -> dict[str, Any]:
    """Rows per second drawn on the GPU or CPU, by each way of holding the store."""
    latents, device = store_of(folder, rows), torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rates = {}
    for budget in (Budget(1e12, 0), Budget(0, 1e12), Budget(0, 0)):
        source, how = open_source(latents, ["train"], 0, device, WINDOW, budget, BATCH)
        stream = LatentStream(latents, source, 0)

        def read(start: int, stop: int, stream: LatentStream = stream) -> None:
            stream.read(start, stop)

        read(0, BATCH)
        begun = time.perf_counter()
        rate(read, min(rows, 20_000 if device.type == "cpu" else rows))
        if device.type == "cuda":
            torch.cuda.synchronize()
        rates[how] = min(rows, 20_000 if device.type == "cpu" else rows) / (time.perf_counter() - begun)
    return rates


# --- other readers of the same files ------------------------------------------------------------------------


def chunks_of(rows: int) -> list[int]:
    return permutation(Key(0, "chunks"), rows // CHUNK).tolist()


def windows_of(read: Callable[[int, int], np.ndarray], rows: int) -> float:
    """Rows per second of reading windows of twelve whole chunks by `read` and permuting them."""
    order, window, n = chunks_of(rows), np.empty((12 * CHUNK, *SHAPE), np.float16), 0
    begun = time.perf_counter()
    for first in range(0, len(order) - 11, 12):
        places = np.random.default_rng(first).permutation(12 * CHUNK).reshape(12, CHUNK)
        for chunk, here in zip(order[first : first + 12], places, strict=True):
            window[here] = read(chunk * CHUNK, (chunk + 1) * CHUNK)
        n += 12 * CHUNK
    return n / (time.perf_counter() - begun)


def readers(folder: Path, rows: int) -> dict[str, Any]:
    """Rows per second of zarr-python, zarrs and tensorstore, where installed, and ours: warm, random whole chunks."""
    latents = store_of(folder, rows)
    path = latents.path / "train" / "moments"
    array, rates = latents.arrays["train"]["moments"], {}
    rates["zarr-python"] = max(windows_of(lambda a, b: array[0, a:b], rows) for _ in range(2))
    try:
        import zarr
        import zarrs  # noqa: F401

        with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}):
            other = zarr.open_array(str(path), mode="r")
            rates["zarrs"] = max(windows_of(lambda a, b: other[0, a:b], rows) for _ in range(2))
    except ImportError:
        pass
    try:
        import tensorstore

        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{path.absolute()}/"}}
        tensors = tensorstore.open(spec).result()
        rates["tensorstore"] = max(windows_of(lambda a, b: tensors[0, a:b].read().result(), rows) for _ in range(2))
    except ImportError:
        pass
    plain = lambda a, b: latents.moments("train", 0, a, b)  # noqa: E731
    rates["ours, chunk by chunk"] = max(windows_of(plain, rows) for _ in range(2))
    source, _ = open_source(latents, ["train"], 0, torch.device("cpu"), WINDOW, Budget(0, 0), BATCH)
    rates["ours, rows into place"] = max(rate(source.read, rows, epoch * rows) for epoch in (0, 1))
    return rates


# --- the peers' way -----------------------------------------------------------------------------------------


def peers(folder: Path, rows: int) -> dict[str, Any]:
    """Start and memory of four processes that load ten float32 arrays of latents each, against four of ours."""
    arrays = folder / "peers"
    arrays.mkdir(exist_ok=True)
    rng, share = np.random.default_rng(0), rows // 10
    for version in range(10):
        np.save(arrays / f"train_code_{version}.npy", rng.standard_normal((share, 4, 32, 32), np.float32))
    store_of(folder, rows)
    ways = {}
    for way in ("peer", "ours_held", "ours_streamed"):
        begun = time.perf_counter()
        several = [start(way, folder, rows) for _ in range(4)] if way != "ours_held" else [start_world(folder, rows)]
        each = [json.loads(line) for process in several for line in process.communicate()[0].splitlines()]
        memory = sum(one["MB"] for one in each)
        ways[way] = {"MB": memory, "start": max(one["start"] for one in each), "all": time.perf_counter() - begun}
    return ways


def start(way: str, folder: Path, rows: int) -> subprocess.Popen:
    command = [sys.executable, "-m", "benchmarks.latents", way, "--folder", str(folder), "--rows", str(rows)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def start_world(folder: Path, rows: int) -> subprocess.Popen:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=4"]
    command = [
        sys.executable,
        *launcher,
        "-m",
        "benchmarks.latents",
        "ours_held",
        "--folder",
        str(folder),
        "--rows",
        str(rows),
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def proportional() -> float:
    """MB of this process; pages that processes share are divided among them."""
    return psutil.Process().memory_full_info().pss / 1e6


def peer(folder: Path, rows: int) -> dict[str, Any]:
    before, begun = proportional(), time.perf_counter()
    held = [np.load(folder / "peers" / f"train_code_{version}.npy") for version in range(10)]
    held[3][len(held[3]) // 2].copy()
    return {"start": time.perf_counter() - begun, "MB": proportional() - before}


def ours_streamed(folder: Path, rows: int) -> dict[str, Any]:
    return ours(folder, rows, Budget(0, 0))


def ours_held(folder: Path, rows: int) -> dict[str, Any]:
    return ours(folder, rows, Budget(0, 1e12))


def ours(folder: Path, rows: int, budget: Budget) -> dict[str, Any]:
    """Seconds from opening the store to the first batch, and memory after it."""
    from diffprobe.training.world import World

    world = World.join(torch.device("cpu"))
    before, begun = proportional(), time.perf_counter()
    latents = store_of(folder, rows)
    source, _ = open_source(latents, ["train"], 0, torch.device("cpu"), WINDOW, budget, 4 * BATCH, world)
    source.read(*world.share(0, 4 * BATCH))
    begun = time.perf_counter() - begun
    world.wait()
    figures = {"start": begun, "MB": proportional() - before}
    world.wait()
    world.leave()
    return figures


# --- shuffling ----------------------------------------------------------------------------------------------


def shuffle(folder: Path, rows: int) -> dict[str, Any]:
    """A linear softmax head by SGD on noisy class means: its loss on unseen rows after three epochs, over ten seeds.

    The rows' order in the store is random, as stores of the workflow are, or sorted by class, which they are not.
    """
    return {order: {way: heads(folder, order, way) for way in ("random", "streamed")} for order in ("mixed", "sorted")}


def heads(folder: Path, order: str, way: str, seeds: int = 10) -> list[float]:
    """Mean and standard deviation of the loss over seeds."""
    latents, truth, unseen = classes_store(folder, order)
    losses = []
    for seed in range(seeds):
        window = 1e12 if way == "random" else 4 * CHUNK * latents.row_bytes
        source, _ = open_source(latents, ["train"], seed, torch.device("cpu"), window, Budget(0, 0), BATCH)
        head = torch.nn.Linear(128, 10)
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
        optimizer = torch.optim.SGD(head.parameters(), lr=0.05)
        for position in range(0, 3 * latents.counts["train"], 128):
            moments, labels, _ = source.read(position, position + 128)
            loss = torch.nn.functional.cross_entropy(head(moments.float().flatten(1)), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            losses.append(float(torch.nn.functional.cross_entropy(head(unseen), truth)))
    return [float(np.mean(losses)), float(np.std(losses))]


def classes_store(folder: Path, order: str, n: int = 20_480) -> tuple[LatentStore, torch.Tensor, torch.Tensor]:
    """Rows (8, 4, 4) of ten classes, and 5,000 unseen ones with their labels; 80 chunks, windows of 4."""
    rng = np.random.default_rng(0)
    means = rng.standard_normal((10, 128)) / 4
    labels = rng.integers(0, 10, n)
    labels = np.sort(labels) if order == "sorted" else labels
    path = folder / f"classes_{order}" / "latents.zarr"
    plan = StorePlan(path, {}, 0, {"train": n}, {"train": views.expand(VIEWS)}, shard_chunks=16)
    for part in plan.parts:
        here = labels[part.start : part.stop]
        rows = means[here] + rng.standard_normal((len(here), 128))
        write_part(plan, part, rows.astype(np.float16).reshape(-1, 8, 4, 4))
    finish(plan, {"train": labels}, {"train": np.arange(n)}, "own", {"scale": 1.0, "shift": 0.0})
    truth = rng.integers(0, 10, 5000)
    unseen = torch.from_numpy(means[truth] + rng.standard_normal((5000, 128))).float()
    return open_store(path), torch.from_numpy(truth), unseen


READING = (streamed, gathered, held, sampled, feeding, readers)
PARTS = (*READING, peers, peer, ours_streamed, ours_held, shuffle)
SETS = {"reading": ("gathered", "streamed", "held", "sampled")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=[*SETS, *(part.__name__ for part in PARTS)])
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--folder", help="of the stores, kept (default: made and removed)")
    arguments = parser.parse_args()
    with made(arguments.folder) as folder:
        if arguments.what not in SETS:
            functions = {part.__name__: part for part in PARTS}
            print(json.dumps(functions[arguments.what](folder, arguments.rows)), flush=True)
            return
        store_of(folder, arguments.rows)
        for name in SETS[arguments.what]:  # each in its own process, so that its memory can be measured
            output = start(name, folder, arguments.rows).communicate()[0]
            print(name, output.strip(), flush=True)


if __name__ == "__main__":
    main()
