"""DINOv2 against Hugging Face's network, its positions against a plain bicubic, its images against Pillow's."""

from collections.abc import Callable
from email.message import Message
from io import BytesIO
from pathlib import Path
from types import ModuleType
from urllib.error import URLError

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import Tensor, nn

from diffprobe.config.extractors.dinov2 import DINOv2Extractor
from diffprobe.data.pixels import DEVIATION, MEAN
from diffprobe.evaluation.generation.extractors import FeatureExtractor, make
from diffprobe.evaluation.generation.extractors.dinov2 import SIDE, meta_names, prepared
from diffprobe.networks.dinov2 import HEAD, SIZES, DINOv2
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import sha256

WIDTH, DEPTH = 2 * HEAD, 2
HUGGING_FACE_OFFSET = 1e-8
CPU = torch.device("cpu")

State = dict[str, Tensor]


def dinov2(size: str, weights: Path | None) -> FeatureExtractor:
    return make(DINOv2Extractor(kind="dinov2", size=size), weights, CPU)


@pytest.fixture(scope="module")
def transformers() -> ModuleType:
    return pytest.importorskip("transformers", reason="transformers, the reference, is not installed")


def randomise(network: nn.Module) -> nn.Module:
    """Weights large enough that every part, norms and layer scales included, shows in the class token."""
    generator = torch.Generator().manual_seed(0)
    for name, value in network.state_dict().items():
        value.normal_(std=0.5 if "patch" in name else 0.2, generator=generator)
        if value.ndim == 1 and not name.endswith("bias"):
            value.add_(1)
    return network.eval()


def published(transformers: ModuleType, image_size: int, width: int = WIDTH, depth: int = DEPTH) -> nn.Module:
    """Hugging Face's DINOv2 with positions for `image_size`."""
    config = transformers.Dinov2Config(
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=width // HEAD,
        image_size=image_size,
        patch_size=14,
    )
    return transformers.Dinov2Model(config)


def save(reference: nn.Module, folder: Path) -> Path:
    reference.save_pretrained(folder)
    return folder / "model.safetensors"


def ours(file: Path, offset: float) -> DINOv2:
    network = DINOv2(WIDTH, DEPTH, offset=offset)
    network.load_state_dict(without_mask(meta_names(safetensors.torch.load_file(file))))
    return network.eval()


def without_mask(state: State) -> State:
    return {name: value for name, value in state.items() if name != "mask_token"}


def bicubic(cells: int, wanted: int, scale: float) -> Tensor:
    """The matrix (wanted, cells) of bicubic interpolation (Keys 1981, a = -0.75), samples `scale` cells apart."""

    def keys(x: float) -> float:
        a, x = -0.75, abs(x)
        inner, outer = (a + 2) * x**3 - (a + 3) * x**2 + 1, a * (x**3 - 5 * x**2 + 8 * x - 4)
        return inner if x <= 1 else outer if x < 2 else 0.0

    matrix = torch.zeros(wanted, cells, dtype=torch.float64)
    for i in range(wanted):
        centre = (i + 0.5) * scale - 0.5
        for k in range(int(centre // 1) - 1, int(centre // 1) + 3):
            matrix[i, min(max(k, 0), cells - 1)] += keys(centre - k)
    return matrix


def test_same_features_as_hugging_faces_network(transformers: ModuleType, tmp_path: Path) -> None:
    reference = randomise(published(transformers, image_size=518))
    network = ours(save(reference, tmp_path), HUGGING_FACE_OFFSET)
    x = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected, features = reference(x).pooler_output, network(x)
        assert expected.std(0).mean() > 0.1  # the images differ by far more than what is allowed
        assert torch.allclose(features, expected, rtol=0, atol=1e-5)
        wide = x[:, :, :140]
        assert torch.allclose(network(wide), reference(wide).pooler_output, rtol=0, atol=1e-5)


def test_positions_are_placed_as_in_metas_network(transformers: ModuleType, tmp_path: Path) -> None:
    stored = randomise(published(transformers, image_size=518))
    network = ours(save(stored, tmp_path), offset=0.1)
    rows = bicubic(37, 16, 37 / 16.1)
    grid = network.pos_embed[0, 1:].detach().double().view(37, 37, WIDTH)
    patches = torch.einsum("ik,jl,klc->ijc", rows, rows, grid).float().flatten(0, 1)  # (256, D)
    positions = torch.cat([network.pos_embed[0, :1], patches])
    assert torch.allclose(network.positions(16, 16)[0], positions, rtol=0, atol=1e-5)
    # Hugging Face's network with these positions, which it then has no need to interpolate.
    reference = published(transformers, image_size=SIDE).eval()
    named = {name: value for name, value in stored.state_dict().items() if "position" not in name}
    reference.load_state_dict(named | {"embeddings.position_embeddings": positions[None]})
    x = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert torch.allclose(network(x), reference(x).pooler_output, rtol=0, atol=1e-5)
        assert (network(x) - stored(x).pooler_output).abs().max() > 1e-2  # the offset shows


@pytest.mark.parametrize("size", SIZES)
def test_sizes_have_the_published_tensors(transformers: ModuleType, size: str) -> None:
    width, depth = SIZES[size]
    with torch.device("meta"):
        reference, network = published(transformers, 518, width, depth), DINOv2(width, depth)
    expected = sum(value.numel() for value in reference.parameters()) - width  # the mask token
    assert sum(value.numel() for value in network.parameters()) == expected


def images(channels: int = 3) -> Tensor:
    """Noise and a ramp, uint8 (2, 40, 32, C)."""
    noise = torch.randint(0, 256, (40, 32, channels), generator=torch.Generator().manual_seed(1))
    ramp = torch.arange(0, 256, 8)[None, :, None].expand_as(noise)
    return torch.stack([noise, ramp]).to(torch.uint8)


@pytest.mark.parametrize("height", [40, 500])
def test_images_are_resized_as_pillow_does(height: int) -> None:
    image = images().repeat_interleave(max(height // 40, 1), dim=1)

    def resized(channel: np.ndarray) -> np.ndarray:
        grown = Image.fromarray(channel.astype(np.float32)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        return np.asarray(grown).clip(0, 255) / 255

    expected = np.stack([[resized(x[:, :, c].numpy()) for c in range(3)] for x in image])  # (2, 3, 224, 224)
    pixels = prepared(image, CPU).numpy() * np.reshape(DEVIATION, (3, 1, 1)) + np.reshape(MEAN, (3, 1, 1))
    assert np.abs(pixels - expected).max() < 1e-4  # a level of 8 bits is 4e-3
    assert (pixels.min(), pixels.max()) == pytest.approx((0, 1), abs=1e-6)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> State:
    """A state in Meta's names, of a size `s` that is made small."""
    monkeypatch.setitem(SIZES, "s", (WIDTH, DEPTH))
    return randomise(DINOv2(WIDTH, DEPTH)).state_dict() | {"mask_token": torch.zeros(1, WIDTH)}


def metas(state: dict, folder: Path) -> Path:
    torch.save(state, folder / "dinov2.pth")
    return folder / "dinov2.pth"


def test_metas_and_hugging_faces_files_give_the_same(transformers: ModuleType, tiny: State, tmp_path: Path) -> None:
    reference = randomise(published(transformers, image_size=518))
    file = save(reference, tmp_path / "huggingface")
    meta = metas(meta_names(safetensors.torch.load_file(file)), tmp_path)
    network = ours(file, offset=0.1)
    with torch.inference_mode():
        expected = network(prepared(images(), CPU))
    for path, read in ((file, file), (file.parent, file), (meta, meta)):
        extractor = dinov2("s", path)
        described = ("dinov2_vits14", WIDTH, sha256(read))
        assert (extractor.name, extractor.dim, extractor.weights) == described
        assert "bicubic to 224x224" in extractor.resize
        assert torch.equal(extractor.apply(images()).pooled, expected)


def test_gray_is_repeated_and_halves_are_widened(tiny: State, tmp_path: Path) -> None:
    extractor = dinov2("s", metas({name: value.half() for name, value in tiny.items()}, tmp_path))
    gray = images(channels=1)
    features = extractor.apply(gray).pooled
    assert (features.dtype, features.shape) == (torch.float32, (2, WIDTH))
    assert torch.equal(features, extractor.apply(gray.expand(-1, -1, -1, 3)).pooled)
    with pytest.raises(UserError, match="1 or 3 channels, not 4"):
        extractor.apply(images(channels=4))


def refused(message: str, make_extractor: Callable[[], FeatureExtractor], name: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        make_extractor()
    assert name in str(error.value)
    assert "\n" not in str(error.value)


CHANGES: dict[str, tuple[str, dict, tuple[str, ...]]] = {  # what is refused, what is put in, what is left out
    "registers": ("s with registers, not s: .*`weights:`", {"register_tokens": torch.zeros(1, 4, WIDTH)}, ()),
    "giant": (r"64 x 3 blocks, not s: .*`weights:`", {"norm.weight": torch.ones(64), "blocks.2.x": torch.ones(1)}, ()),
    "another size": ("are of size b, not s: set `size: b`", {"norm.weight": torch.ones(7)}, ()),
    "cut": ("lack pos_embed: .*`weights:`", {}, ("pos_embed",)),
    "a query alone": ("lack blocks.1.attn.qkv.bias", {"blocks.1.attn.query.bias": torch.ones(2)},
                      ("blocks.1.attn.qkv.bias",)),
    "no tensor": ("lack cls_token", {"cls_token": 3}, ()),
    "foreign": ("lack", {}, ("norm.weight", "norm.bias", "cls_token")),
    "another grid": (r"pos_embed has shape \(1, 257, 128\), expected \(1, 1370, 128\)",
                     {"pos_embed": torch.zeros(1, 257, WIDTH)}, ()),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_unfit_files_end_in_one_line(change: str, tiny: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SIZES, "b", (7, DEPTH))
    message, put_in, left_out = CHANGES[change]
    state = {name: value for name, value in (tiny | put_in).items() if name not in left_out}
    refused(message, lambda: dinov2("s", metas(state, tmp_path)), "dinov2.pth")


def test_what_cannot_be_read_ends_in_one_line(tmp_path: Path) -> None:
    refused("cannot be read", lambda: dinov2("l", tmp_path), "model.safetensors")
    refused("cannot be read", lambda: dinov2("l", tmp_path / "none.pth"), "none.pth")
    refused("expected a .safetensors or .pth file", lambda: dinov2("l", tmp_path / "x.bin"), "x.bin")


def test_offline_download_names_the_remedies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", offline)
    place = "dinov2/dinov2_vitb14/dinov2_vitb14_pretrain.pth could not be downloaded"
    message = rf"{place}.*hub/checkpoints/dinov2_vitb14_pretrain.pth.*`weights:`"
    refused(message, lambda: dinov2("b", None), "dinov2_vitb14")


class Answer(BytesIO):
    def info(self) -> Message:
        return Message()


def test_only_metas_own_file_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it is downloaded or cached: it is known by its SHA-256."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", lambda *_, **__: Answer(b"a proxy's page"))
    refused("could not be downloaded .invalid hash value", lambda: dinov2("s", None), "dinov2_vits14")
    cache = tmp_path / "hub/checkpoints"
    assert not list(cache.iterdir())
    (cache / "dinov2_vits14_pretrain.pth").write_bytes(b"cut off")
    refused("not the file that .* has, by its SHA-256; delete it", lambda: dinov2("s", None), "dinov2_vits14")
    assert (cache / "dinov2_vits14_pretrain.pth").read_bytes() == b"cut off"
