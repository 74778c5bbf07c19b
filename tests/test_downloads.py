"""Archives arrive complete and verified, even over a bad network, or not at all."""

import hashlib
import http.server
import importlib.util
import json
import threading
from collections.abc import Iterator
from pathlib import Path

from diffprobe.runtime.job import run

import numpy as np
import pytest

from diffprobe.config.sources.mnist import MNIST
from diffprobe.data import downloads
from diffprobe.data.downloads import Archive, downloaded, fetch
from diffprobe.runtime.errors import UserError

CONTENT = np.random.default_rng(0).bytes(3 * downloads.CHUNK + 17)
NAME = "archive.tar.gz"
ROOT = Path(__file__).parents[1]


class Server(http.server.ThreadingHTTPServer):
    """Serves CONTENT under any name, behaving as the next of `behaviours` says; the last one stays."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.behaviours: list[str] = []
        self.requests: list[tuple[str, str | None]] = []  # (path, range) of each request

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/files"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        behaviours, requested = self.server.behaviours, self.headers["Range"]
        self.server.requests.append((self.path, requested))
        behaviour = behaviours.pop(0) if len(behaviours) > 1 else behaviours[0]
        if behaviour.isdigit():
            return self.send_error(int(behaviour))
        content = b"<html>" if behaviour == "page" else CONTENT
        start = int(requested.removeprefix("bytes=").removesuffix("-")) if requested and behaviour != "no ranges" else 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start : start + downloads.CHUNK + 5 if behaviour == "break" else None])
        return None


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(downloads, "WAITS", (0.0, 0.0))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def archive(url: str = "http://127.0.0.1:9/nowhere", content: bytes = CONTENT) -> Archive:
    return Archive(NAME, url, hashlib.sha256(content).hexdigest(), len(content))


def refused(message: str, published: Archive, target: Path, mirror: str | None) -> None:
    with pytest.raises(UserError, match=message) as error:
        fetch(published, target, mirror, lambda _: None)
    assert "\n" not in str(error.value)
    assert not target.exists() or target.read_bytes() != CONTENT
    assert not list(target.parent.rglob("*.part*")), "a broken download is left behind"


@pytest.mark.parametrize(
    ("behaviours", "ranges"),
    [
        (["whole"], [None]),
        (["break", "break", "whole"], [None, f"bytes={downloads.CHUNK + 5}-", f"bytes={2 * downloads.CHUNK + 10}-"]),
        (["503", "429", "whole"], [None, None, None]),
        (["break", "no ranges"], [None, f"bytes={downloads.CHUNK + 5}-"]),
    ],
)
def test_a_file_arrives_whole(behaviours: list[str], ranges: list, server: Server, tmp_path: Path) -> None:
    server.behaviours = behaviours
    target, reports = tmp_path / "new" / NAME, []
    fetch(archive(f"{server.url}/{NAME}"), target, None, reports.append)
    assert target.read_bytes() == CONTENT and list(target.parent.iterdir()) == [target]
    assert reports[-1] == len(CONTENT) and max(reports) == len(CONTENT)
    assert server.requests == [(f"/files/{NAME}", requested) for requested in ranges]
    fetch(archive(), target, None, reports.append)  # right already: no network is needed


def test_a_wrong_file_is_replaced_and_a_mirror_may_be_an_address(server: Server, tmp_path: Path) -> None:
    server.behaviours = ["whole"]
    (tmp_path / NAME).write_bytes(b"wrong")
    fetch(archive(), tmp_path / NAME, server.url + "/", lambda _: None)
    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert server.requests == [(f"/files/{NAME}", None)]


@pytest.mark.parametrize(
    ("behaviour", "message", "tries"),
    [
        ("page", f"wrong file .SHA-256 {hashlib.sha256(b'<html>').hexdigest()}, expected", 1),
        ("404", "the server answered 404 Not Found; try again, or name a folder that holds the file in `mirror`", 1),
        ("503", "the server answered 503", 3),
        ("break", "(the connection broke|IncompleteRead)", 3),
    ],
)
def test_a_server_that_fails(behaviour: str, message: str, tries: int, server: Server, tmp_path: Path) -> None:
    server.behaviours = [behaviour]
    refused(f"^{server.url}/{NAME}: {message}", archive(f"{server.url}/{NAME}"), tmp_path / NAME, None)
    assert len(server.requests) == tries and not list(tmp_path.iterdir())


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "http://host.invalid", "http://a b"])
def test_no_network_names_the_address_and_the_remedy(url: str, tmp_path: Path) -> None:
    refused(f"^{url}/{NAME}: .*`mirror`", archive(), tmp_path / NAME, url)


def test_a_folder_as_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror, target = tmp_path / "mirror", tmp_path / "results" / NAME
    mirror.mkdir()
    refused(f"mirror/{NAME}: no such file; put", archive(), target, str(mirror))
    held = mirror / NAME
    held.write_bytes(b"wrong")
    refused(f"mirror/{NAME}: wrong file", archive(), target, str(mirror))
    assert held.read_bytes() == b"wrong" and not target.exists()
    held.write_bytes(CONTENT)
    held.chmod(0o400)
    before = held.stat()
    monkeypatch.setenv("HOME", str(tmp_path))
    fetch(archive(), target, "~/mirror", lambda _: None)
    assert target.samefile(held) and held.stat().st_mode == before.st_mode
    target.unlink()

    def other_file_system(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", other_file_system)
    fetch(archive(), target, str(mirror), lambda _: None)
    assert target.read_bytes() == CONTENT and not target.samefile(held)


def test_a_full_disk_is_reported(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(downloads, "stream", full)
    refused(r"No space left on device \(it needs [\d,]+ bytes\)", archive(), tmp_path / NAME, server.url)


@pytest.mark.parametrize("damage", ["changed", "lost"])
def test_what_is_cached_is_checked_again(damage: str, tmp_path: Path) -> None:
    part = archive()
    path = tmp_path / part.name
    path.write_bytes(CONTENT)
    assert downloaded(part, tmp_path) == path
    path.unlink() if damage == "lost" else path.write_bytes(CONTENT[:-1] + b"?")
    with pytest.raises(UserError, match=f"^{path}: .* downloaded; delete {tmp_path}/archives.json and run again$"):
        downloaded(part, tmp_path)


def test_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = (archive(), archive(content=b"second")._replace(name="second"))
    monkeypatch.setattr(MNIST, "archives", parts)
    (tmp_path / NAME).write_bytes(CONTENT)
    (tmp_path / "second").write_bytes(b"second")
    spec = importlib.util.spec_from_file_location("download", ROOT / "workflow" / "scripts" / "download.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    (tmp_path / "logs" / "x").mkdir(parents=True)
    outputs = [f"archives={tmp_path}/out/archives.json", f"receipt={tmp_path}/out/receipt.json"]
    config, mirror = json.dumps({"kind": "mnist"}), f"mirror={tmp_path}"
    log = tmp_path / "logs" / "x" / "download.log"
    run(script.main, [config, "--out", *outputs, "--with", mirror, "--log", str(log)])
    assert (tmp_path / "out" / NAME).read_bytes() == CONTENT
    assert (tmp_path / "out" / "second").read_bytes() == b"second"
    receipt = json.loads((tmp_path / "out" / "receipt.json").read_text())
    assert receipt["files"] == {part.name: part.sha256 for part in parts}
    progress = json.loads(log.with_suffix(".json").read_text())
    assert (progress["state"], progress["done"], progress["unit"]) == ("done", len(CONTENT) + 6, "bytes")
