"""LPIPS: the package's own numbers from a file of VGG16's weights, and what happens where there is none."""

import json
import os
import subprocess
import sys
from pathlib import Path

import lpips
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from diffprobe.config.autoencoders import Trained
from diffprobe.data import images
from diffprobe.networks import perceptual
from diffprobe.networks.perceptual import LPIPS, available
from diffprobe.plan import job_arguments
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import sha256

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def package() -> lpips.LPIPS:
    """The package's LPIPS on a VGG16 of random weights."""
    torch.manual_seed(0)
    return lpips.LPIPS(net="vgg", pnet_rand=True, verbose=False)


@pytest.fixture(scope="module")
def vgg(package: lpips.LPIPS, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its weights under torchvision's names, the convolutional layers alone."""
    layers = {f"features.{key.split('.', 1)[1]}": value for key, value in package.net.state_dict().items()}
    assert len(layers) == 26
    path = tmp_path_factory.mktemp("vgg") / "features.pth"
    torch.save(layers, path)
    return path


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    return tuple(torch.rand(3, 3, 32, 32, generator=draw) * 2 - 1 for _ in range(2))


def test_distances_and_gradients_are_the_packages(package: lpips.LPIPS, vgg: Path, pair: tuple) -> None:
    ours, (a, b) = LPIPS(vgg), pair
    results = []
    for distance in (ours, lambda x, y: package(x, y).flatten()):
        x = a.clone().requires_grad_(True)
        value = distance(x, b)
        value.sum().backward()
        results.append((value.detach(), x.grad))
    assert results[0][0].shape == (3,) and (results[0][0] > 0).all()
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)
    assert not ours(a, a).any()
    assert not any(parameter.requires_grad for parameter in ours.parameters()) and ours.sha256 == sha256(vgg)


def test_grey_images_are_repeated_and_16_pixels_suffice(vgg: Path, pair: tuple) -> None:
    ours, (a, b) = LPIPS(vgg), (x[:, :1, :16, :16] for x in pair)
    torch.testing.assert_close(ours(a, b), ours(a.repeat(1, 3, 1, 1), b.repeat(1, 3, 1, 1)))


def test_safetensors_and_a_whole_network_serve_too(vgg: Path, pair: tuple, tmp_path: Path) -> None:
    state = torch.load(vgg) | {"classifier.6.bias": torch.zeros(1000)}
    save_file(state, tmp_path / "vgg.safetensors")
    assert torch.equal(LPIPS(tmp_path / "vgg.safetensors")(*pair), LPIPS(vgg)(*pair))


def test_other_files_are_refused_in_one_line(vgg: Path, tmp_path: Path) -> None:
    state = torch.load(vgg)
    for change, said in (
        ({"features.0.weight": torch.zeros(3)}, "has shape"),
        ({"features.28.bias": None}, "missing"),
        ({"features.28.bias": torch.full((512,), torch.nan)}, "NaN"),
        ({"features.28.bias": torch.zeros(512, dtype=torch.complex64)}, "complex64, expected float16"),
    ):
        torch.save({key: x for key, x in (state | change).items() if x is not None}, tmp_path / "other.pth")
        with pytest.raises(UserError, match=f"other.pth: not torchvision's VGG16 .*{said}.*train.perceptual.vgg"):
            LPIPS(tmp_path / "other.pth")
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(UserError, match=r"text\.pth: cannot be read"):
        LPIPS(tmp_path / "text.pth")
    with pytest.raises(UserError, match=r"train\.perceptual\.vgg: .*gone\.pth: no such file"):
        available(tmp_path / "gone.pth", download=True)


def test_what_is_available(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The named file, or the download, which is taken up whole or not at all; without a network a line."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    where = tmp_path / "hub" / "checkpoints" / "vgg16-397923af.pth"
    monkeypatch.setattr(perceptual, "URL", f"file://{tmp_path}/vgg16-397923af.pth")
    for download in (False, True):
        file, said = available(None, download)
        assert file is None and str(where) in said and "train.perceptual.vgg" in said
    (tmp_path / where.name).write_bytes(b"something else")
    assert "not the file that was published" in available(None, download=True)[1] and not where.exists()
    monkeypatch.setattr(perceptual, "URL", f"file://{tmp_path}/vgg16-{sha256(tmp_path / where.name)[:8]}.pth")
    (tmp_path / where.name).rename(perceptual.URL.removeprefix("file://"))
    file, said = available(None, download=True)
    assert file.read_bytes() == b"something else" and not said
    assert available(file, download=False) == (file, "")


# --- a training job -----------------------------------------------------------------------------------------


def config() -> str:
    train = {"kimg": 1, "batch": 4, "perceptual": {}, "adversary": {"start_kimg": 0, "widths": [8]}}
    network = {"kind": "conv_autoencoder", "widths": [8, 8], "blocks": 1, "groups": 4}
    return json.dumps(
        job_arguments.autoencoder(Trained(kind="trained", dataset="d", size=16, network=network, train=train))
    )


def trained(run: Path, stop: int, **inputs: Path) -> tuple[dict, str]:
    """The receipt of a training job without a network, and what it said."""
    checkpoint = run / "checkpoints" / "1"
    names = {"ema": "ema.safetensors", "raw": "raw.safetensors", "stats": "stats.jsonl", "receipt": "receipt.json"}
    options = {"kimg": 1, "start": 0, "stop": stop, "keep": "last", "autosave": 1e6, "device_batch": 0}
    command = [sys.executable, str(ROOT / "workflow/scripts/train.py"), config(), "--in"]
    command += [f"{name}={path}" for name, path in inputs.items()]
    command += ["--out", *(f"{name}={checkpoint / file}" for name, file in names.items())]
    command += ["--with", *(f"{name}={value}" for name, value in options.items()), "--log", str(run / "logs" / "a.log")]
    (run / "logs").mkdir(exist_ok=True)
    own = {"PYTHONPATH": str(ROOT / "src"), "TORCH_HOME": str(run), "https_proxy": "http://127.0.0.1:9"}
    ran = subprocess.run([*command, "--threads", "1"], capture_output=True, text=True, env=os.environ | own)
    assert ran.returncode == 0, ran.stderr
    return json.loads((checkpoint / "receipt.json").read_text()), ran.stderr


def test_a_run_that_began_without_lpips_is_not_gone_on_with(vgg: Path, tmp_path: Path) -> None:
    store = tmp_path / "images.h5"
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), dtype=np.uint8)
    images.write(store, pixels, np.zeros(12, np.int64), np.zeros(12, np.uint8), classes=json.dumps(["a"]))

    def rows() -> list[set[str]]:
        lines = (tmp_path / "checkpoints/1/stats.jsonl").read_text().splitlines()
        return [set(json.loads(line)) - {"step", "images", "lr"} for line in lines]

    receipt, said = trained(tmp_path, 2, images=store)
    assert receipt["lpips"] == "absent" and "LPIPS is left out" in said and "train.perceptual.vgg" in said
    assert rows() == [{"loss", "mse", "kl", "fooling", "adversary"}]
    receipt, said = trained(tmp_path, 3, images=store, vgg=vgg)
    assert receipt["lpips"] == sha256(vgg) and "left out" not in said
    assert (receipt["from_step"], receipt["to_step"]) == (0, 3)
    assert rows() == [{"loss", "mse", "kl", "lpips", "fooling", "adversary"}]
    moved = vgg.rename(tmp_path / "moved.pth")  # the same weights elsewhere
    assert trained(tmp_path, 4, images=store, vgg=moved)[0]["from_step"] == 3
    moved.rename(vgg)
