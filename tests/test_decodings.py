"""Decodings of codes: what is shared, what differs, and the job of a real checkpoint, from files to a picture."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from test_soda_samples import CPU, DDIM, PIXELS, store  # noqa: F401 (fixture)
from toy_soda import checkpoint

from diffprobe.config.load import parse
from diffprobe.data.pixels import to_float
from diffprobe.evaluation.generation.decodings import between, decoded, encoded, exchanged, reconstructions, variations
from diffprobe.evaluation.generation.reconstruction import similarities
from diffprobe.evaluation.sampling import Drawing
from diffprobe.plan.arguments import SampleArgument
from diffprobe.plan.figures import figures
from diffprobe.plan.graph import stages
from diffprobe.plan.layout import Layout
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import read_json

SCRIPT = Path(__file__).parents[1] / "workflow" / "scripts" / "decodings.py"
SAMPLE = {"seed": 5, "sampler": DDIM, "weights": {"name": "ema"}, "keep": 8}
IMAGES = torch.from_numpy(PIXELS)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a model whose code of 12 has a part for each of two levels and one for the middle."""
    return checkpoint(tmp_path_factory.mktemp("soda") / "x.safetensors", {"parts": "levels"})


@pytest.fixture(scope="module")
def drawing(weights: Path) -> Drawing:
    return Drawing.of(SampleArgument.model_validate(SAMPLE), weights, None, 4, CPU)


def alike(a: torch.Tensor, b: torch.Tensor) -> bool:
    """But for rounding, which another batch may change."""
    return int((a.int() - b.int()).abs().max()) <= 1


def test_a_row_shares_its_code_or_its_noise(drawing: Drawing) -> None:
    z = encoded(drawing, IMAGES[:4])
    assert torch.allclose(z, drawing.model.encode(to_float(IMAGES[:4])), atol=1e-5)
    several = variations(drawing, z, 3, apart=9)
    assert several.shape == (4, 3, 8, 8, 1) and several.dtype == torch.uint8
    for i in range(4):
        assert alike(several[i], decoded(drawing, z[[i] * 3], torch.tensor([i, i + 9, i + 18])))
    assert not alike(several[:, 0], several[:, 1])
    path = between(drawing, z[::2], z[1::2], 5)
    assert alike(path[:, 0], decoded(drawing, z[::2], torch.arange(2)))
    assert alike(path[:, 2], decoded(drawing, (z[::2] + z[1::2]) / 2, torch.arange(2)))
    assert alike(path[:, 4], decoded(drawing, z[1::2], torch.arange(2)))


def test_parts_are_exchanged_one_by_one(drawing: Drawing) -> None:
    z, lengths = encoded(drawing, IMAGES[:2]), drawing.model.network.decoder.part_lengths
    assert lengths == [4, 4, 4]
    made = exchanged(drawing, z[:1], z[1:], lengths)
    for k in range(3):
        by_hand = z[:1].clone()
        by_hand[:, 4 * k : 4 * k + 4] = z[1:, 4 * k : 4 * k + 4]
        assert alike(made[0, k], decoded(drawing, by_hand, torch.tensor([0]))[0])
    assert not alike(made[0, 0], made[0, 2])


def test_the_job_measures_the_decodings_that_it_shows(
    drawing: Drawing,
    weights: Path,
    store: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    """Two test images, of which the first decodings are those that are measured."""
    row = {"experiment": "x", "dataset": "d", "kimg": 1, "sampler": "ddim"}
    told = {"row": row, "sample": SAMPLE, "images": 100, "shown": 8, "variations": 2, "steps": 3}
    out = {"rows": tmp_path / "x.json", "pictures": tmp_path / "x.npz", "receipt": tmp_path / "x.receipt.json"}
    command = [sys.executable, str(SCRIPT), json.dumps(told), "--name", "decodings.x", "--log", str(tmp_path / "log")]
    command += ["--in", f"weights={weights}", f"images={store}", "--with", "draw=4", "autosave=60"]
    done = subprocess.run([*command, "--out", *(f"{k}={v}" for k, v in out.items())], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pictures = np.load(out["pictures"])
    assert {name: array.shape[:2] for name, array in pictures.items()} == {
        "images": (2, 8), "variations": (2, 2), "between": (1, 3), "exchanged": (1, 3),
    }  # fmt: skip
    assert alike(torch.from_numpy(pictures["between"][:, 0]), torch.from_numpy(pictures["variations"][:1, 0]))
    (psnr,) = [found for found in read_json(out["rows"])["rows"] if found["evaluator"] == "psnr"]
    error = np.square((pictures["images"] - pictures["variations"][:, 0].astype(float)) / 255).mean((1, 2, 3))
    assert psnr["value"] == pytest.approx(float((-10 * np.log10(error)).mean()), rel=1e-4)
    assert psnr["images"] == 2 and psnr["split"] == "test" and psnr["experiment"] == "x"
    others = reconstructions(drawing, torch.from_numpy(pictures["images"]))
    assert alike(others, torch.from_numpy(pictures["variations"][:, 0]))
    assert set(similarities(8, None)[0]) >= {"psnr"}


def config(task: dict, network: dict, **generation: object) -> dict:
    experiment = {
        "dataset": "digits",
        "network": {"channels": 8, "multipliers": [1, 2], "blocks": 1, "groups": 4} | network,
        "process": {"kind": "ddpm"},
        "task": task,
        "train": {"checkpoints": [1]},
        "sample": {"samplers": {"ddim": {"kind": "ddim", "steps": 3}}, "images": 8},
        "generation": {"extractors": [], "nearest": 0, **generation},
    }
    return {"datasets": {"digits": {"source": {"kind": "digits"}}}, "experiments": {"x": experiment}}


def test_the_job_exists_where_it_is_asked_for() -> None:
    network, task = {"kind": "modulated_unet"}, {"kind": "soda", "z": 12}
    without, with_it = (parse(config(task, network, decodings=each)) for each in (None, {"shown": 4}))
    added = [stage.rule for stage in stages(with_it)]
    assert added.count("decodings") == 1 and "decodings" not in [stage.rule for stage in stages(without)]
    kinds = [figure.kind for figure in figures(Layout(""), "x", with_it.experiments["x"])]
    assert "decodings" in kinds
    assert "decodings" not in without.experiments["x"].generation.model_dump()  # no argument changes
    refused = r"experiments\.x\.generation\.decodings: .*null, since the task diffusion makes none"
    with pytest.raises(UserError, match=refused):
        parse(config({"kind": "diffusion"}, {"kind": "unet"}, decodings={}))
