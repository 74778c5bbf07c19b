"""An object store on loopback: an HTTP server of byte ranges, and the reader of latents that asks it."""

import http.client
import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import torch

from diffprobe.data.rows import scatter
from diffprobe.data.window import Share
from diffprobe.data.window_stream import WindowStream
from diffprobe.latents.chunks import LatentChunks
from diffprobe.latents.shards import CHECKSUM, CHUNK, PIECE
from diffprobe.latents.store import LatentStore
from diffprobe.runtime.errors import UserError

WINDOW = 48  # MiB, `train.window_mib`
CPU = torch.device("cpu")


class Ranges(BaseHTTPRequestHandler):
    """GET with a range, as S3 answers it, from the files of a folder; each answer comes after a delay."""

    protocol_version = "HTTP/1.1"  # connections are kept
    disable_nagle_algorithm = True  # or the end of an answer waits 40 ms for the client's acknowledgement

    def __init__(self, folder: Path, latency: float, bandwidth: float, *arguments: Any) -> None:
        self.folder, self.latency, self.bandwidth = folder, latency, bandwidth
        super().__init__(*arguments)

    def do_GET(self) -> None:
        time.sleep(self.latency)
        file = os.open(self.folder / self.path.lstrip("/"), os.O_RDONLY)
        try:
            size = os.fstat(file).st_size
            first, last = self.headers["Range"].removeprefix("bytes=").split("-")
            offset = int(first) if first else max(0, size - int(last))
            stop = min(size, int(last) + 1) if first else size
            self.send_response(206)
            self.send_header("Content-Length", str(stop - offset))
            self.send_header("Content-Range", f"bytes {offset}-{stop - 1}/{size}")
            self.end_headers()
            begun, start = time.perf_counter(), offset
            while offset < stop:
                offset += os.sendfile(self.connection.fileno(), file, offset, min(PIECE // 4, stop - offset))
                if self.bandwidth:
                    time.sleep(max(0, (offset - start) / self.bandwidth - (time.perf_counter() - begun)))
        finally:
            os.close(file)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def served(folder: Path, latency: float = 0, bandwidth: float = 0) -> Iterator[int]:
    """The port at which a process serves a folder; latency in s, bandwidth in bytes/s of each connection (0: any)."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Ranges, folder, latency, bandwidth))
    server.daemon_threads = True
    process = multiprocessing.get_context("fork").Process(target=server.serve_forever, daemon=True)
    process.start()
    try:
        yield server.server_port
    finally:
        process.terminate()
        process.join()
        server.server_close()


@dataclass
class RangeReader:
    """A split's rows by range requests, in the place of `latents.shards.ShardReader`: same order, same checksums."""

    port: int
    path: str  # {store}/{split}/moments below the server's folder
    row_bytes: int
    chunks: int  # in a shard
    indices: dict[str, np.ndarray] = field(default_factory=dict)  # by file
    local: threading.local = field(default_factory=threading.local)  # a connection for each thread

    def read(self, view: int, chunk: int, rows: np.ndarray, positions: np.ndarray) -> None:
        """As `ShardReader.read`. Raises UserError where the bytes are not those that were written.

        A request for the chunk, and before the first of a shard one for its index.
        """
        shard, number = divmod(chunk, self.chunks)
        path = f"/{self.path}/c/{view}/{shard}/0/0/0"
        if path not in self.indices:
            length = 16 * self.chunks + CHECKSUM
            index = np.empty(length, np.uint8)
            self.receive(self.get(path, f"-{length}"), index)
            if google_crc32c.value(index[:-CHECKSUM]) != int.from_bytes(index[-CHECKSUM:].tobytes(), "little"):
                raise UserError(f"{path}: the index is damaged")
            self.indices[path] = index[:-CHECKSUM].view("<u8").reshape(self.chunks, 2)
        offset, length = self.indices[path][number].tolist()
        response = self.get(path, f"{offset}-{offset + length - 1}")
        at_once, crc = PIECE // self.row_bytes, 0
        buffer = np.empty(at_once * self.row_bytes, np.uint8)
        for first in range(0, CHUNK, at_once):
            size = min(at_once, CHUNK - first) * self.row_bytes
            self.receive(response, buffer[:size])
            crc = google_crc32c.extend(crc, buffer[:size])
            targets = positions[first : first + at_once]
            scatter(rows, targets, buffer[: len(targets) * self.row_bytes].reshape(-1, self.row_bytes))
        checksum = np.empty(CHECKSUM, np.uint8)
        self.receive(response, checksum)
        if crc != int.from_bytes(checksum.tobytes(), "little"):
            raise UserError(f"{path}: the checksum of chunk {number} is wrong")

    def get(self, path: str, span: str) -> http.client.HTTPResponse:
        if not hasattr(self.local, "connection"):
            self.local.connection = http.client.HTTPConnection("127.0.0.1", self.port)
        self.local.connection.request("GET", path, headers={"Range": f"bytes={span}"})
        response = self.local.connection.getresponse()
        if response.status != 206:
            raise UserError(f"{path}: the server answers {response.status}")
        return response

    @staticmethod
    def receive(response: http.client.HTTPResponse, buffer: np.ndarray) -> None:
        view, done = buffer.data, 0
        while done < len(view):
            count = response.readinto(view[done:])
            if not count:
                raise UserError("the answer is truncated")
            done += count


def remote_source(
    latents: LatentStore, folder: Path, port: int, readers: int, window_mib: float = WINDOW, share: Share | None = None
) -> WindowStream:
    """Training's own stream of a store, whose moments come from the server; labels and rows are read from the disk."""
    chunks = LatentChunks(latents, ["train"], 0)
    path = str((latents.path / "train" / "moments").relative_to(folder))
    chunks.readers = {"train": RangeReader(port, path, latents.row_bytes, latents.shard_chunks)}
    chunks.pool = ThreadPoolExecutor(readers)
    return WindowStream(chunks, 0, max(1, int(window_mib * 2**20 // chunks.chunk_bytes)), CPU, share)
