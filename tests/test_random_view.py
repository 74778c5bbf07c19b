"""Random views: boxes and operations against torchvision's, image by image; draws against the published rates."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp
from test_step_on_gpu import META, Launches
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from diffprobe.config.views import RandAugment, RandomCrop, RandomView
from diffprobe.data import randaugment
from diffprobe.data.randaugment import NAMES, augment
from diffprobe.data.random_crop import Boxes, draw_boxes, enlarge, random_crop
from diffprobe.data.random_view import random_view
from diffprobe.runtime import keyed
from diffprobe.runtime.keyed import Draws

N = 10_000
CROP, VIEW = RandomCrop(), RandomView()
ALWAYS = RandomView(crop=RandomCrop(p=1), randaugment=RandAugment(p=1))
REFERENCE = v2.RandAugment()
TORCHVISION = {name.lower(): name for name in REFERENCE._AUGMENTATION_SPACE}  # its names, ours without underscores


def draws(n: int, seed: int = 3) -> Draws:
    return Draws(seed, torch.arange(n))


def levels(n: int, channels: int = 3, h: int = 16, w: int = 24) -> Tensor:
    """Grey levels (N, C, H, W): noise, of which every other image has few levels, and the first a single one."""
    generator = torch.Generator().manual_seed(n)
    drawn = torch.randint(256, (n, channels, h, w), generator=generator)
    drawn[::2] = 90 + drawn[::2] // 16
    drawn[0] = 77
    return drawn.float()


def images(n: int, channels: int = 3, h: int = 16, w: int = 24) -> Tensor:
    return levels(n, channels, h, w) / 127.5 - 1


@pytest.mark.parametrize("channels", [1, 3])
def test_a_crop_is_torchvisions(channels):
    """Exact in most pixels, else off by one level, since torchvision's weights have a few bits more than 11."""
    x = levels(200, channels)
    boxes = draw_boxes(draws(200), RandomCrop(scale=(0.02, 1), ratio=(0.3, 3)), 16, 24)
    expected = []
    for image, top, left, h, w, flip in zip(x, *vars(boxes).values(), strict=True):
        cut = F.resized_crop(image.byte(), int(top), int(left), int(h), int(w), [16, 24], antialias=True)
        expected.append(F.horizontal_flip(cut) if flip else cut)
    off = (enlarge(x, boxes) - torch.stack(expected)).abs()
    assert float(off.max()) <= 1 and float((off > 0).float().mean()) < 0.02
    assert len(boxes.height.unique()) > 10 and len(boxes.width.unique()) > 15


@pytest.mark.parametrize(
    "crop", [CROP, RandomCrop(scale=(0.6, 1), ratio=(1.5, 4)), RandomCrop(scale=(1, 1), ratio=(0.5, 0.6))]
)
def test_boxes_are_drawn_as_torchvision_draws_them(crop):
    """Usual ones, some of which need several tries; ones of which a third does not fit; the central one only."""
    boxes = draw_boxes(draws(N), crop.model_copy(update={"p": 1}), 32, 40)
    ours = torch.stack([boxes.top, boxes.left, boxes.height, boxes.width]).double().numpy()
    torch.manual_seed(1)
    image = torch.empty(3, 32, 40)
    make = v2.RandomResizedCrop((32, 40), crop.scale, crop.ratio).make_params
    made = [make([image]) for _ in range(N // 4)]
    theirs = np.array([[each[key] for each in made] for key in ("top", "left", "height", "width")])
    with_shapes = [(*box, box[2] * box[3], box[3] / box[2]) for box in (ours, theirs)]
    for mine, other in zip(*with_shapes, strict=True):
        assert ks_2samp(mine, other).pvalue > 1e-3
    assert (ours[:2] >= 0).all() and (ours[0] + ours[2] <= 32).all() and (ours[1] + ours[3] <= 40).all()


def test_crops_and_flips_have_the_published_rates_and_sizes():
    boxes = draw_boxes(draws(N), CROP, 224, 224)
    area, ratio = boxes.height * boxes.width / 224**2, boxes.width / boxes.height
    cropped = area < 1
    rate, flips = float(cropped.float().mean()), boxes.flip[cropped].float().mean()
    assert rate == pytest.approx(0.95, abs=0.009) and float(flips) == pytest.approx(0.5, abs=0.021)
    assert not boxes.flip[~cropped].any()
    area, ratio = area[cropped], ratio[cropped].log() / math.log(4 / 3)
    assert 0.078 < float(area.min()) < 0.09 and float(area.max()) > 0.98
    assert -1.03 < float(ratio.min()) < -0.97 and 0.97 < float(ratio.max()) < 1.03
    # Boxes of four fifths of the image and less always fit: uniform area, log-uniform ratio.
    small = (area < 0.7).nonzero()[:, 0]
    assert float(area[small].mean()) == pytest.approx(0.39, abs=0.01)
    assert float(ratio[small].mean()) == pytest.approx(0, abs=0.03)
    assert float(ratio[small].std()) == pytest.approx(1 / math.sqrt(3), abs=0.02)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("magnitude", [9, 25])
@pytest.mark.parametrize("name", NAMES)
def test_an_operation_is_torchvisions(name, magnitude, channels):
    """As on PIL images, to the bit; but that autocontrast may cut 255 to 254 there, and that places between two pixels
    are rounded otherwise. On tensors torchvision rounds brightness otherwise: one level.
    """
    x = levels(12, channels)
    sizes, signed = REFERENCE._AUGMENTATION_SPACE[TORCHVISION[name.replace("_", "")]]
    size = sizes(31, 16, 24)
    for sign in (1, -1):
        ours = augment(x, torch.full((12,), NAMES.index(name)), torch.full((12,), float(sign)), magnitude / 30)
        theirs, on_tensors = [], []
        for image in x.byte():
            amount = (sign if signed else 1) * float(size[magnitude]) if size is not None else 0.0
            arguments = TORCHVISION[name.replace("_", "")], amount, REFERENCE.interpolation, REFERENCE._fill
            apply = REFERENCE._apply_image_or_video_transform
            theirs.append(F.pil_to_tensor(apply(F.to_pil_image(image), *arguments)))
            on_tensors.append(apply(image, *arguments))
        off, off_tensors = ((ours - torch.stack(other)).abs() for other in (theirs, on_tensors))
        if name in randaugment.GEOMETRIC:
            assert float((off > 0).float().mean()) < 0.003 and float((off_tensors > 0).float().mean()) < 0.003
        else:
            assert float(off.max()) <= (name == "autocontrast") and float(off_tensors.max()) <= 1
        unchanged = name == "identity" or (name == "color" and channels == 1)
        assert torch.equal(ours, ours.round()) and unchanged == torch.equal(ours, x)


def test_operations_and_signs_have_the_published_rates(monkeypatch):
    made = []
    monkeypatch.setattr(randaugment, "augment", lambda x, *arguments: made.append(arguments) or x)
    randaugment.randaugment(torch.zeros(N, 1, 1, 1), draws(N), RandAugment())
    (first, sign, strength), (second, other, _) = made
    assert strength == 9 / 30 and len(NAMES) == 14
    for operation in (first, second):
        rates = operation.bincount(minlength=14) / N
        expected = torch.full((14,), 0.65 / 14)
        expected[NAMES.index("identity")] += 0.35
        assert ((rates - expected).abs() < 4 * (expected * (1 - expected) / N).sqrt()).all()
    both = (first * 14 + second)[(first > 0) & (second > 0)].bincount(minlength=196).view(14, 14)[1:, 1:].double()
    spread = (both - both.mean()).square().sum() / both.mean()  # chi-square of 168 degrees of freedom
    assert 168 - 4 * math.sqrt(336) < float(spread) < 168 + 4 * math.sqrt(336)
    for coin in (sign, other, sign * other):
        assert set(coin.tolist()) == {-1.0, 1.0} and abs(float(coin.mean())) < 0.04
    assert abs(float(sign[first == NAMES.index("rotate")].mean())) < 0.2
    corner = draw_boxes(draws(N), CROP, 32, 32)
    assert abs(float(torch.corrcoef(torch.stack([corner.flip.float(), sign]))[0, 1])) < 0.04


@settings(max_examples=15, deadline=None)
@given(
    rows=st.lists(st.integers(0, 2**40), min_size=2, max_size=32),
    channels=st.sampled_from([1, 3]),
    size=st.sampled_from([(8, 8), (16, 24), (33, 9)]),
)
def test_an_image_looks_the_same_in_any_batch(rows, channels, size):
    """And where a GPU or a compiler computes all operations of all images."""
    x, keys = images(len(rows), channels, *size), torch.tensor(rows)
    viewed = random_view(x, Draws(0, keys), ALWAYS)
    for i in range(len(rows)):
        assert torch.equal(random_view(x[i : i + 1], Draws(0, keys[i : i + 1]), ALWAYS)[0], viewed[i])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(randaugment, "can_count", lambda _: False)
        assert torch.equal(random_view(x, Draws(0, keys), ALWAYS), viewed)
    assert float(viewed.abs().max()) <= 1 and torch.equal(((viewed + 1) * 127.5).round() / 127.5 - 1, viewed)


def test_what_is_not_drawn_changes_nothing():
    x = images(400).contiguous(memory_format=torch.channels_last)
    nothing = RandomView(crop=RandomCrop(p=0), randaugment=RandAugment(p=0))
    for view in (nothing, RandomView(crop=None, randaugment=None)):
        same = random_view(x, draws(400), view)
        assert torch.equal(same, x) and same.is_contiguous(memory_format=torch.channels_last)
    untouched = (random_view(x, draws(400), VIEW) == x).flatten(1).all(1)
    assert 0.01 < float(untouched[1:].float().mean()) < 0.1  # 0.05 by 0.35, and RandAugment's identities
    cropped = RandomView(randaugment=None)
    whole = Boxes(*torch.zeros(2, 400), *torch.tensor([[16.0], [24.0]]).expand(2, 400), torch.ones(400).bool())
    assert torch.equal(enlarge(levels(400), whole), levels(400).flip(3))
    expected = random_crop(levels(400), draws(400), CROP) / 127.5 - 1
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(random_view(x, draws(400), cropped), expected)
    assert random_view(x.bfloat16(), draws(400), VIEW).dtype == torch.bfloat16


def test_operators_do_not_grow_with_the_batch_and_a_gpu_is_not_waited_for(monkeypatch):
    counts: dict[torch.device, list[int]] = {}
    for device in (torch.device("cpu"), META):
        monkeypatch.setattr(keyed, "has_fused", lambda device: True)
        if device == META:
            monkeypatch.setattr(torch, "autocast", lambda *_, **__: torch.inference_mode())
        for batch in (8, 64):
            x, rows = images(batch).to(device), torch.arange(batch).to(device)
            random_view(x, Draws(0, rows), ALWAYS)  # makes tables
            with Launches() as launches:
                random_view(x, Draws(0, rows), ALWAYS)
            counts.setdefault(device, []).append(launches.counts.total())
        assert device.type == "cpu" or launches.transfers == []
    assert all(few == many for few, many in counts.values()), counts
    assert max(counts[META]) < 360, counts
