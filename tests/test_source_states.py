"""What makes a project read the files of a dataset again."""

import os
import zipfile
from pathlib import Path

import pytest

from diffprobe.config.load import parse
from diffprobe.config.models import Config
from diffprobe.plan import job_arguments
from diffprobe.plan.layout import Layout, receipt
from diffprobe.plan.sources import Sources
from diffprobe.runtime.files import write_json

HASH = "1" * 64


def config(**keys: object) -> Config:
    dataset = {"source": {"kind": "zip", "paths": ["a.zip"]}, "size": 32, **keys}
    experiment = {
        "dataset": "photos",
        "network": {"kind": "unet", "channels": 32, "multipliers": [1, 2], "blocks": 1, "groups": 8},
        "process": {"kind": "edm"},
        "train": {"checkpoints": [8]},
        "sample": {"samplers": {"heun": {"kind": "heun"}}},
        "generation": None,
        "probe": None,
    }
    return parse({"datasets": {"photos": dataset}, "experiments": {"one": experiment}})


def argument(config: Config) -> object:
    return job_arguments.images(config.datasets["photos"], Sources(config).images("photos"))


@pytest.mark.parametrize(
    ("keys", "again"),
    [({}, True), ({"content": HASH}, False), ({"content": HASH, "decode": "when_read"}, True)],
    ids=["no hash", "hash", "hash, but jobs read the files themselves"],
)
def test_copied_files_are_read_again_unless_their_hash_is_named(
    keys: dict[str, object], again: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile("a.zip", "w") as images:
        images.writestr("0.png", b"")
    project = config(**keys)
    path = Path(receipt(Layout(project.results).images("photos")))
    path.parent.mkdir(parents=True)
    before = argument(project)
    write_json(path, {"config": before})
    assert argument(project) == before
    os.utime("a.zip", (1, 1))  # as a copy without times
    assert (argument(project) != before) == again
    assert argument(config(**keys | {"content": "2" * 64})) != before
    Path("a.zip").unlink()
    assert argument(project) == before  # what was imported is kept
