"""Latents at the rate that GPUs need, from the local disk and from an HTTP server in the manner of an object store.

    python benchmarks/object_store.py                       # all ways, about two minutes; 1 GB of disk
    python benchmarks/object_store.py --only local          # or http, or processes
    python benchmarks/object_store.py --rate 32000 --lines results/object_store.jsonl

Eight consumers, one for each GPU, take their shares of every batch of 256 rows as fast as a token bucket lets them: by
default 20,600 rows/s in all, what DiT-B/2 trains on eight H200 at 45 % of their measured peak. A bucket holds two
batches; what flows into a full one is lost, which is a GPU that waits: `stalled` is that share of the time. `free` is
the rate without buckets. Memory is the peak above that after the imports, mapped files left out. Every measurement is a
process of its own.

diffprobe reads local files only. For HTTP everything is its own (order, windows, threads, checksums) except for one
class: `RangeReader` (benchmarks/ranges.py) takes the place of `ShardReader`, and asks for the same byte ranges by GET.
The server is a process on loopback that answers from the page cache, each request after a delay, at a limited rate per
connection where one is given. Nothing here shows what a real store adds: TLS, signatures, throttling, tails of the
latency, retries.
"""

import argparse
import json
import multiprocessing
import os
import re
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch
from latents import BATCH, Peak, drop, made, store_of, touch
from ranges import CPU, WINDOW, remote_source, served

from diffprobe.data.window import Share
from diffprobe.data.window_stream import WindowStream
from diffprobe.latents.chunks import LatentChunks
from diffprobe.latents.store import LatentStore, open_store

CONSUMERS, DEPTH = 8, 2  # GPUs; batches that a bucket holds


# --- the consumers ------------------------------------------------------------------------------------------


class TokenBucket:
    """Rows that a consumer may take: `rate` a second, at most `depth` saved up."""

    def __init__(self, rate: float, depth: float) -> None:
        self.rate, self.depth, self.tokens, self.lost = rate, depth, 0.0, 0.0
        self.filled = time.perf_counter()

    def fill(self) -> None:
        now = time.perf_counter()
        tokens = self.tokens + (now - self.filled) * self.rate
        self.tokens, self.lost, self.filled = min(tokens, self.depth), self.lost + max(0, tokens - self.depth), now

    def take(self, rows: int) -> None:
        """Wait for so many tokens and take them."""
        self.fill()
        while self.tokens < rows:
            time.sleep((rows - self.tokens) / self.rate)
            self.fill()
        self.tokens -= rows


@dataclass
class Consumption:
    """What consumers saw."""

    rate: float  # rows/s
    stalled: float  # share of the time in which a consumer was ready and had no rows
    longest: float  # s, the longest wait for a batch


def consume(read: Callable[[int, int], Any], share: int, consumers: int, rate: float, seconds: float) -> Consumption:
    """Read batches for so many seconds; each of the consumers takes its share of a batch, at `rate` rows/s."""
    read(0, BATCH)  # the first window, for which any training waits once
    buckets = [TokenBucket(rate, DEPTH * share) for _ in range(consumers)]
    begun, position, longest = time.perf_counter(), BATCH, 0.0
    while (now := time.perf_counter()) - begun < seconds:
        read(position, position + BATCH)
        longest = max(longest, time.perf_counter() - now)
        position += BATCH
        for bucket in buckets:
            bucket.take(share)
    elapsed = time.perf_counter() - begun
    return Consumption((position - BATCH) / elapsed, max(b.lost / b.rate for b in buckets) / elapsed, longest)


# --- what is measured --------------------------------------------------------------------------------------


class Anonymous(Peak):
    """As `Peak`, of the memory that no file backs: pages of mapped files are the page cache's."""

    def watch(self) -> None:
        before = anonymous()
        while self.running:
            self.peak = max(self.peak, (anonymous() - before) / 1e6)
            time.sleep(0.01)


def anonymous() -> int:
    """Bytes of this process."""
    status = Path("/proc/self/status").read_text()
    return 1024 * sum(int(re.findall(rf"^{name}:\s+(\d+)", status, re.M)[0]) for name in ("RssAnon", "RssShmem"))


@dataclass(frozen=True)
class Way:
    """A row of the table."""

    name: str
    kind: str  # streamed or mapped local files, or http
    cold: bool = False
    latency_ms: float = 0
    bandwidth: float = 0  # bytes/s of each connection; 0: as fast as loopback is
    readers: int = 2  # requests at once; training's own number is 2
    window_mib: float = WINDOW
    processes: int = 1  # each reads its own share of the batches, as training on so many GPUs does


LOCAL = [
    Way("local, cold", "streamed", cold=True),
    Way("local, page cache, streamed", "streamed"),
    Way("local, page cache, mapped", "mapped"),
]
HTTP = [
    *(Way(f"http, {ms} ms", "http", latency_ms=ms, readers=n) for ms in (2, 10, 50) for n in (2, 4, 12)),
    Way("http, 50 ms, 90 MB/s each", "http", latency_ms=50, bandwidth=90e6, readers=12),
    Way("http, 50 ms, 90 MB/s each", "http", latency_ms=50, bandwidth=90e6, readers=16, window_mib=192),
]
PROCESSES = [
    Way("local, page cache, streamed", "streamed", processes=8),
    Way("local, page cache, mapped", "mapped", processes=8),
]
WAYS = {"local": LOCAL, "http": HTTP, "processes": PROCESSES}


def measured(way: Way, store: Path, rate: float, seconds: float) -> dict[str, Any]:
    """One row: with buckets, then without them, each in processes of their own."""
    (drop if way.cold else touch)(store)
    waits = [apart(partial(one, way, store, rank, rate, seconds)) for rank in range(way.processes)]
    shares = [wait() for wait in waits]
    free = None
    if not way.cold and way.processes == 1:
        free = round(apart(partial(one, way, store, 0, 1e9, seconds / 2))()["rate"])
    return {
        "load": round(os.getloadavg()[0], 2),  # of other work too: it is noted, since rates suffer
        "way": way.name, "readers": way.readers, "window_mib": way.window_mib, "processes": way.processes,
        "rate": round(min(share["rate"] for share in shares)),
        "stalled": round(max(share["stalled"] for share in shares), 3),
        "longest_ms": round(1000 * max(share["longest"] for share in shares), 1),
        "cores": round(sum(share["cores"] for share in shares), 2),
        "mb": round(sum(share["mb"] for share in shares)),
        "free": free,
    }  # fmt: skip


def one(way: Way, store: Path, rank: int, rate: float, seconds: float) -> dict[str, float]:
    """In a process of its own: this rank's share of every batch, which is all of it where there is one process."""
    torch.set_num_threads(1)
    with served(store, way.latency_ms / 1000, way.bandwidth) as port:
        latents, peak = open_store(store), Anonymous()
        source = opened(way, latents, port, Share(rank, way.processes, BATCH))
        first, own = BATCH * rank // way.processes, BATCH // way.processes
        if way.kind == "mapped":  # the first epoch is read as streamed ones are, and maps nothing yet
            for start in range(0, latents.counts["train"] - BATCH, BATCH):
                source.read(start + first, start + first + own)
        begun = latents.counts["train"] // BATCH * BATCH if way.kind == "mapped" else 0
        cpu = time.process_time()
        read = lambda start, stop: source.read(begun + start + first, begun + start + first + own)  # noqa: E731
        consumed = consume(read, BATCH // CONSUMERS, CONSUMERS // way.processes, rate / CONSUMERS, seconds)
        cores = (time.process_time() - cpu) / seconds
        return {**asdict(consumed), "cores": cores, "mb": peak.stop()}


def opened(way: Way, latents: LatentStore, port: int, share: Share) -> WindowStream:
    if way.kind == "http":
        return remote_source(latents, latents.path, port, way.readers, way.window_mib, share)
    chunks = LatentChunks(latents, ["train"], 0)
    if way.kind == "mapped":
        chunks.map(check=True)
    return WindowStream(chunks, 0, int(way.window_mib * 2**20 // chunks.chunk_bytes), CPU, share)


def apart(task: Callable[[], dict[str, float]]) -> Callable[[], dict[str, float]]:
    """Start a task in a forked process; what is returned waits for what it returns."""
    context = multiprocessing.get_context("fork")
    results, sender = context.Pipe(duplex=False)

    def run() -> None:
        sender.send(task())

    process = context.Process(target=run)
    process.start()
    sender.close()

    def wait() -> dict[str, float]:
        try:
            result: dict[str, float] = results.recv()
        except EOFError:
            sys.exit("a measurement failed; its error stands above")
        process.join()
        return result

    return wait


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=WAYS, nargs="+", default=list(WAYS))
    parser.add_argument("--rows", type=int, default=60_000, help="of the store, 16 KiB each")
    parser.add_argument("--rate", type=float, default=20_600, help="rows/s that all consumers take together")
    parser.add_argument("--seconds", type=float, default=4, help="of each measurement")
    parser.add_argument("--folder", help="where stores are kept; by default a temporary one")
    parser.add_argument("--lines", type=Path, help="also written there, as JSON lines")
    arguments = parser.parse_args()
    with made(arguments.folder) as folder:
        store = store_of(folder, arguments.rows).path
        machine = {
            "date": datetime.now(UTC).isoformat(timespec="seconds"), "cpu": cpu_name(), "cpus": os.cpu_count(),
            "rows": arguments.rows, "required": arguments.rate, "seconds": arguments.seconds,
        }  # fmt: skip
        print(json.dumps(machine), flush=True)
        lines = []
        print(f"{'way':<30}{'readers':>8}{'MiB':>6}{'procs':>6}{'rows/s':>9}{'stalled':>9}{'longest':>9}"
              f"{'cores':>7}{'MB':>7}{'free':>9}")  # fmt: skip
        for way in (way for name in arguments.only for way in WAYS[name]):
            row = measured(way, store, arguments.rate, arguments.seconds)
            print(f"{row['way']:<30}{row['readers']:>8}{row['window_mib']:>6.0f}{row['processes']:>6}"
                  f"{row['rate']:>9,}{row['stalled']:>9.1%}{row['longest_ms']:>6.0f} ms{row['cores']:>7}"
                  f"{row['mb']:>7}{row['free'] or '':>9}", flush=True)  # fmt: skip
            lines.append(json.dumps(machine | row) + "\n")
    if arguments.lines:
        arguments.lines.write_text("".join(lines))


def cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "unknown")


if __name__ == "__main__":
    main()
