"""The row and the logs of the board of Efficient Probing, from results of the published form."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy_dit import write_published
from toy_probing import EXPERIMENT

from diffprobe.config.levels import grid_levels
from diffprobe.config.load import load, parse
from diffprobe.config.models import Config
from diffprobe.evaluation.model import load as load_model
from diffprobe.evaluation.representation.features import FeatureModel
from diffprobe.evaluation.representation.featurestore import create
from diffprobe.interop.importing import import_weights
from diffprobe.plan.layout import Layout
from diffprobe.reporting.ep_board import COLUMNS, export
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.keyed import Key

BOARD = Path(__file__).parents[1] / "config" / "board_dit.yaml"
EP = {"linear": {"kind": "linear", "protocol": "ep"}, "knn": {"kind": "knn", "protocol": "ep"}}
EP["attentive"] = {"kind": "attentive", "protocol": "ep", "queries": 128}
FIGURES = {"linear": ("lr=1.6", 0.327), "attentive": ("lr=1.6", 0.57), "knn": ("k=50, temperature=0.07", 0.0525)}


def published(results: Path, evaluators: dict[str, Any]) -> Config:
    """DiT-XL/2 as the board has it, on a dataset of 1,000 classes."""
    network = {"kind": "dit", "size": "XL/2", "augment": False}
    probe = {"levels": ["clean"], "zeroed": ["time", "label"], "taps": ["block_27"], "evaluators": evaluators}
    source = {"kind": "imagenet", "path": "/imagenet"}
    entry = EXPERIMENT | {"dataset": "in1k", "network": network, "probe": probe}
    return parse(
        {
            "results": str(results),
            "datasets": {"in1k": {"source": source, "size": 256}},
            "experiments": {"board": entry},
        }
    )


def write_results(config: Config) -> None:
    """What the jobs of the evaluators leave behind, at the published figures."""
    layout = Layout(config.results)
    store = Path(layout.chosen("board")).parent / "clean.zarr/test/identity"
    for name, width in (("block_27", 1152), ("block_27.tokens", 4 * 1152)):
        create(store / name, (1, 3, width), 1152)[:] = np.zeros((1, 3, width), np.float16)
    for name, (setting, value) in FIGURES.items():
        row = {"evaluator": name, "value": value, "spread": 0.001, "seeds": 3, "tap": "block_27", "sigma": 0.0}
        row |= {"setting": setting, "selection": "select", "zeroed": "time+label"}
        path = Path(layout.test("board", name))
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [row, row | {"evaluator": f"{name}_top5", "value": 0.7858}]
        path.write_text(json.dumps({"rows": rows, "classes": [str(i) for i in range(1000)]}))


def test_the_published_row_and_its_audit(tmp_path: Path) -> None:
    """Every column; the logs' figures within 0.005 of the row's; the parameters solve the board's two equations."""
    config = published(tmp_path / "results", EP)
    write_results(config)
    assert export(config, "board", tmp_path / "out") == [
        f"{tmp_path / 'out'}: row.csv and board_ep.txt, board_lp.txt, board_knn.txt"
    ]
    (row,) = csv.DictReader((tmp_path / "out/row.csv").read_text().splitlines())
    assert list(row) == COLUMNS and len(COLUMNS) == 28
    assert [row[name] for name in ("knn", "lp", "ep", "ep_queries", "knn_k", "knn_T")] == [
        "5.25", "32.70", "57.00", "128", "50", "0.07"
    ]  # fmt: skip
    assert [row[name] for name in ("family", "eval", "image_size", "lp_gap", "gap_reason", "ep_variant")] == [
        "GEN", "IN-1K", "256", "yes", "no_cls", "ep"
    ]  # fmt: skip
    assert "zero embeddings: time+label" in row["notes"] and "ep spread 0.10 over 3 seeds" in row["notes"]
    log = {figure: (tmp_path / f"out/{row[f'{figure}_log']}").read_text() for figure in ("lp", "ep", "knn")}
    for figure, parameters in (("lp", 1000 * 1152 + 1000), ("ep", 1152**2 + (128 + 1000) * 1152 + 1000)):
        assert f"Max Accuracy: {row[figure]}\n" in log[figure]
        assert f"Trainable Parameters: {parameters}\n" in log[figure]
        assert "Effective batch size: 4096\n" in log[figure] and "Base learning rate: 0.1\n" in log[figure]
    assert "Final Val Acc1/Acc5: 57.00, 78.58\n" in log["ep"] and "raw, 0.07, 50, 5.25, 78.58\n" in log["knn"]
    with pytest.raises(UserError, match="nothing is replaced"):
        export(config, "board", tmp_path / "out")


def test_what_the_board_needs_is_asked_for_in_a_line(tmp_path: Path) -> None:
    config = published(tmp_path / "results", EP)
    with pytest.raises(UserError, match=r"attentive\.json: no such file; run the experiment first"):
        export(config, "board", tmp_path / "out")
    plain = published(tmp_path / "results", EP | {"attentive": {"kind": "attentive"}})
    with pytest.raises(UserError, match=r"needs an evaluator \{kind: attentive, protocol: ep\}; add it and run again"):
        export(plain, "board", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_boards_arm_reads_published_weights_as_its_code_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random weights in the published form: after the last block, on clean latents, by the biases of adaLN alone."""
    monkeypatch.setenv("IMAGENET", "/imagenet")
    scaled = {"network": {"size": None, "width": 128, "depth": 28, "heads": 2, "patch": 2}}
    own = {name: {"train": {"imported": str(tmp_path / "imported.safetensors")}} for name in ("board", "corrected")}
    config = load(BOARD, each=scaled, experiments=own, autoencoders={"sd_vae": {"size": 128}})
    theirs = write_published(tmp_path / "theirs.pt", width=128, depth=28)
    import_weights(config, "board", "dit", str(tmp_path / "theirs.pt"))
    model = load_model(tmp_path / "imported.safetensors", torch.device("cpu"))
    board, corrected = (config.experiments[name] for name in ("board", "corrected"))
    assert (board.probed_taps, grid_levels(board)) == (["block_27"], [0.0])
    source = FeatureModel(model.network, model.process, 0, torch.device("cpu"), zeroed=tuple(board.probe.zeroed))
    x, specs = torch.randn(3, 4, 16, 16, generator=torch.manual_seed(0)), {"b": ("block_27", "tokens")}
    ours = source.pooled(x, torch.arange(3), model.level(0.0), specs, Key(0, "test"), 0)["b"]  # (B, T, D)
    for name, weight in theirs.named_parameters():
        if "adaLN_modulation" in name and name.endswith("weight"):
            torch.nn.init.zeros_(weight)  # SiLU(0) = 0: nothing is left of them
    with torch.no_grad():
        expected = theirs(x, torch.full((3,), 500.0), taps=["block_27"])[1]["block_27"]
    torch.testing.assert_close(ours, expected.flatten(2).mT, rtol=1e-4, atol=1e-4)
    assert not corrected.probe.zeroed and min(grid_levels(corrected)) > 0 and len(corrected.probed_taps) > 1
    normalise = [config.latents[experiment.latents].normalise for experiment in (board, corrected)]
    assert normalise == ["imagenet", None]
    for experiment in (board, corrected):
        heads = experiment.probe.evaluators
        assert [heads[name].lr for name in ("linear", "attentive", "attentive_32")] == [[1.6]] * 3
        assert [heads[name].queries for name in ("attentive", "attentive_32")] == [128, 32]
