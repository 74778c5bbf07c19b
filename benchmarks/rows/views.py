"""Random views of 32x32 images in one thread, with crop, flip and RandAugment: batches beside torchvision on PIL."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import RandAugment as TorchvisionRandAugment
from torchvision.transforms import functional as F
from torchvision.transforms.autoaugment import _apply_op

from benchmarks.plain.views import loader
from benchmarks.row import Agreement, Line, Piece, Row, Setting, Slope
from diffprobe.config.views import RandomCrop, RandomView
from diffprobe.data.pixels import to_float
from diffprobe.data.randaugment import NAMES, augment
from diffprobe.data.random_crop import draw_boxes, enlarge
from diffprobe.data.random_view import random_view
from diffprobe.runtime.keyed import Draws

BATCH, SIZE, MAGNITUDE = 128, 32, 9
VIEW = RandomView()


def pixels(count: int) -> np.ndarray:
    """Smooth pictures with some noise, bytes (N, 32, 32, 3); they repeat after a thousand."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1000, 3, 5, 5, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (SIZE, SIZE), mode="bilinear")
    noisy = 40 + 170 * smooth + 20 * torch.rand(smooth.shape, generator=generator)
    return np.resize(noisy.byte().permute(0, 2, 3, 1).numpy(), (count, SIZE, SIZE, 3))


def plain(setting: Setting) -> Piece:
    torch.set_num_threads(1)
    batches = loader(pixels(setting.amount), BATCH)

    def piece() -> float:
        return sum(len(views) for views in batches)

    return piece


def ours(setting: Setting) -> Piece:
    torch.set_num_threads(1)
    images = torch.from_numpy(pixels(setting.amount))

    def piece() -> float:
        for rows in torch.randperm(len(images)).split(BATCH):
            random_view(to_float(images[rows]), Draws(0, rows), VIEW)
        return len(images)

    return piece


def check(tiny: bool) -> list[Agreement]:
    """Crops by the same boxes, and every operation of both signs, on PIL images."""
    images = pixels(8 if tiny else 64)
    levels, pictures = (
        torch.from_numpy(images).permute(0, 3, 1, 2).float(),
        [Image.fromarray(image) for image in images],
    )
    return [
        Agreement("crops, in grey levels", crops_differ(levels, pictures), 1),
        Agreement("operations, share of pixels", operations_differ(levels, pictures), 1e-3),
    ]


def crops_differ(levels: Tensor, pictures: list[Image.Image]) -> float:
    boxes = draw_boxes(Draws(0, torch.arange(len(pictures))), RandomCrop(p=1, flip=0), SIZE, SIZE)
    sides = zip(*(side.int().tolist() for side in (boxes.top, boxes.left, boxes.height, boxes.width)), strict=True)
    theirs = [F.resized_crop(picture, *box, [SIZE, SIZE]) for picture, box in zip(pictures, sides, strict=True)]
    return float((enlarge(levels, boxes) - torch.stack([F.pil_to_tensor(each) for each in theirs])).abs().max())


def operations_differ(levels: Tensor, pictures: list[Image.Image]) -> float:
    """The share of pixels that are not the same: where a place lies between two pixels either may be taken."""
    names = {name.replace("_", ""): i for i, name in enumerate(NAMES)}
    shares = []
    for name, (sizes, signed) in TorchvisionRandAugment()._augmentation_space(31, [SIZE, SIZE]).items():
        size, which = float(sizes[MAGNITUDE]) if sizes.ndim else 0.0, names[name.lower()]
        for sign in (1.0, -1.0) if signed else (1.0,):
            theirs = [_apply_op(picture, name, sign * size, F.InterpolationMode.NEAREST, None) for picture in pictures]
            every = torch.ones(len(pictures))
            mine = augment(levels, (which * every).long(), sign * every, MAGNITUDE / 30)
            shares.append((mine != torch.stack([F.pil_to_tensor(each) for each in theirs])).float().mean())
    return float(torch.stack(shares).mean())


ROW = Row(
    lines=(Line("random views of 32x32 images, one thread, beside torchvision on PIL images", must=3, go=5),),
    sides={"plain": plain, "ours": ours},
    check=check,
    amount=4096,
    slope=Slope("images", 4096, 40960),
)
