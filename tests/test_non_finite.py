"""NaN and infinite values stop a job in one line, wherever they arise: in weights, samples or features."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_networks import refusal
from toy_probing import UNET

from diffprobe.config.built import parse_network
from diffprobe.config.processes import Process
from diffprobe.config.samplers import Sampler
from diffprobe.data.pixels import first_non_finite
from diffprobe.diffusion.build import build_sampler
from diffprobe.diffusion.edm import EDM
from diffprobe.evaluation.model import Model, load
from diffprobe.evaluation.representation.features import FeatureModel, Pass
from diffprobe.evaluation.representation.featurestore import Copies, write_level
from diffprobe.evaluation.representation.inputs import ModelInputs
from diffprobe.evaluation.sampling import Drawing
from diffprobe.networks.build import build
from diffprobe.training import checkpoints

CPU = torch.device("cpu")
SPECS = {"mid": ("mid", "mean"), "out_2": ("out_2", "mean")}


def checkpoint(path: Path, value: float | None = None) -> Path:
    """A small network of digits; one of its weights has the value."""
    torch.manual_seed(0)
    state = build(parse_network(UNET), image_channels=1).state_dict()
    if value is not None:
        state["mid1.res.conv1.weight"][0, 0, 0, 0] = value
    head = {"network": UNET, "process": {"kind": "edm"}, "shape": {"image_channels": 1}, "image": [1, 8, 8]}
    checkpoints.write(path, {"ema": state, "raw": build(parse_network(UNET), image_channels=1).state_dict()}, head)
    return path


@pytest.fixture
def loaded(tmp_path: Path) -> Model:
    return load(checkpoint(tmp_path / "x.safetensors"), CPU)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_are_refused_by_name(tmp_path: Path, value: float) -> None:
    path = checkpoint(tmp_path / "x.safetensors", value)
    assert refusal(load, path, CPU).startswith(f"{path}: mid1.res.conv1.weight holds NaN or infinite values; use an")
    load(path, CPU, weights="raw")  # the other set is sound


def test_the_first_image_with_a_value_that_is_no_number() -> None:
    x = torch.zeros(4, 3, 2, 2)
    assert first_non_finite(x) is None
    x[2, 1, 0, 1], x[3, 0, 0, 0] = torch.inf, torch.nan
    assert first_non_finite(x) == 2
    assert first_non_finite(x[2:].flatten(1)) == 0


def broken(loaded: Model, row: int, value: float) -> Model:
    """The model that draws this value in the row of every batch."""
    return loaded._replace(to_images=lambda x: x.index_fill(0, torch.tensor([row]), value))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_stop_the_job_by_the_images_number(loaded: Model, tmp_path: Path, value: float) -> None:
    sampler = build_sampler(Sampler.member({"kind": "heun", "steps": 2}), Process.member({"kind": "edm"}))
    drawing = Drawing(broken(loaded, 1, value), sampler, 0, {}, 3, CPU)
    for action in (lambda: drawing.images(12, 15), lambda: drawing.array(12, 16)):
        assert refusal(action).startswith("image 13, drawn by the sampler heun in fp32, holds NaN or infinite values; ")
    assert refusal(drawing.fill, tmp_path / "s.zarr", 4, lambda done: None).startswith("image 1, drawn")
    assert not (tmp_path / "s.zarr/zarr.json").exists()
    assert refusal(drawing.write_strip, tmp_path / "strip.npz", 4).startswith("image 1, drawn")
    assert not list(tmp_path.glob("strip*"))


def inputs(change: Callable[[int], float]) -> ModelInputs:
    """Ten images, the rows 100 .. 109 of a store, each of one value."""
    values = torch.tensor([change(i) for i in range(10)])
    rows = np.arange(100, 110)
    return ModelInputs(rows, lambda part, key, draw, augmented: values[part, None, None, None].expand(-1, 1, 8, 8))


def test_features_stop_the_job_by_tap_level_and_image(loaded: Model, tmp_path: Path) -> None:
    source, level = FeatureModel(loaded.network, EDM(), 0, CPU, batch=4), EDM().level(0.5)
    data = {"select": inputs(lambda i: np.nan if i == 7 else 0.5)}

    def write() -> object:
        copies, path = [Copies("select", "identity", 1)], tmp_path / "0.5.zarr"
        return write_level(path, source, data, level, SPECS, copies, "a", lambda done: None)

    line = "features of the tap mid at sigma 0.5 hold NaN or infinite values for image 107; use precision fp32"
    assert refusal(lambda: list(source.blocks(data["select"], Pass(level, SPECS, "p", 0)))).startswith(line)
    assert refusal(write).startswith(line)
    assert not list(tmp_path.glob("0.5*"))
    data["select"] = inputs(lambda i: 0.5)
    write()


def test_features_beyond_the_stores_numbers_stop_the_job(loaded: Model, tmp_path: Path) -> None:
    """They would be stored as infinite: float16 ends at 65,504."""
    with torch.no_grad():
        loaded.network.get_parameter("mid2.res.conv2.bias").fill_(1e5)
    source, copies = FeatureModel(loaded.network, EDM(), 0, CPU), [Copies("select", "identity", 1)]
    data, level = inputs(lambda i: 0.5), EDM().level(0.5)
    assert len(list(source.blocks(data, Pass(level, SPECS, "p", 0)))) == 1  # in Python they are float32
    said = refusal(
        write_level, tmp_path / "0.5.zarr", source, {"select": data}, level, SPECS, copies, "a", lambda done: None
    )
    assert said.startswith("features of the tap mid at sigma 0.5 exceed float16, as stored, for image 100; ")
