"""Images and weights from an object store and a web server, both on loopback: fetched once, by their content."""

import functools
import hashlib
import http.server
import importlib
import io
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from diffprobe.config.load import parse
from diffprobe.data.imagesets import open_images
from diffprobe.plan import job_arguments, preflight
from diffprobe.plan.inputs import Inputs
from diffprobe.plan.own_files import remote_files
from diffprobe.plan.sources import Sources
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.fetched import refuse_changed

ROOT = Path(__file__).parents[1]
HASH = "0" * 64
NEEDED = ("moto", "flask_cors", "snakemake_storage_plugin_s3", "snakemake_storage_plugin_http")
NETWORK = {"kind": "unet", "channels": 8, "multipliers": [1], "blocks": 1, "attention": [], "groups": 4}


def zip_of(value: int) -> bytes:
    """Forty grey squares in two classes, of this value and brighter."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for i in range(40):
            picture = io.BytesIO()
            Image.fromarray(np.full((8, 8, 3), value + i, np.uint8)).save(picture, "PNG")
            archive.writestr(f"{'ab'[i % 2]}/{i:02d}.png", picture.getvalue())
    return file.getvalue()


def address(url: str, content: bytes) -> str:
    return f"{url}#sha256={hashlib.sha256(content).hexdigest()}"


def config_of(*paths: str, **more: object) -> dict:
    """A config of one dataset, read from zips at these places."""
    squares = {"source": {"kind": "zip", "paths": list(paths)}, "size": 8}
    sampled = {"samplers": {"euler": {"kind": "euler", "steps": 2}}, "images": 8}
    plain = {"dataset": "squares", "network": NETWORK, "process": {"kind": "edm"}, "sample": sampled}
    plain |= {"train": {"checkpoints": [1], "batch": 8, **more}}
    return {"datasets": {"squares": squares}, "experiments": {"plain": plain}}


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An object store, which jobs find as AWS's own clients do: by the environment."""
    for package in NEEDED:
        pytest.importorskip(package, reason=f"needs {package}: make test-remote")
    server = importlib.import_module("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    settings = {"AWS_ENDPOINT_URL": "http://{}:{}".format(*server.get_host_and_port()), "NO_PROXY": "127.0.0.1"}
    settings |= {"AWS_ACCESS_KEY_ID": "anyone", "AWS_SECRET_ACCESS_KEY": "anything", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    client().create_bucket(Bucket="bucket")
    yield
    server.stop()


def client() -> Any:
    return importlib.import_module("boto3").client("s3")


def put(name: str, content: bytes) -> None:
    client().put_object(Bucket="bucket", Key=name, Body=content)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the address at which a web server shows it."""
    folder = tmp_path / "site"
    folder.mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def snakemake(project: Path, config: dict, *more: str) -> str:
    """What Snakemake says when it makes the images of a config."""
    (project / "config.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--cores", "1", *more]
    command += ["--configfile", "config.yaml", "--profile", str(ROOT / "profiles" / "default")]
    command += ["--", "results/data/squares/images.h5"]
    process = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=300)
    return f"{process.stdout}{process.stderr}\nstatus {process.returncode}"


def test_images_of_a_bucket_and_of_a_site(store: None, site: tuple[Path, str], tmp_path: Path) -> None:
    first, second = zip_of(10), zip_of(100)
    folder, url = site
    (folder / "second.zip").write_bytes(second)
    places = address("s3://bucket/some/first.zip", first), address(f"{url}/second.zip", second)

    wrong = first[:-1] + b"?"
    put("some/first.zip", wrong)
    said = snakemake(tmp_path, config_of(*places), "--keep-going")
    expected, actual = (hashlib.sha256(content).hexdigest() for content in (first, wrong))
    line = f"error: s3://bucket/some/first.zip: its SHA-256 is {actual}, not {expected} as in the config; put the right"
    assert line in said and "Traceback" not in said and said.endswith("status 1"), said
    assert [path.name for path in tmp_path.glob("results/fetched/*/*.zip")] == ["second.zip"]
    assert not (tmp_path / "results/data").exists()

    put("some/first.zip", first)
    said = snakemake(tmp_path, config_of(*places))
    assert said.endswith("status 0"), said
    images = open_images(tmp_path / "results/data/squares/images.h5", splits=["train", "select", "test"])
    assert sorted(images.read(0, images.n)[:, 0, 0, 0]) == [*range(10, 50), *range(100, 140)]

    put("some/first.zip", first)  # the same content, written again; and the other at a place where nobody is
    places = places[0], address("https://host.invalid/second.zip?signature=1", second)
    assert "Nothing to be done" in snakemake(tmp_path, config_of(*places), "-n")


def test_a_fetched_file_that_has_changed_is_refused(tmp_path: Path) -> None:
    fetched = tmp_path / "fetched" / hashlib.sha256(b"right").hexdigest() / "weights.pt"
    fetched.parent.mkdir(parents=True)
    fetched.write_bytes(b"right")
    refuse_changed([str(fetched)])
    fetched.write_bytes(b"wrong")
    with pytest.raises(UserError, match=f"^{fetched}: has changed since it was fetched; delete it and run again$"):
        refuse_changed([str(fetched)])


def test_weights_come_by_content_too() -> None:
    """Jobs read what is fetched; their arguments name its content, so that another address makes nothing anew."""
    places = [f"{url}/weights.safetensors#sha256={HASH}" for url in ("s3://a", "https://user:secret@host/b")]
    configs = [parse(config_of("faces.zip", imported=place)) for place in places]
    fetched = f"results/fetched/{HASH}/weights.safetensors"
    assert [list(remote_files(config)) for config in configs] == [[fetched]] * 2
    assert [Inputs(config).imported("plain") for config in configs] == [fetched] * 2
    assert [remote.shown for config in configs for remote in remote_files(config).values()] == [
        "s3://a/weights.safetensors",
        "https://host/b/weights.safetensors",
    ]
    datasets = [parse(config_of(f"{url}/faces.zip#sha256={HASH}")).datasets["squares"] for url in ("s3://a", "gs://b")]
    arguments = [job_arguments.images(dataset, None) for dataset in datasets]
    assert arguments[0] == arguments[1] and arguments[0]["source"]["paths"] == [f"faces.zip#sha256={HASH}"]


@pytest.mark.parametrize(
    ("place", "line"),
    [
        (
            "s3://bucket/faces.zip",
            "an address with the SHA-256 of its content behind it: s3://bucket/faces.zip#sha256=.. ",
        ),
        ("https://host/faces.zip#sha256=12", "an address with the SHA-256 of its content behind it"),
        (f"gs://bucket/#sha256={HASH}", "an address that ends in a plain file name"),
    ],
)
def test_addresses_that_name_no_content(place: str, line: str) -> None:
    with pytest.raises(UserError, match=r"^config: datasets\.squares\.source\.paths\.0: ") as refusal:
        parse(config_of(place))
    assert f"is refused; allowed: {line}" in str(refusal.value) and "\n" not in str(refusal.value)


def test_a_folder_is_local() -> None:
    config = config_of("faces.zip")
    config["datasets"]["squares"]["source"] = {"kind": "folder", "path": "s3://bucket/faces"}
    with pytest.raises(UserError, match=r"source\.path: .* allowed: a path on this machine \(only zips, weights and"):
        parse(config)


def test_a_missing_plugin_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(preflight, "find_spec", lambda name: None)
    config = parse(config_of(f"s3://bucket/faces.zip#sha256={HASH}"))
    with pytest.raises(UserError, match=r"^s3://bucket/faces\.zip: .*: pip install 'diffprobe\[s3\]'$"):
        preflight.refuse(config, Sources(config))
