"""What is deleted: files that we wrote, in the stores that we wrote them to, and nothing of anybody else's."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr
from toy_latents import tree

from diffprobe.__main__ import main
from diffprobe.data import images, samples
from diffprobe.diffusion.edm import EDM
from diffprobe.evaluation.representation.chunks import MANIFEST
from diffprobe.evaluation.representation.featurestore import FOLDER, finish, write_block
from diffprobe.latents.parts import receipts_folder
from diffprobe.runtime import leases
from diffprobe.runtime.arrays import create_array, open_array
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import atomic, clear_partials, digest, read_json, write_json
from diffprobe.runtime.locks import try_lock
from diffprobe.runtime.removal import remove_file, remove_store

LAYOUT = ("mark.json", r"c/\d+/0")


def verify(capsys: pytest.CaptureFixture[str], *paths: Path) -> str:
    """What `verify --repair` says of damaged stores."""
    with pytest.raises(SystemExit) as stop:
        main(["verify", "--repair", *map(str, paths)])
    assert stop.value.code == 1
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return error


# --- the tools ------------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "x.store"
    for name in ("mark.json", "c/0/0", "c/12/0", "c/12/.0.77.part"):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(name)
    return path


def test_a_store_goes_whole(store: Path) -> None:
    (store / "c" / "3").mkdir()  # a writer was killed before its file
    remove_store(store, LAYOUT)
    assert list(store.parent.iterdir()) == []
    remove_store(store, LAYOUT)  # nothing is there


STRANGERS: dict[str, Callable[[Path, Path], object]] = {
    "a file beside": lambda store, _: (store / "thesis.tex").write_text("dear"),
    "a file below": lambda store, _: (store / "c/0/thesis.tex").write_text("dear"),
    "a name that is nearly ours": lambda store, _: (store / "c/0/00").write_text("dear"),
    "a folder": lambda store, _: (store / "photos").mkdir(),
    "a hidden file": lambda store, _: (store / ".part.txt").write_text("dear"),
    "a folder named as a file of ours": lambda store, _: (store / "c/7/0").mkdir(parents=True),
    "a link to a folder": lambda store, outside: (store / "c/9").symlink_to(outside),
    "a link to a file": lambda store, outside: (store / "c/0/.x.1.part").symlink_to(outside / "0"),
}


@pytest.mark.parametrize("stranger", STRANGERS)
def test_a_store_that_holds_anything_else_stays(stranger: str, store: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "0").write_text("dear")
    STRANGERS[stranger](store, outside)
    before = tree(tmp_path)
    with pytest.raises(UserError, match=r"x\.store: holds .*, which is not ours; nothing is removed"):
        remove_store(store, LAYOUT)
    assert tree(tmp_path) == before


def test_a_link_to_a_store_stays(store: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(store)
    with pytest.raises(UserError, match="link: is a link"):
        remove_store(tmp_path / "link", LAYOUT)
    assert len(tree(store)) == 4


def test_a_file_outside_its_store_stays(store: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "0").write_text("dear")
    (store / "c" / "5").symlink_to(tmp_path / "outside")
    for path in ("../outside/0", "c/5/0", tmp_path / "outside" / "0"):
        with pytest.raises(UserError, match="lies outside"):
            remove_file(store, path)
    (store / "link").symlink_to(tmp_path / "outside" / "0")
    for path in ("link", "c"):
        with pytest.raises(UserError, match="is a link or a folder in the place of a file"):
            remove_file(store, path)
    remove_file(store, "gone")
    assert (store / "link").exists() and (tmp_path / "outside" / "0").exists()
    remove_file(store, "c/0/0")
    assert not (store / "c/0/0").exists()


def test_a_new_folder_replaces_no_other(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    with atomic(folder) as partial:  # an empty one makes way
        partial.mkdir()
        (partial / "first").write_text("")
    with pytest.raises(UserError, match="model: exists and is not an empty folder"), atomic(folder) as partial:
        partial.mkdir()
        (partial / "second").write_text("")
    assert list(tree(tmp_path)) == ["model/first"]


def test_only_half_written_files_are_cleared(tmp_path: Path) -> None:
    names = (".a.77.part.npz", ".a.backup.part.npz", ".a.77.part.npz.mine", ".ab.77.part.npz", ".[a].7.part.npz")
    for name in names:
        (tmp_path / name).write_text("")
    clear_partials(tmp_path / "a.npz")
    assert {path.name for path in tmp_path.iterdir()} == set(names[1:])
    clear_partials(tmp_path / "[a].npz")
    assert {path.name for path in tmp_path.iterdir()} == set(names[1:4])
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one").write_text("dear")
    (tmp_path / ".a.78.part.npz").symlink_to(tmp_path / "photos")
    clear_partials(tmp_path / "a.npz")
    assert (tmp_path / "photos" / "one").exists() and not (tmp_path / ".a.78.part.npz").is_symlink()


# --- verify --repair ------------------------------------------------------------------------------------------


def feature_store(folder: Path) -> Path:
    """A folder of features of two levels, as the workflow writes it."""
    partial, levels = folder / "store.partial", [EDM().level(sigma) for sigma in (0.1, 0.5)]
    values = {"mid": np.ones((5, 3), np.float16), "out_2.tokens": np.ones((5, 4), np.float16)}
    for level in levels:
        path = partial / f"{level.name}.zarr"
        write_block(path / "select" / "identity", values, (1, 5), 0, slice(0, 5))
        zarr.create_group(str(path), attributes={"identity": "x", "content": "y"})
    finish(partial, folder / "store", levels, {"config": {}, "content": "z"})
    return folder / "store"


def test_damaged_features_are_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = feature_store(tmp_path)
    (store / "0.1.zarr/select/identity/mid/c/0/0/0").unlink()
    assert "removed; run the workflow again" in verify(capsys, store)
    assert list(tmp_path.iterdir()) == []


def test_features_with_a_strangers_file_stay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = feature_store(tmp_path)
    (store / "0.1.zarr/select/identity/mid/c/0/0/0").unlink()
    (store / "notes.txt").write_text("dear")
    before = tree(tmp_path)
    error = verify(capsys, store)
    assert "store: holds notes.txt, which is not ours" in error and "removed; run" not in error
    assert tree(tmp_path) == before


@pytest.mark.parametrize("mark", ["{}", "[]", "{", '{"levels": {}, "config": {}, "content": ""}', '{"name": "mine"}'])
def test_a_folder_is_not_ours_by_a_files_name(mark: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Anybody may have a features.json."""
    folder = tmp_path / "project"
    (folder / "a.zarr/b/c/d").mkdir(parents=True)  # which is no array: damage
    (folder / MANIFEST).write_text(mark)
    (folder / "thesis.tex").write_text("dear")
    before = tree(tmp_path)
    assert "project: is left as it is" in verify(capsys, folder, folder / MANIFEST)
    assert tree(tmp_path) == before


def hostile(copy: Path, **changes: object) -> None:
    """The manifest of a store with other attributes, its checksum made right again."""
    attributes = read_json(copy / "zarr.json")["attributes"] | changes
    del attributes["checksum"]
    attributes["checksum"] = digest(attributes)
    write_json(copy / "zarr.json", {"zarr_format": 3, "node_type": "group", "attributes": attributes})


@pytest.mark.parametrize("split", ["../../outside", "../latents.zarr/train", "mine", "train/../../../outside"])
def test_a_manifest_leads_to_no_file_outside(split: str, copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A split's name is part of its files' names."""
    identity = read_json(copy / "zarr.json")["attributes"]["identity"]
    hostile(copy, counts={split: 10}, identity=identity | {"views": {split: [{"kind": "identity"}]}})
    shard = copy / split / "moments/c/0/0/0/0/0"
    shard.parent.mkdir(parents=True, exist_ok=True)
    shard.write_bytes(b"dear")
    (receipts_folder(copy) / f"{split}.0.0.json").parent.mkdir(parents=True, exist_ok=True)
    (receipts_folder(copy) / f"{split}.0.0.json").write_text("{}")
    before = tree(copy.parents[1])
    error = verify(capsys, copy)
    assert "zarr.json: is not the manifest of a latent store (" in error and "is left as it is" in error
    assert tree(copy.parents[1]) == before


@pytest.mark.parametrize(
    "changes",
    [
        {"counts": {"train": 10**15}},
        {"counts": {"train": -5}},
        {"counts": [1]},
        {"shape": "8"},
        {"shard_chunks": 0},
        {"identity": []},
        {"holds": "photos"},
    ],
)
def test_an_impossible_manifest_is_refused_in_a_line(
    changes: dict, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile(copy, **changes)
    before = tree(copy.parent)
    assert "is not the manifest of a latent store" in verify(capsys, copy)
    assert tree(copy.parent) == before


@pytest.mark.parametrize(
    "changes", [{"shape": [1, 2]}, {"shape": "8"}, {"about": None}, {"content": 5}, {"shape": None}]
)
def test_an_impossible_manifest_of_samples_is_refused_in_a_line(
    changes: dict, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "x.zarr"
    samples.fill(store, 300, (2, 2, 1), {}, draw, lambda done: None)
    (store / "images/c/1/0/0/0").unlink()
    hostile(store, **changes)
    before = tree(tmp_path)
    assert "is left as it is" in verify(capsys, store)
    assert tree(tmp_path) == before


def test_an_array_of_endless_chunks_is_refused(tmp_path: Path) -> None:
    create_array(str(tmp_path / "a"), shape=(10**12, 2), chunks=(1, 2), dtype="uint8")
    with pytest.raises(UserError, match=r"a: cannot be opened \(its shape .* cannot be right\); mend it"):
        open_array(tmp_path / "a", "mend it")


def test_a_shard_behind_a_link_stays(copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outside = tmp_path / "outside"
    shutil.move(copy / "train", outside)
    (copy / "train").symlink_to(outside)
    os.truncate(outside / "moments/c/1/2/0/0/0", 5000)
    before = tree(outside)
    assert "lies outside" in verify(capsys, copy)
    assert tree(outside) == before


def test_a_damaged_manifest_of_ours_goes_alone(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = read_json(copy / "zarr.json")
    root["attributes"]["scale"][0] += 1
    write_json(copy / "zarr.json", root)
    before = tree(copy.parent)
    assert "removed; run the workflow again" in verify(capsys, copy)
    assert before.keys() - tree(copy.parent).keys() == {"latents.zarr/zarr.json"}


def draw(start: int, stop: int) -> np.ndarray:
    return np.zeros((stop - start, 2, 2, 1), np.uint8)


def test_samples_lose_their_manifest_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = tmp_path / "x.zarr"
    samples.fill(store, 300, (2, 2, 1), {}, draw, lambda done: None)
    (store / "images/c/1/0/0/0").unlink()
    (store / "notes.txt").write_text("dear")
    before = tree(tmp_path)
    assert "removed; run the workflow again" in verify(capsys, store)
    assert before.keys() - tree(tmp_path).keys() == {"x.zarr/zarr.json"}


def test_other_samples_are_replaced_but_no_strangers_file(tmp_path: Path) -> None:
    store = tmp_path / "x.zarr"
    samples.fill(store, 300, (2, 2, 1), {"seed": 0}, draw, lambda done: None)
    (store / "images/c/0/.0.77.part").write_text("half")
    samples.fill(store, 10, (2, 2, 1), {"seed": 1}, draw, lambda done: None)
    assert samples.open_samples(store).shape[0] == 10
    (store / "notes.txt").write_text("dear")
    before = tree(tmp_path)
    with pytest.raises(UserError, match=r"holds notes\.txt, which is not ours"):
        samples.fill(store, 10, (2, 2, 1), {"seed": 2}, draw, lambda done: None)
    assert tree(tmp_path) == before


def test_zarr_groups_and_hdf5_files_of_others_stay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    theirs = [tmp_path / "group.zarr", tmp_path / "pictures.zarr", tmp_path / "array.zarr"]
    zarr.create_group(str(theirs[0]), attributes={"mine": True})
    zarr.create_group(str(theirs[1])).create_array("images", shape=(3,), dtype="uint8")
    zarr.create_array(str(theirs[2]), shape=(3,), dtype="uint8")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["data"] = [1, 2]
    with h5py.File(tmp_path / "b.h5", "w") as file:  # the names of our arrays, by chance
        for name in ("images", "labels", "split", "hashes"):
            file[name] = np.zeros(3)
        file.attrs["content"] = "mine"
    (tmp_path / "c.h5").write_text("no HDF5")
    before = tree(tmp_path)
    for path in (*theirs, *tmp_path.glob("*.h5")):
        assert "is left as it is" in verify(capsys, path), path
    assert tree(tmp_path) == before


def test_a_damaged_image_store_is_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store, labels = tmp_path / "images.h5", np.zeros(5, np.int64)
    images.write(store, np.zeros((5, 4, 4, 3), np.uint8), labels, labels, source="x", classes=["a"], split_rule={})
    with h5py.File(store, "r+") as file:
        file["images"][0] = 1
    assert "rows 0 to 4 are damaged" in verify(capsys, store)
    assert list(tmp_path.iterdir()) == []


def test_features_take_no_strangers_place(tmp_path: Path) -> None:
    store = feature_store(tmp_path)
    assert feature_store(tmp_path) == store  # made again
    (store / "notes.txt").write_text("dear")
    with pytest.raises(UserError, match=r"store: holds notes.txt"):
        feature_store(tmp_path)
    assert (store / "notes.txt").exists() and (tmp_path / "store.partial").exists(), "the work is lost"
    (store / "notes.txt").unlink()
    remove_store(store, FOLDER)


# --- leases of GPUs -------------------------------------------------------------------------------------------


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder for a machine's, without a runtime directory."""
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    for name in ("DIFFPROBE_LEASES", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def take() -> None:
    places, (descriptor,) = leases.lease(["GPU-a"], 1, "job", print)
    os.close(descriptor)
    assert places == [0]


def test_leases_lie_in_a_private_folder(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    take()
    folder = machine / f"diffprobe-{os.getuid()}"
    assert folder.stat().st_mode & 0o777 == 0o700 and {path.name for path in folder.iterdir()} == {
        "GPU-a.lock",
        "turn.lock",
    }
    runtime = machine / "run"
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    take()
    assert (runtime / "diffprobe" / "GPU-a.lock").is_file()
    runtime.chmod(0o755)  # not what a runtime directory is: somebody else's, or made by hand
    assert leases.folder() == folder
    monkeypatch.setenv("DIFFPROBE_LEASES", str(machine / "mine"))
    take()
    assert (machine / "mine" / "GPU-a.lock").is_file()


@pytest.mark.parametrize("trap", ["open folder", "linked folder", "file", "linked lock", "device"])
def test_a_trap_among_the_leases_is_refused_in_a_line(trap: str, machine: Path) -> None:
    dear = machine / "dear"
    dear.mkdir()
    (dear / "GPU-a.lock").write_text("dear")
    folder = machine / f"diffprobe-{os.getuid()}"
    if trap == "linked folder":
        folder.symlink_to(dear)
    elif trap == "file":
        folder.write_text("dear")
    else:
        folder.mkdir(mode=0o700)
    if trap == "open folder":
        folder.chmod(0o777)
    if trap == "linked lock":
        (folder / "GPU-a.lock").symlink_to(dear / "GPU-a.lock")
    if trap == "device":
        os.mkfifo(folder / "GPU-a.lock")
    with pytest.raises(UserError) as error:
        take()
    assert str(folder) in str(error.value) and "\n" not in str(error.value) and "remove it" in str(error.value)
    assert (dear / "GPU-a.lock").read_text() == "dear"


def test_another_users_folder_holds_no_leases(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leases.folder()
    owner = os.getuid()
    monkeypatch.setattr("os.getuid", lambda: owner + 1)
    (machine / f"diffprobe-{owner}").rename(machine / f"diffprobe-{owner + 1}")
    with pytest.raises(UserError, match="others may write to it"):
        leases.folder()


def test_a_lock_truncates_nothing_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "dear").write_text("dear")
    (tmp_path / "lock").symlink_to(tmp_path / "dear")
    with pytest.raises(UserError, match="lock: is a link"):
        try_lock(tmp_path / "lock")
    assert (tmp_path / "dear").read_text() == "dear"


def test_the_docs_replace_no_other_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, text, what in (("README.md", "# Mine\n", "README"), ("schema.json", '{"title": "Mine"}', "schema")):
        (tmp_path / name).write_text(text)
        with pytest.raises(SystemExit):
            main(["docs", "--configfile", str(tmp_path / "mine.yaml")])
        assert f"{name}: refusing to replace a {what} that was not generated" in capsys.readouterr().err
        assert tree(tmp_path) == {name: text.encode()}
        (tmp_path / name).unlink()
    for _ in range(2):
        main(["docs", "--configfile", str(tmp_path / "mine.yaml")])
    assert json.loads((tmp_path / "schema.json").read_text())["title"] == "Config"
