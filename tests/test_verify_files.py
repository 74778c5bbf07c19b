"""`verify` covers weights, states, results and receipts; `--repair` removes what a receipt proves to be ours."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from diffprobe.config.load import parse
from diffprobe.config.models import Config
from diffprobe.plan.graph import stages
from diffprobe.plan.layout import Layout
from diffprobe.plan.preflight import refuse_lost_sources
from diffprobe.plan.sources import Sources
from diffprobe.reporting import status
from diffprobe.reporting.verify import verify, verify_paths
from diffprobe.runtime import tensors
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import write_json, write_jsonl
from diffprobe.runtime.receipts import outputs_entry, sealed
from diffprobe.runtime.results import write_hash
from diffprobe.runtime.tensors import CHECKPOINT, STATE

WEIGHTS = {"w": torch.arange(4.0)}


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """A finished checkpoint of one experiment, its state and its results, as jobs leave them."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/0.png").touch()
    experiment = {
        "dataset": "photos",
        "network": {"kind": "unet", "channels": 32, "multipliers": [1, 2], "blocks": 1, "groups": 8},
        "process": {"kind": "edm"},
        "train": {"checkpoints": [8]},
        "sample": {"samplers": {"heun": {"kind": "heun"}}},
        "generation": {"extractors": ["small"]},
        "probe": {"levels": [0.1]},
    }
    config = parse(
        {
            "datasets": {"photos": {"source": {"kind": "folder", "path": "photos"}, "size": 8}},
            "extractors": {"small": {"kind": "classifier", "dataset": "photos"}},
            "experiments": {"one": experiment},
            "metrics": {"references": "results/references"},
        }
    )
    run = Path(Layout(config.results).run("one"))
    for name in ("ema", "raw"):
        tensors.write(run / f"checkpoints/8/{name}.safetensors", WEIGHTS, CHECKPOINT, "{}")
    write_jsonl(run / "checkpoints/8/stats.jsonl", [{"step": 1}])
    tensors.write(run / "states/8.safetensors", WEIGHTS, STATE, "{}")
    write_json(run / "probe/choice.json", {"kimg": 8})
    (run / "probe/8").mkdir(parents=True)
    (run / "probe/8/grid.csv").write_text("tap,level\n")
    write_json(run / "probe/8/select.json", {"rows": [], "choice": {}})
    for stage in stages(config):
        if stage.receipt and all(Path(file).exists() for file in stage.outputs):
            write_json(stage.receipt, sealed({"code": {}, "outputs": outputs_entry(dict(enumerate(stage.outputs)))}))
    kept = Path(config.metrics.references) / "inception-0.npz"
    kept.parent.mkdir()
    np.savez(kept, mu=np.zeros(2))
    write_hash(kept)
    return config


def problems(config: Config, repair: bool = False) -> list[str]:
    try:
        verify(config, repair)
    except UserError as error:
        return str(error).splitlines()
    return []


def flip(path: Path, at: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_intact_files_are_counted(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    assert not problems(config)
    lines = capsys.readouterr().out.splitlines()
    assert "results/runs/one/checkpoints/8: 2 files are as they were written" in lines
    assert "results/runs/one/states: 1 file is as it was written" in lines
    assert "results/references: 1 file is as it was written" in lines
    assert "results of one: 8 files are as they were written" in lines  # four receipts among them


def test_files_from_before_there_were_checksums_are_unchecked(
    config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    save_file(WEIGHTS, "results/runs/one/checkpoints/8/raw.safetensors", metadata={"diffprobe": "{}"})
    write_json("results/runs/one/probe/choice.receipt.json", {"code": {}})
    assert not problems(config)
    out = capsys.readouterr().out
    assert "checkpoints/8: 1 file is as it was written, 1 unchecked (written before there were checksums)" in out
    assert "results of one: 6 files are as they were written, 2 unchecked" in out


def test_every_damaged_file_is_named_and_only_what_a_receipt_names_is_removed(config: Config) -> None:
    run = Path("results/runs/one")
    named = [run / "checkpoints/8/ema.safetensors", run / "probe/choice.json", run / "probe/8/grid.csv"]
    named.append(Path("results/references/inception-0.npz"))
    unnamed = [run / "states/8.safetensors", run / "probe/8/grid.receipt.json"]
    for path in (*named[:2], named[3], unnamed[0]):
        flip(path)
    named.remove(run / "probe/8/grid.csv")  # its receipt will be damaged too
    unnamed[1].write_text("{")
    flip(run / "probe/8/grid.csv")  # of which nothing is known any more
    (run / "features/chosen").mkdir(parents=True)
    (run / "features/chosen/features.json").write_text("[")  # a store that cannot be opened stops nothing
    unnamed.append(run / "features/chosen")
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    lines = problems(config)
    for path in (*named, *unnamed):
        assert any(line.startswith(str(path)) for line in lines), path
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before
    assert "removed; run the workflow again" in problems(config, repair=True)
    left = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    assert before.keys() - left.keys() == set(named)
    assert all(f"{path}: is left as it is" in "\n".join(problems(config, repair=True)) for path in unnamed)


def test_single_files_are_checked_wherever_they_are(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    run = Path("results/runs/one")
    files = [run / "checkpoints/8/raw.safetensors", run / "probe/choice.json", run / "states/8.safetensors"]
    verify_paths(files, repair=False)
    assert capsys.readouterr().out.count("as it was written") == 3
    flip(files[0], 40)
    flip(files[1], 4)
    Path("other.json").write_text("{")
    with pytest.raises(UserError) as error:
        verify_paths([*files, Path("other.json"), Path("none.zarr")], repair=False)
    lines = str(error.value).splitlines()
    assert [line.partition(":")[0] for line in lines[:-1]] == [*map(str, files[:2]), "other.json", "none.zarr"]


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"config": []}', '{"code": 3}'])
def test_a_receipt_that_cannot_be_read_is_as_none(config: Config, text: str) -> None:
    for stage in stages(config):
        for file in stage.files:
            Path(file).parent.mkdir(parents=True, exist_ok=True)
            if not Path(file).exists():
                Path(file).write_text("")
        if stage.receipt:
            Path(stage.receipt).write_text(text)
    sources = Sources(config)
    assert sources.images_receipt("photos") == {}
    refuse_lost_sources(config, sources)
    assert {state.state for state in status.collect(config)} == {"done"}
    Path(
        "photos/0.png"
    ).unlink()  # with neither source nor receipt, the images would be deleted and could not be made again
    with pytest.raises(UserError, match=r"photos: no such .*previously imported images are kept"):
        refuse_lost_sources(config, Sources(config))
