"""Every file of a finished project damaged in turn, looked at by `verify`, `status`, `describe`, `results`."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr
from damage import OTHERS, as_json, flipped, flips, of_other_types, whole_file, written
from harness import Outcome, Sandbox, complaints, restore

STORES = ("images.h5", "latents.zarr", "heun2.zarr", "guided.zarr", "chosen", "features/1/0")
PROGRESS = ("logs/images/digits.json", "runs/tiny/progress.json")
RESULTS = (
    "data/digits/baseline.json", "data/digits/images.receipt.json", "autoencoders/vae/checkpoints/1/stats.jsonl",
    "autoencoders/vae/checkpoints/1/receipt.json", "latents/views/reconstruction.json", "runs/tiny/probe/2/select.json",
    "runs/tiny/probe/2/grid.csv", "runs/tiny/probe/choice.json", "runs/tiny/probe/test/knn.json",
    "runs/tiny/probe/test/knn.receipt.json", "runs/tiny/generation/2/heun2.json", "runs/tiny/nearest/2/heun2.json",
    "runs/tiny/samples/2/heun2.zarr.receipt.json", "latents/views/latents.zarr.receipt.json",
)  # fmt: skip
TABLES = ("summary.csv", "results.csv", "best.csv")
TENSORS = (
    "autoencoders/vae/checkpoints/1/ema.safetensors", "autoencoders/vae/states/1.safetensors",
    "runs/tiny/checkpoints/2/ema.safetensors", "runs/tiny/checkpoints/2/raw.safetensors",
    "runs/tiny/states/2.safetensors", "extractors/small/checkpoints/2/ema.safetensors",
)  # fmt: skip
STORED = (
    "data/digits/images.h5", "data/links/images.h5", "latents/views/latents.zarr/zarr.json",
    "latents/views/latents.zarr/train/moments/zarr.json", "latents/views/latents.zarr/train/moments/c/0/0/0/0/0",
    "latents/views/latents.zarr/train/labels/zarr.json", "latents/views/latents.zarr/train/labels/c/0",
    "latents/views/latents.zarr/test/rows/c/0", "runs/tiny/samples/2/heun2.zarr/zarr.json",
    "runs/tiny/samples/2/heun2.zarr/images/zarr.json", "runs/tiny/samples/2/heun2.zarr/images/c/0/0/0/0",
    "runs/tiny/features/chosen/features.json", "runs/tiny/features/chosen/0.1.zarr/zarr.json",
    "runs/tiny/features/1/0/0.1.zarr/select/identity/mid/zarr.json",
    "runs/tiny/features/1/0/0.1.zarr/select/identity/mid/c/0/0/0", "runs/tiny/features/1/0/features.json",
)  # fmt: skip


@pytest.fixture
def project(sandbox: Sandbox, finished: Path) -> Path:
    restore(finished, sandbox.work)
    (sandbox.work / "mine.txt").write_text("of the user\n")
    return sandbox.work


def clear(outcome: Outcome, *names: str) -> list[str]:
    """Complaints of a refusal that may have a line for each damage, and a last one with the remedy of all."""
    lines = [line for line in outcome.err.splitlines() if line.strip()]
    whole = complaints(outcome._replace(err="; ".join(lines)), *names) if 0 < len(lines) <= 9 else complaints(outcome)
    return [line for line in whole if "characters" not in line]


def damages(content: bytes, name: str, number: int = 5) -> Iterator[tuple[str, bytes]]:
    """Of a whole file three, not the same for all files."""
    whole = list(whole_file(content))[:7]
    yield from whole[len(name) % 3 :: 3]
    yield from flips(content, number)
    if name.endswith(".json"):
        yield from ((what, as_json(value)) for what, value in of_other_types(json.loads(content), 4))


@pytest.mark.parametrize("command", ["status", "describe", "results"])
def test_commands_survive_damage_to_any_file(command: str, project: Path, finished: Path, sandbox: Sandbox) -> None:
    """They show what they can, or name the file: no traceback, and nothing is changed."""
    wrong: list[str] = []
    for name in map("results/{}".format, (*PROGRESS, *RESULTS, *TABLES)):
        content = (finished / name).read_bytes()
        for what, bad in damages(content, name, 1):
            written(project / name, bad)
            sandbox.inputs += 1
            with sandbox.unchanged():
                outcome = sandbox.run(command)
            if outcome.status or outcome.crash:
                wrong += [f"{name}: {what}: {line}" for line in complaints(outcome, Path(name).name)]
        restore_file(finished, project, name)
    assert not wrong, f"{len(wrong)}\n" + "\n".join(wrong)


def restore_file(finished: Path, project: Path, name: str) -> None:
    (project / name).unlink(missing_ok=True)
    shutil.copy2(finished / name, project / name)


@pytest.mark.parametrize("part", range(4))
def test_no_turned_bit_passes_verify(part: int, project: Path, finished: Path, sandbox: Sandbox) -> None:
    """`verify` names each file of which a bit is turned, unless what is read of it is what it was."""
    wrong: list[str] = []
    for name in [f"results/{name}" for name in (*RESULTS, *TENSORS, *STORED)][part::4]:
        content = (finished / name).read_bytes()
        for what, bad in flips(content, 8 if name.endswith((".h5", ".safetensors")) else 4):
            written(project / name, bad)
            sandbox.inputs += 1
            with sandbox.unchanged():
                outcome = sandbox.run("verify")
            if outcome.status == 0 and not outcome.crash and reads_the_same(sandbox, finished, project, name):
                continue
            wrong += [f"{name}: {what}: {line}" for line in clear(outcome, place_of(name))]
        restore_file(finished, project, name)
    assert not wrong, f"{len(wrong)}\n" + "\n".join(wrong)


def place_of(name: str) -> str:
    """What a line names: the file or its store."""
    parts = name.split("/")
    return next(
        (part for part in parts if part.endswith(".zarr")), parts[-1] if parts[-1] != "zarr.json" else parts[-2]
    )


def reads_the_same(sandbox: Sandbox, finished: Path, project: Path, name: str) -> bool:
    """Whether everything that is read of a file is what it was: text as data, arrays and attributes."""
    path = Path(name)
    if path.suffix == ".json":
        return harmless(finished, project, name)
    if path.suffix == ".h5":
        return contents(finished / name) == contents(project / name)
    return False


def contents(path: Path) -> object:
    with h5py.File(path, "r") as file:
        arrays = {name: (file[name].dtype.str, file[name][...].tobytes()) for name in file}
        return arrays, {name: np.asarray(value).tolist() for name, value in file.attrs.items()}


@pytest.mark.parametrize("repair", [False, True])
def test_verify_and_repair_of_damaged_stores(repair: bool, project: Path, finished: Path, sandbox: Sandbox) -> None:
    """Each damage is named; --repair removes only files of the store."""
    wrong: list[str] = []
    for name in map("results/{}".format, STORED):
        store = next(store for store in STORES if store in name)
        path = project / name[: name.index(store) + len(store)]
        for what, bad in damages((finished / name).read_bytes(), name, 1):
            if what.startswith("a picture in its middle") or "turned" in what:
                continue
            written(project / name, bad)
            sandbox.inputs += 1
            inside = path.relative_to(sandbox.place)
            with sandbox.unchanged(
                *(
                    (f"{inside}*", "work/results/latents/views/parts/*", "work/results/latents/views/encoded/*")
                    if repair
                    else ()
                )
            ):
                outcome = sandbox.run("verify", path, *(["--repair"] if repair else []))
            if outcome.status != 0 or outcome.crash or not harmless(finished, project, name):
                wrong += [f"{name}: {what}: {line}" for line in clear(outcome, store.split("/")[0])]
            restore(finished / "results", project / "results")
    assert not wrong, f"{len(wrong)}\n" + "\n".join(wrong)


def harmless(finished: Path, project: Path, name: str) -> bool:
    """Whether `verify` may pass a damaged file: what is read of it is what it was.

    Metadata of arrays may differ in what reads nothing, such as the name of a dimension. The mark of one level of
    features only serves a job that was stopped before the folder was whole.
    """
    inside = name.split(".zarr/")[-1]
    try:
        if inside == "zarr.json" and "/features/" in name:
            return True
        if inside.endswith("/zarr.json"):
            sound, damaged = (zarr.open_array((root / name).parent, mode="r")[:] for root in (finished, project))
            return bool(sound.dtype == damaged.dtype and np.array_equal(sound, damaged))
        return json.loads((finished / name).read_text()) == json.loads((project / name).read_text())
    except Exception:  # whatever zarr finds wrong
        return False


def test_foreign_folders_are_never_repaired_away(project: Path, sandbox: Sandbox) -> None:
    """Folders of a user with one of our names in them."""
    wrong: list[str] = []
    for name, content in {
        "features.json": {"levels": {}},
        "zarr.json": {"attributes": {"format": "diffprobe samples 1", "shape": [1, 1, 1, 1]}},
        "zarr.json ": {"attributes": {"format": "diffprobe latents 2", "counts": {"../../outside": 1}}},
    }.items():
        folder = project / "holiday.zarr"
        folder.mkdir()
        (folder / "diary.txt").write_text("dear diary")
        (folder / "images").mkdir()
        (folder / "images" / "beach.jpg").touch()
        (folder / name.strip()).write_text(json.dumps(content))
        for words in (["verify", folder], ["verify", folder, "--repair"]):
            sandbox.inputs += 1
            with sandbox.unchanged():
                outcome = sandbox.run(*words)
            wrong += [f"{name}: {line}" for line in clear(outcome, "holiday")]
        shutil.rmtree(folder)
    assert not wrong, "\n".join(wrong)


def test_verify_of_what_is_no_store(project: Path, sandbox: Sandbox) -> None:
    wrong: list[str] = []
    (project / "loop").symlink_to("loop")
    (project / "x.h5").mkdir()
    os.mkfifo(project / "pipe.h5")
    for path in (
        "nowhere",
        "mine.txt",
        "photos",
        "loop",
        "x.h5",
        "",
        ".",
        "/dev/null",
        "x" * 300,
        "config/config.yaml",
    ):
        for more in ([], ["--repair"]):
            sandbox.inputs += 1
            with sandbox.unchanged():
                outcome = sandbox.run("verify", path, *more)
            wrong += [
                f"{path[:30]!r}: {line}"
                for line in clear(outcome, path[:100] if path.isprintable() and path not in ("", ".") else "")
            ]
    assert not wrong, "\n".join(wrong)


# --- the HDF5 file of images, its parts of other types


ARRAYS = (None, 7, np.float64([np.nan]), np.zeros((2, 2), np.float32), np.array(["a"], "S"), np.zeros((0,), np.int64))
ARRAYS += (np.zeros(3, [("x", "f4")]), np.zeros((3, 8, 8, 1), np.uint8), np.full(240, 10**12), np.full(240, -7))


def hdf5_damages() -> dict[str, object]:
    def attribute(name: str, value: object) -> object:
        def change(file: h5py.File) -> None:
            del file.attrs[name]
            if value is not None:
                file.attrs[name] = value

        return change

    def array(name: str, value: object) -> object:
        def change(file: h5py.File) -> None:
            del file[name]
            if value is not None:
                file[name] = value

        return change

    changes: dict[str, object] = {}
    for name in ("classes", "split_rule", "content", "source"):
        for value in (
            None,
            7,
            1.5,
            "x",
            b"\xff",
            "[",
            "{}",
            "[1]",
            "null",
            np.array([1, 2]),
            np.array(["a"], "S"),
            "[" * 10_000,
        ):
            changes[f"attribute {name}: {str(value)[:12]!r}"] = attribute(name, value)
    for name in ("images", "labels", "split", "hashes"):
        for value in ARRAYS:
            changes[f"array {name}: {'none' if value is None else f'{np.asarray(value).dtype} {np.shape(value)}'}"] = (
                array(name, value)
            )

    def group(file: h5py.File) -> None:
        del file["labels"]
        file.create_group("labels")

    def outside(file: h5py.File) -> None:
        del file["labels"]
        file["labels"] = h5py.ExternalLink("/etc/passwd", "/labels")

    def itself(file: h5py.File) -> None:
        del file["labels"]
        file["labels"] = h5py.SoftLink("/labels")

    def huge(file: h5py.File) -> None:
        del file["images"]
        file.create_dataset("images", (10**9, 8, 8, 1), np.uint8, chunks=(256, 8, 8, 1))

    def huge_hashes(file: h5py.File) -> None:
        del file["hashes"]
        file.create_dataset("hashes", (10**10, 32), np.uint8, chunks=(1024, 32))

    def filtered(file: h5py.File) -> None:
        pixels = file["images"][:]
        del file["images"]
        file.create_dataset("images", data=pixels * 0, chunks=(64, 8, 8, 1), compression="gzip")

    return changes | {
        "labels that are a group": group, "labels of another file": outside, "labels that are themselves": itself,
        "10^9 images": huge, "10^10 hashes": huge_hashes, "other pixels": filtered,
    }  # fmt: skip


@pytest.mark.parametrize("part", range(2))
def test_image_stores_of_other_types(part: int, sandbox: Sandbox, finished: Path, extractor: list[str]) -> None:
    wrong: list[str] = []
    original = finished / "results" / "data" / "digits" / "images.h5"
    store = sandbox.work / "images.h5"
    for what, change in list(hdf5_damages().items())[part::2]:
        written(store, original.read_bytes())
        with h5py.File(store, "r+") as file:
            change(file)
        for words in (["verify", store], ["measure", store, "--save", "k.npz", "--channels", "3", *extractor]):
            sandbox.inputs += 1
            with sandbox.unchanged("work/k.npz"):
                outcome = sandbox.run(*words)
            if words[0] == "measure" and outcome.status == 0 and "attribute" in what:
                (sandbox.work / "k.npz").unlink()
                continue  # it reads no names of classes
            if what.startswith(("attribute source", "attribute split_rule")) and outcome.status == 0:
                continue  # remarks, which nothing reads back
            wrong += [f"{words[0]}: {what}: {line}" for line in clear(outcome, "images.h5")]
    assert not wrong, f"{len(wrong)}\n" + "\n".join(wrong)


def test_no_turned_bit_of_an_image_store_passes(sandbox: Sandbox, finished: Path) -> None:
    """In pixels, labels, names of classes, or HDF5's own structures: refused, or everything read is the same."""
    original = finished / "results" / "data" / "digits" / "images.h5"
    content, store = original.read_bytes(), sandbox.work / "images.h5"
    written(store, content)
    bits = np.random.default_rng(0).integers(0, 8 * len(content), 200).tolist() + list(range(0, 8 * 4096, 19))
    bits += np.random.default_rng(1).integers(8 * (len(content) - 20_000), 8 * len(content), 300).tolist()

    def read_all() -> None:
        from diffprobe.data import images
        from diffprobe.runtime.errors import UserError

        def everything() -> object:
            rows = images.read(store, ["train", "select", "test"])
            return [array.tobytes() for array in rows] + [images.describe(store)]

        sound = everything()
        for bit in bits:
            written(store, flipped(content, bit))
            try:
                if everything() != sound:
                    print(f"bit {bit} passed")
            except UserError as error:
                if "images.h5" not in str(error) or "\n" in str(error):
                    print(f"bit {bit}: {error}")

    sandbox.inputs += len(bits)
    outcome = sandbox.call(read_all, seconds=200)
    assert outcome.status == 0 and not outcome.out and not outcome.crash, outcome


def test_metadata_of_zarr_of_other_types(project: Path, finished: Path, sandbox: Sandbox) -> None:
    wrong: list[str] = []
    for name in (
        "results/latents/views/latents.zarr/zarr.json", "results/latents/views/latents.zarr/train/moments/zarr.json",
        "results/latents/views/latents.zarr/train/labels/zarr.json", "results/runs/tiny/samples/2/heun2.zarr/zarr.json",
        "results/runs/tiny/samples/2/heun2.zarr/images/zarr.json", "results/runs/tiny/features/chosen/features.json",
    ):  # fmt: skip
        content = json.loads((finished / name).read_text())
        store = project / name[: name.index(".zarr") + 5] if ".zarr" in name else (project / name).parent
        for what, value in of_other_types(content, 60):
            if value == content:
                continue
            written(project / name, as_json(value))
            sandbox.inputs += 1
            with sandbox.unchanged():
                outcome = sandbox.run("verify", store)
            if outcome.status == 0 and harmless(finished, project, name):
                continue
            wrong += [f"{name}: {what}: {line}" for line in clear(outcome, store.name)]
        restore_file(finished, project, name)
    assert not wrong, f"{len(wrong)}\n" + "\n".join(wrong)


def test_loading_a_damaged_run(project: Path, finished: Path, sandbox: Sandbox) -> None:
    """`diffprobe.load` in Python: one line, whatever is wrong with the run's folder."""
    import diffprobe

    name = "results/runs/tiny/checkpoints/2/ema.safetensors"
    content, wrong = (finished / name).read_bytes(), []

    def load() -> None:
        import sys

        from diffprobe.runtime.errors import UserError

        try:
            diffprobe.load(project / "results" / "runs" / "tiny")
        except UserError as error:
            sys.exit(str(error))

    for what, bad in [*whole_file(content), *flips(content, 20)]:
        written(project / name, bad)
        sandbox.inputs += 1
        with sandbox.unchanged():
            outcome = sandbox.call(load)
        wrong += [f"{what}: {line}" for line in complaints(outcome, "ema.safetensors")]
    assert not wrong and OTHERS, f"{len(wrong)}\n" + "\n".join(wrong)
