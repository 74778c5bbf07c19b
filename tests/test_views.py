"""Views: against plain numpy, the same bytes in any batch, the draws of the published recipe."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from diffprobe.config.latents import Crop, Identity, Mirror
from diffprobe.data import views
from diffprobe.data.views import apply, crop, expand


def pictures(n: int, size: int = 6, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, (n, size, size, channels), dtype=np.uint8)


def plain_crop(image: np.ndarray, top: int, left: int, flip: bool, pad: int, fill: str) -> np.ndarray:
    """Flip, pad, cut: as PIL-based pipelines do it, one image at a time."""
    image = image[:, ::-1] if flip else image
    mode = {"zero": "constant", "edge": "edge"}[fill]
    padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)), mode=mode)
    return padded[top : top + image.shape[0], left : left + image.shape[1]]


@settings(max_examples=60, deadline=None)
@given(data=st.data(), pad=st.integers(0, 5), size=st.integers(1, 6), fill=st.sampled_from(["zero", "edge"]))
def test_crop_is_flip_pad_cut(data, pad, size, fill):
    images = pictures(4, size)
    offsets = st.tuples(st.integers(0, 2 * pad), st.integers(0, 2 * pad), st.booleans())
    drawn = data.draw(st.lists(offsets, min_size=4, max_size=4))
    shift = torch.tensor([[top - pad, left - pad] for top, left, _ in drawn])
    crops = crop(torch.from_numpy(images), shift, torch.tensor([flip for *_, flip in drawn]), fill)
    expected = [plain_crop(image, *draw, pad, fill) for image, draw in zip(images, drawn, strict=True)]
    assert crops.dtype == torch.uint8
    assert np.array_equal(crops.numpy(), np.stack(expected))


@pytest.mark.parametrize("fill", ["zero", "edge"])
def test_every_crop_is_as_likely_as_any_other(fill):
    """Padding 1 and a flip: 3 x 3 x 2 outcomes, each a crop that numpy makes, each drawn one time in 18."""
    image = pictures(1)[0]
    images, rows = torch.from_numpy(np.repeat(image[None], 3600, axis=0)), torch.arange(3600)
    (view,) = expand([Crop(kind="crop", pad=1, fill=fill)])
    outcomes = [
        plain_crop(image, top, left, flip, 1, fill).tobytes()
        for top in range(3) for left in range(3) for flip in (False, True)
    ]  # fmt: skip
    assert len(set(outcomes)) == 18
    drawn = [outcomes.index(image_crop.numpy().tobytes()) for image_crop in apply(view, images, rows, seed=5)]
    assert stats.chisquare(np.bincount(drawn, minlength=18)).pvalue > 1e-3
    (never,) = expand([Crop(kind="crop", pad=1, fill=fill, flip=False)])
    drawn = [
        outcomes.index(image_crop.numpy().tobytes()) for image_crop in apply(never, images[:200], rows[:200], seed=5)
    ]
    assert set(drawn) == set(range(0, 18, 2))


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(st.integers(0, 2**40), min_size=2, max_size=12),
    cut=st.integers(0, 12),
    seed=st.integers(0, 2**31),
    number=st.integers(0, 4),
)
def test_an_image_looks_the_same_in_any_batch(rows, cut, seed, number):
    view = expand([Identity(kind="identity"), Mirror(kind="mirror"), Crop(kind="crop", count=3)])[number]
    images, keys = torch.from_numpy(pictures(len(rows))), torch.tensor(rows)
    whole = apply(view, images, keys, seed)
    parts = [apply(view, images[part], keys[part], seed) for part in (slice(None, cut), slice(cut, None))]
    assert torch.equal(whole, torch.cat(parts))
    assert torch.equal(whole.flip(0), apply(view, images.flip(0), keys.flip(0), seed))


def test_views_are_counted_and_draw_apart():
    views = expand([Identity(kind="identity"), Crop(kind="crop", count=3), Mirror(kind="mirror")])
    assert [(view["kind"], view["draw"]) for view in views] == [
        ("identity", 0), ("crop", 1), ("crop", 2), ("crop", 3), ("mirror", 4),
    ]  # fmt: skip
    assert views[1] == {"kind": "crop", "pad": 4, "flip": True, "fill": "zero", "draw": 1}
    images, rows = torch.from_numpy(pictures(50)), torch.arange(50)
    identity, *crops, mirror = (apply(view, images, rows, 0) for view in views)
    assert torch.equal(identity, images)
    assert np.array_equal(mirror.numpy(), images.numpy()[:, :, ::-1])
    crops.append(apply(views[1], images, rows, seed=1))
    same = [(a == b).all(dim=(1, 2, 3)).sum().item() for i, a in enumerate(crops) for b in crops[:i]]
    assert max(same) < 5  # of 50; one in 162 is expected to coincide


def test_views_are_made_where_the_images_are() -> None:
    """No tensor is left on the CPU when images are on another device: `meta` refuses what a GPU would."""
    images, rows = torch.zeros(4, 8, 8, 3, dtype=torch.uint8, device="meta"), torch.arange(4, device="meta")
    for view in expand([Identity(kind="identity"), Mirror(kind="mirror"), Crop(kind="crop")]):
        assert apply(view, images, rows, 0).device.type == "meta"


def test_labels_describe_what_views_did() -> None:
    """Undoing what the label describes restores an image that lost nothing at its border."""
    images = torch.zeros(64, 8, 8, 1, dtype=torch.uint8)
    images[:, 3:5, 2:5] = torch.randint(1, 255, (64, 2, 3, 1), dtype=torch.uint8)
    rows = torch.arange(64)
    several = expand([Identity(kind="identity"), Mirror(kind="mirror"), Crop(kind="crop", pad=2, count=2)])
    of_all = views.augment_labels(
        views.view_table(several).repeat_interleave(64, dim=0), rows.repeat(len(several)), 5
    ).split(64)
    for view, labels in zip(several, of_all, strict=True):
        assert labels.shape == (64, views.LABEL_DIM)
        if view["kind"] == "identity":
            assert not labels.any()
        for image, (down, right, flip), viewed in zip(
            images, labels.tolist(), apply(view, images, rows, 5), strict=True
        ):
            pad = view.get("pad", 1)
            back = torch.roll(viewed, (round(down * pad), round(right * pad)), dims=(0, 1))
            assert torch.equal(back.flip(1) if flip else back, image)
