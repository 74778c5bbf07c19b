"""Images of 32 pixels to the 768 features of the FID's Inception, beside pytorch-fid's own network.

The real layers lie in weights/ of the folder that DIFFPROBE_TEST_DATA names; without them weights are random.
"""

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from benchmarks.row import Agreement, Line, Piece, Row, Setting, Slope
from diffprobe.config.extractors.inception import InceptionExtractor
from diffprobe.evaluation.generation import extractors
from diffprobe.evaluation.generation.extractors import FeatureExtractor, weights

BATCH, DIMS = 16, 768
FOLDER = os.environ.get("DIFFPROBE_TEST_DATA")
REAL = Path(FOLDER or ".") / "weights" / "fid_inception_2015_12_05_to_mixed_6e.safetensors"


def random_weights() -> dict[str, Tensor]:
    """By the names of the file; torchvision's own initial values would take a minute."""
    import torchvision

    torch.manual_seed(0)
    whole = torchvision.models.inception_v3(num_classes=1008, aux_logits=False, weights=None, init_weights=False)
    return whole.state_dict()


def weights_file(folder: Path) -> Path:
    """The real layers, or random ones."""
    if REAL.exists():
        return REAL
    path = folder / "random.pth"
    if not path.exists():
        torch.save(random_weights(), path)
    return path


def our_extractor(folder: Path) -> FeatureExtractor:
    path = weights_file(folder)
    return extractors.make(InceptionExtractor(kind="inception", dims=DIMS), path, torch.device("cpu"))


def plain_network(folder: Path) -> nn.Module:
    """pytorch-fid's own, by a file in place of its download; layers that the file lacks are not used."""
    import pytorch_fid.inception as fid

    tensors = random_weights() | weights.read(weights_file(folder), "weights")
    fid.load_state_dict_from_url = lambda *_, **__: tensors
    return fid.InceptionV3([fid.InceptionV3.BLOCK_INDEX_BY_DIM[DIMS]]).eval()


def pixels(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), np.uint8)


class Images(Dataset):
    def __init__(self, images: np.ndarray) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> Tensor:
        return torch.from_numpy(self.images[i]).permute(2, 0, 1).float() / 255


def ours(setting: Setting) -> Piece:
    extractor, images = our_extractor(setting.folder), torch.from_numpy(pixels(setting.amount))

    def piece() -> float:
        features = np.empty((len(images), DIMS))
        for start in range(0, len(images), BATCH):
            features[start : start + BATCH] = extractor.apply(images[start : start + BATCH]).pooled.numpy()
        return len(images)

    return piece


def plain(setting: Setting) -> Piece:
    network, images = plain_network(setting.folder), Images(pixels(setting.amount))

    def piece() -> float:
        features, start = np.empty((len(images), DIMS)), 0
        for batch in DataLoader(images, BATCH, shuffle=False):
            features[start : start + len(batch)] = plain_features(network, batch)
            start += len(batch)
        return len(images)

    return piece


@torch.no_grad()
def plain_features(network: nn.Module, batch: Tensor) -> np.ndarray:
    features = network(batch)[0]
    return nn.functional.adaptive_avg_pool2d(features, (1, 1)).squeeze(3).squeeze(2).cpu().numpy()


def check(tiny: bool) -> list[Agreement]:
    from tempfile import TemporaryDirectory

    images = pixels(1 if tiny else 4)
    with TemporaryDirectory() as folder:
        mine = our_extractor(Path(folder)).apply(torch.from_numpy(images)).pooled.numpy()
        other = plain_features(plain_network(Path(folder)), torch.stack([*Images(images)]))
    return [Agreement("features", float(np.linalg.norm(mine - other) / np.linalg.norm(other)), 1e-4)]


ROW = Row(
    lines=(Line("Inception to 768", must=1.45, go=1.8, remark="" if REAL.exists() else "random weights"),),
    sides={"plain": plain, "ours": ours},
    check=check,
    amount=32,
    slope=Slope("images", 16, 160),
)
