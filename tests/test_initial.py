"""Training that begins with the weights of another run."""

from pathlib import Path

import pytest
import torch
from kills import run
from safetensors.torch import load_file
from toy_workflow import project_with

from diffprobe.config.load import parse
from diffprobe.networks.build import build
from diffprobe.plan.preflight import refuse_own_weights
from diffprobe.runtime.errors import UserError
from diffprobe.training import checkpoints
from diffprobe.training.initial import begin_with

NETWORK = {"kind": "unet", "channels": 8, "multipliers": [1, 2], "blocks": 1, "groups": 4, "attention": [1]}
SMALL = "results/runs/small/checkpoints/1/ema.safetensors"
LARGE = "results/runs/large/checkpoints/1/ema.safetensors"


def config(**train: object) -> dict:
    """A run on images of half the size, and one on the whole that begins with its weights and hardly moves."""
    one = {
        "network": NETWORK,
        "process": {"kind": "edm"},
        "sample": {"samplers": {"heun": {"kind": "heun", "steps": 2}}, "images": 4},
        "generation": None,
    }
    loop = {"checkpoints": [1], "batch": 64}
    digits = {"source": {"kind": "digits"}}
    return {
        "results": "results",
        "datasets": {"halves": digits | {"size": 4}, "digits": digits},
        "experiments": {
            "small": one | {"dataset": "halves", "train": loop},
            "large": one | {"dataset": "digits", "train": loop | {"initial": SMALL, "lr": 1e-12} | train},
        },
    }


def test_a_run_begins_with_the_weights_of_another_at_another_size(tmp_path: Path) -> None:
    project = project_with(tmp_path / "project", config())
    ran = run(project, LARGE)
    assert ran.returncode == 0, ran.stderr
    before, after = load_file(project / SMALL), load_file(project / LARGE)
    # Its own average began anew, at these weights.
    assert all(torch.allclose(before[name], after[name], rtol=0, atol=1e-8) for name in before)
    assert "Nothing to be done" in (again := run(project, LARGE)).stdout + again.stderr


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    settings = parse(config()).experiments["large"].network
    described = {"network": settings.argument()}
    theirs, path = build(settings, image_channels=1), tmp_path / "ema.safetensors"
    checkpoints.write(path, {"ema": theirs.state_dict()}, {**described, "shape": {"image_channels": 1}})
    ours = build(settings, image_channels=1)
    begin_with(path, ours, described)
    assert all(torch.equal(x, y) for x, y in zip(theirs.parameters(), ours.parameters(), strict=True))

    with pytest.raises(UserError, match="its network differs"):
        begin_with(path, ours, {"network": described["network"] | {"channels": 16}})
    with pytest.raises(UserError, match=r"do not fit these images.*the same channels and classes") as error:
        begin_with(path, build(settings, image_channels=3), described)
    assert "\n" not in str(error.value)
    theirs.stem.bias.data[0] = float("nan")
    checkpoints.write(path, {"ema": theirs.state_dict()}, {**described, "shape": {"image_channels": 1}})
    with pytest.raises(UserError, match=r"stem.bias holds NaN"):
        begin_with(path, ours, described)


def test_no_run_begins_with_its_own_weights() -> None:
    refuse_own_weights(parse(config()))
    with pytest.raises(UserError, match=r"experiments.large.train.initial.*name another checkpoint"):
        refuse_own_weights(parse(config(initial=LARGE)))
    circle = config()
    circle["experiments"]["small"]["train"] = {"checkpoints": [1], "initial": LARGE}
    with pytest.raises(UserError, match=r"experiments.small.train.initial"):
        refuse_own_weights(parse(circle))
