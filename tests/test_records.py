"""Files that we write and read back: no flipped bit passes, and those from before there were checksums still load."""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from diffprobe.evaluation.representation.chunks import array
from diffprobe.evaluation.representation.featurestore import create
from diffprobe.runtime import tensors as files
from diffprobe.runtime.arrays import read_array
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import write_json, write_jsonl
from diffprobe.runtime.receipts import outputs_entry, read_receipt, sealed
from diffprobe.runtime.results import read_arrays, read_lines, read_result, read_rows, write_hash
from diffprobe.runtime.tensors import AUTOSAVE, CHECKPOINT, STATE, Kind

TENSORS = {
    "a": torch.tensor([1.5, -0.0, torch.inf]),
    "net/b": torch.arange(6, dtype=torch.bfloat16).reshape(2, 3).T,  # not contiguous
    "c": torch.tensor(7),
    "flags": torch.tensor([True, False]),
    "none": torch.empty(0, 3, dtype=torch.float16),
}


def flips(path: Path) -> Iterator[str]:
    """Flip each bit of a file in turn, and set it right again."""
    whole = path.read_bytes()
    with path.open("r+b", buffering=0) as file:  # in place, which is much faster than to write the file anew
        for bit in range(8 * len(whole)):
            byte, mask = bit // 8, 1 << bit % 8
            for value in (whole[byte] ^ mask, whole[byte]):
                file.seek(byte)
                file.write(bytes([value]))
                if value != whole[byte]:
                    yield f"byte {byte}, bit {bit % 8}"


def refused(path: Path, read: Callable[[], object]) -> bool:
    """Whether reading ends in one line that names the file and a remedy."""
    try:
        read()
    except UserError as error:
        line = str(error)
        return line.startswith(f"{path}: ") and "delete it" in line and "\n" not in line
    return False


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(a[name].dtype == b[name].dtype and torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("kind", [CHECKPOINT, STATE, AUTOSAVE])
def test_no_flipped_bit_of_a_file_of_tensors_passes(tmp_path: Path, kind: Kind) -> None:
    path = tmp_path / "x.safetensors"
    files.write(path, TENSORS, kind, '{"network":{"kind":"é\\""}}')
    assert same(dict(files.each(path, kind)), TENSORS)
    assert files.check(path, kind)
    passed = [where for where in flips(path) if not refused(path, lambda: list(files.each(path, kind)))]
    assert not passed
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        assert refused(path, lambda: files.check(path, kind)), size
    path.write_bytes(whole + b"\0")
    assert refused(path, lambda: files.check(path, kind))


def test_others_read_our_tensors_and_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    for name, tensors in (("a", TENSORS), ("b", dict(reversed(TENSORS.items())))):
        files.write(tmp_path / name, tensors, CHECKPOINT, "{}")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with safe_open(tmp_path / "a", "pt") as file:
        assert same({name: file.get_tensor(name) for name in file.keys()}, TENSORS)  # noqa: SIM118
        assert file.metadata()["diffprobe"] == "{}"


def test_one_set_is_read_though_another_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    files.write(path, {"w": torch.zeros(4), "raw/w": torch.ones(4)}, CHECKPOINT, "{}")
    path.write_bytes(
        path.read_bytes().replace(torch.zeros(4).numpy().tobytes(), torch.full((4,), 2.0).numpy().tobytes())
    )
    assert dict(files.each(path, CHECKPOINT, lambda name: name.startswith("raw/")))["raw/w"].tolist() == [1, 1, 1, 1]
    with pytest.raises(UserError, match="the checksum of w is wrong"):
        files.check(path, CHECKPOINT)


def test_files_from_before_there_were_checksums_load(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    tensors = {name: x.contiguous() for name, x in TENSORS.items()}
    save_file(tensors, path, metadata={"diffprobe": "{}"})
    assert same(dict(files.each(path, CHECKPOINT)), TENSORS)
    assert not files.check(path, CHECKPOINT)
    for metadata in (None, {}, {"format": "pt"}, {"diffprobe": "{}", "format": "pt"}, {"state": "{}"}):
        save_file(tensors, path, metadata=metadata)
        assert refused(path, lambda: files.check(path, CHECKPOINT)), metadata


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A folder of results of each form, with their receipt."""
    write_json(tmp_path / "rows.json", {"rows": [{"value": 0.5}]})
    write_jsonl(tmp_path / "stats.jsonl", [{"step": 1, "loss": 0.25}])
    np.savez(tmp_path / "pairs.npz", images=np.arange(3))
    (tmp_path / "0").mkdir()
    write_json(tmp_path / "0" / "features.json", {"levels": {"0.1": {"sigma": 0.1}}})
    outputs = {name: tmp_path / name for name in ("rows.json", "stats.jsonl", "pairs.npz", "0")}
    write_json(tmp_path / "0.receipt.json", sealed({"config": {"key": (1, 2)}, "outputs": outputs_entry(outputs)}))
    return tmp_path


READERS: dict[str, Callable[[Path], object]] = {
    "rows.json": read_rows,
    "stats.jsonl": read_lines,
    "pairs.npz": lambda path: {name: x.tolist() for name, x in read_arrays(path).items()},
    "0/features.json": lambda path: read_result(path, lambda manifest: manifest["levels"]),
}


@pytest.mark.parametrize("name", READERS)
def test_no_flipped_bit_of_a_result_passes(results: Path, name: str) -> None:
    path, read = results / name, READERS[name]
    value = read(path)
    passed = [where for where in flips(path) if not refused(path, lambda: read(path))]
    assert not passed
    (results / "0.receipt.json").write_text("cut")  # as if there were none
    assert read(path) == value
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert refused(path, lambda: read(path))


def test_no_flipped_bit_of_a_receipt_passes(results: Path) -> None:
    paper = results / "0.receipt.json"
    receipt = read_receipt(paper)
    assert receipt is not None
    assert receipt["config"] == {"key": [1, 2]}
    assert not [where for where in flips(paper) if read_receipt(paper) not in (None, receipt)]
    for text in ("", "{", "[]", '"text"', "null", '{"outputs": {}}', '{"config": 1}', '{"checksum": "0"}'):
        paper.write_text(text)
        assert read_receipt(paper) is None, text
    paper.write_text(json.dumps({"config": {}, "inputs": {}}))
    assert read_receipt(paper) == {"config": {}, "inputs": {}}  # from before there were checksums


def test_no_flipped_bit_of_an_arrays_metadata_passes(tmp_path: Path) -> None:
    folder = tmp_path / "0.1.zarr" / "test" / "identity" / "mid"
    values = np.arange(2 * 5 * 4, dtype=np.float16).reshape(2, 5, 4)  # (draws, N, D)
    create(folder, (2, 5, 4), channels=4)[:] = values

    def read() -> np.ndarray:
        return read_array(array(tmp_path, "0.1", "test", "identity", "mid"), "delete it")

    assert np.array_equal(read(), values)
    passed = []
    for where in flips(folder / "zarr.json"):
        with suppress(UserError):
            if not np.array_equal(read(), values):  # such as zeros, for chunks that it looked for under other names
                passed.append(where)
    assert not passed


def test_a_file_that_no_job_declares_has_a_receipt_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "inception-0123.npz"
    np.savez(path, mu=np.zeros(3))
    write_hash(path)
    assert not [where for where in flips(path) if not refused(path, lambda: read_arrays(path))]


def test_moved_results_are_still_checked(results: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    moved = results.rename(tmp_path_factory.mktemp("elsewhere") / "results")
    assert read_rows(moved / "rows.json") == [{"value": 0.5}]
    write_json(moved / "rows.json", {"rows": [{"value": 0.75}]})
    assert refused(moved / "rows.json", lambda: read_rows(moved / "rows.json"))
