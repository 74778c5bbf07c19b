"""TorchScript extractors: little networks, scripted here, that return what they received."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from diffprobe.__main__ import main
from diffprobe.config.extractors.torchscript import TorchScriptExtractor
from diffprobe.config.load import load
from diffprobe.evaluation.generation.extractors import FeatureExtractor, make
from diffprobe.plan import job_arguments
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import sha256

CONFIG = {"kind": "torchscript", "weights": "none.pt", "size": None, "input": "unit", "arguments": {}}


class Corners(nn.Module):
    """The three channels of the first pixel, and of the last; zeros in training mode."""

    def forward(self, x: Tensor) -> Tensor:
        flat = x.view(len(x), 3, -1)  # fails where memory is channels_last
        return torch.cat([flat[:, :, 0], flat[:, :, -1]], dim=1) * float(not self.training)  # (B, 6)


class Typed(nn.Module):
    """Whether the images are uint8, and their height."""

    def forward(self, x: Tensor) -> Tensor:
        about = torch.tensor([float(x.dtype == torch.uint8), float(x.shape[2])], device=x.device)
        return about.expand(len(x), 2)


class Map(nn.Module):
    """A map (B, 2, h, w) of double precision: the rows' mean over channels, and its opposite."""

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(1, keepdim=True).double()
        return torch.cat([mean, -mean], dim=1)


class Choosy(nn.Module):
    """Other outputs than features, unless an argument says so, as NVIDIA's Inception."""

    def forward(self, x: Tensor, return_features: bool = False, factor: float = 1.0, power: int = 1) -> Tensor:
        features = factor * x.mean((2, 3)) ** power
        return features if return_features else features.flatten()


class Fixed(nn.Module):
    """Takes 8 x 8 pixels only."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3 * 8 * 8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.flatten(1))


class Flat(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A folder with a file for each network above, in training mode where that matters."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        for network in (Corners(), Typed(), Map(), Choosy(), Fixed(), Flat(), Pair()):
            torch.jit.script(network).save(str(tmp_path / f"{type(network).__name__}.v-1.pt"))
    return tmp_path


def extractor(folder: Path, name: str, **config: object) -> FeatureExtractor:
    settings = TorchScriptExtractor(**CONFIG | {"weights": str(folder / f"{name}.v-1.pt")} | config)
    return make(settings, None, torch.device("cpu"))


def images(height: int = 4, channels: int = 3) -> Tensor:
    """(2, height, 6, C): every value from 0 to 255 in turn."""
    return torch.arange(2 * height * 6 * channels).mul(7).remainder(256).to(torch.uint8).view(2, height, 6, channels)


IMAGENET = (torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225]))


@pytest.mark.parametrize("kind", ["uint8", "unit", "signed", "imagenet"])
def test_images_in_every_range(kind: str, saved: Path) -> None:
    corners = torch.cat([images()[:, 0, 0], images()[:, -1, -1]], dim=1).double().view(2, 2, 3)
    expected = {
        "uint8": corners,
        "unit": corners / 255,
        "signed": corners / 127.5 - 1,
        "imagenet": (corners / 255 - IMAGENET[0]) / IMAGENET[1],
    }[kind]
    made = extractor(saved, "Corners", input=kind)
    features = made.apply(images()).pooled
    assert (made.name, made.dim, made.resize) == ("script_Corners_v_1", 6, f"none; input {kind}")
    assert made.weights == sha256(saved / "Corners.v-1.pt")
    assert torch.allclose(features, expected.flatten(1).float(), rtol=0, atol=1e-6)
    assert torch.equal(features, made.apply(images()).pooled), "the optimiser changes what later calls return"
    typed = extractor(saved, "Typed", input=kind).apply(images()).pooled
    assert typed.tolist() == [[float(kind == "uint8"), 4.0]] * 2


def test_images_are_resized_to_the_configured_size(saved: Path) -> None:
    made = extractor(saved, "Typed", size=8)
    assert made.resize == "bilinear to 8x8, half-pixel centres, antialiased; input unit"
    assert made.apply(images(20)).pooled[:, 1].tolist() == [8, 8]
    halves = torch.tensor([10, 15, 20, 20]).to(torch.uint8)[None, None, :, None].expand(1, 4, 4, 3)
    first, last = extractor(saved, "Corners", size=2, input="uint8").apply(halves).pooled[0, [0, -1]].tolist()
    # Weights 3, 3, 1 of a triangle of width 4: 95 / 7 = 13.57 and 135 / 7 = 19.29, rounded.
    assert (first, last) == (14, 19)


def test_maps_are_averaged(saved: Path) -> None:
    made = extractor(saved, "Map")
    mean = images().float().mean((1, 2, 3)) / 255
    features = made.apply(images()).pooled
    assert (made.dim, features.dtype) == (2, torch.float32)
    assert torch.allclose(features, torch.stack([mean, -mean], dim=1))


def test_gray_is_repeated(saved: Path) -> None:
    gray = images(channels=1)
    apply = extractor(saved, "Corners").apply
    assert torch.equal(apply(gray).pooled, apply(gray.expand(-1, -1, -1, 3)).pooled)


def test_arguments_reach_the_network(saved: Path) -> None:
    arguments = {"return_features": True, "power": 2, "factor": 0.5}
    made = extractor(saved, "Choosy", arguments=arguments)
    expected = 0.5 * (images().float().mean((1, 2)) / 255) ** 2
    assert torch.allclose(made.apply(images()).pooled, expected)
    assert made.resize == "none; input unit, factor=0.5, power=2, return_features=True"


def test_make_prefers_the_file_that_is_given(saved: Path) -> None:
    replaced = make(TorchScriptExtractor(**CONFIG), saved / "Corners.v-1.pt", torch.device("cpu"))
    assert replaced.identity == extractor(saved, "Corners").identity


def test_a_file_runs_only_where_it_is_trusted(saved: Path, capsys: pytest.CaptureFixture) -> None:
    """It is a program. Trust is no part of what decides a rerun."""
    weights = str(saved / "Corners.v-1.pt")
    np.save(saved / "images.npy", images(6).numpy())
    words = ["measure", str(saved / "images.npy"), "--save", str(saved / "out.npz")]
    words += ["--extractor", "torchscript", f"weights={weights}"]
    with pytest.raises(SystemExit) as stop:
        main(words)
    error = capsys.readouterr().err
    assert stop.value.code == 1 and error.count("\n") == 1
    assert f"{weights} is a program that runs with your rights; add --trusted" in error
    assert not (saved / "out.npz").exists()
    main([*words, "--trusted"])
    assert (saved / "out.npz").exists()
    entry = {"kind": "torchscript", "weights": weights, "trusted": True}
    config = load("config/config.yaml", extractors={"mine": entry})
    assert job_arguments.extractor(config, "mine") == CONFIG | {"weights": weights}


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("none", {}, "cannot be read: .*does not exist.*`weights:`"),
        ("cut", {}, "cannot be read: .*`weights:`"),
        ("Choosy", {}, r"returns \(3,\) for 1 images, expected a tensor \(B, D\).*`arguments`"),
        ("Choosy", {"arguments": {"features": True}}, "fails on .*Unknown keyword argument 'features'.*`arguments`"),
        ("Pair", {}, "returns tuple for 1 images"),
        ("Fixed", {}, r"fails on torch.float32 \(1, 3, 299, 299\): RuntimeError: mat1 and mat2 shapes.*`size`"),
        ("Fixed", {"size": 8, "input": "uint8"}, r"fails on torch.uint8 .*must have the same dtype.*`input`"),
    ],
)
def test_unfit_files_end_in_one_line(name: str, config: dict, message: str, saved: Path) -> None:
    (saved / "cut.v-1.pt").write_bytes(b"cut")
    with pytest.raises(UserError, match=message) as error:
        extractor(saved, name, **config)
    assert f"{name}.v-1.pt" in str(error.value)
    assert "\n" not in str(error.value)


def test_features_that_depend_on_the_images_size_are_refused(saved: Path) -> None:
    apply = extractor(saved, "Flat").apply
    with pytest.raises(UserError, match="has 268203 features of a 299x299 image, but 72 of these: set `size") as error:
        apply(images())
    assert "Flat.v-1.pt" in str(error.value)
    assert extractor(saved, "Flat", size=4).apply(images()).pooled.shape == (2, 48)
