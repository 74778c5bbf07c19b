"""What makes a project read the files of a dataset again."""

import os
import zipfile
from pathlib import Path

import pytest
from toy_probing import EXPERIMENT

from diffprobe.config.load import parse
from diffprobe.config.models import Config
from diffprobe.plan.layout import Layout, receipt
from diffprobe.plan.preflight import refuse_lost_sources
from diffprobe.plan.sources import Sources
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import write_json

HASH = "1" * 64


def config(**keys: object) -> Config:
    dataset = {"source": {"kind": "zip", "paths": ["a.zip"]}, "size": 32, **keys}
    experiment = EXPERIMENT | {"dataset": "photos", "generation": None, "probe": None}
    return parse({"datasets": {"photos": dataset}, "experiments": {"one": experiment}})


def argument(config: Config) -> dict[str, object]:
    return Sources(config).images_argument("photos")


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
    write_json(path, {"config": before, "store": {"content": HASH}})
    assert argument(project) == before
    named = {key: value for key, value in keys.items() if key != "content"}
    assert argument(config(**named)) == argument(config(**named, content=HASH)) == before  # to name it is no change
    os.utime("a.zip", (1, 1))  # as a copy without times
    assert (argument(project) != before) == again
    assert argument(config(**keys | {"content": "2" * 64})) != before
    Path("a.zip").unlink()
    assert argument(project) == before  # what was imported is kept
    refuse_lost_sources(project, Sources(project))
    larger = config(**keys | {"size": 64})
    with pytest.raises(UserError, match=r"a\.zip: no such file .* images are kept: put the source back"):
        refuse_lost_sources(larger, Sources(larger))


def test_a_drive_that_is_away_and_a_broken_link_keep_what_was_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    project = config(source={"kind": "folder", "path": "photos"})
    path = Path(receipt(Layout(project.results).images("photos")))
    path.parent.mkdir(parents=True)
    Path("photos/cat").mkdir(parents=True)
    Path("photos/cat/0.png").write_bytes(b"")
    write_json(path, {"config": (before := argument(project))})
    Path("photos/cat/1.png").symlink_to("missing.png")
    assert argument(project) == before
    path.rename("receipt")
    assert argument(project)["state"] is None  # nothing is lost: the job names the link
    Path("receipt").rename(path)
    Path("photos").rename("elsewhere")
    Path("photos").mkdir()  # a mount point
    assert argument(project) == before
    refuse_lost_sources(project, Sources(project))
    moved = config(source={"kind": "folder", "path": "photos2"})
    Path("photos2").mkdir()
    with pytest.raises(UserError, match="photos2: no such file or folder, or an empty one; previously imported images"):
        refuse_lost_sources(moved, Sources(moved))
