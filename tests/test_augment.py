"""Augmentation: the filter against its definition, pictures against formulas, draws against the published rates."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from diffprobe.data import augment
from diffprobe.data.augment import Transforms, draw_transforms, edm, random_flip, warp
from diffprobe.runtime.keyed import Draws

TAPS = torch.tensor(augment.SYM6, dtype=torch.float64)
LAG = 5.5 - float(TAPS @ torch.arange(12.0, dtype=torch.float64) / TAPS.sum())  # of the filter, in half pixels
# The point that all turns about, in pixels right of and below the image's centre: the paper's code moves the origin
# back by half a sample of the doubled image.
CENTRE = LAG / 2 - 0.25


def draws(n: int, seed: int = 3) -> Draws:
    return Draws(seed, torch.arange(n))


def noise(n: int, h: int = 16, w: int = 16) -> Tensor:
    """White noise, (N, 3, H, W) in [-1, 1]."""
    return 2 * torch.rand(n, 3, h, w, generator=torch.Generator().manual_seed(n)) - 1


def transforms(**made: float) -> Transforms:
    """The transforms of one image; those not named are not applied."""
    fields = {name: torch.tensor([made.get(name, 0.0)]) for name in Transforms.__dataclass_fields__}
    return Transforms(**{**fields, "flip_x": fields["flip_x"] > 0, "flip_y": fields["flip_y"] > 0})


def centred(h: int, w: int) -> tuple[Tensor, Tensor]:
    """x (W,) and y (H, 1) of pixels from the centre, float64."""
    x, y = (torch.arange(n, dtype=torch.float64) - (n - 1) / 2 for n in (w, h))
    return x, y[:, None]


def test_filter_is_the_wavelet():
    """Of sum sqrt 2, orthonormal to its even shifts, and its mirror filter has six vanishing moments, not seven."""
    assert float(TAPS.sum()) == pytest.approx(math.sqrt(2), abs=1e-12)
    shifted = [float(TAPS[2 * s :] @ TAPS[: 12 - 2 * s]) for s in range(6)]
    assert shifted == pytest.approx([1, 0, 0, 0, 0, 0], abs=1e-11)
    k = torch.arange(12, dtype=torch.float64) - 5.5
    mirror = TAPS.flip(0) * (-1.0) ** torch.arange(12)
    moments = [float(mirror @ k**m / (mirror.abs() @ k.abs() ** m)) for m in range(7)]
    assert moments[:6] == pytest.approx([0] * 6, abs=1e-10)
    assert abs(moments[6]) > 0.01


@pytest.mark.parametrize(("h", "w"), [(32, 32), (16, 24), (5, 4)])
def test_an_identity_changes_nothing(h, w):
    x = noise(4, h, w)
    assert all(torch.allclose(warp(image, transforms().inverse(h, w)), image, atol=3e-5) for image in x.split(1))


@settings(max_examples=30, deadline=None)
@given(right=st.integers(-15, 15), down=st.integers(-11, 11))
def test_shifts_by_whole_pixels_show_reflections(right, down):
    """Right and down for positive numbers; the border is not doubled, and there is nothing beyond the reflections."""
    h, w = 12, 16
    x = noise(1, h, w)
    made = transforms(shift_x=right / w / augment.SHIFT, shift_y=down / h / augment.SHIFT)
    shifted = warp(x, made.inverse(h, w))
    columns, rows = torch.arange(w) - right, torch.arange(h) - down
    columns, rows = w - 1 - (w - 1 - columns.abs()).abs(), h - 1 - (h - 1 - rows.abs()).abs()
    expected = x[:, :, rows][:, :, :, columns]
    # At the far end of the reflections the filter, which reaches three pixels, sees the zeros beyond.
    near = (
        slice(max(0, down - h + 4), h + min(0, down + h - 4)),
        slice(max(0, right - w + 4), w + min(0, right + w - 4)),
    )
    assert torch.allclose(shifted[..., *near], expected[..., *near], atol=3e-5)
    assert not warp(x, transforms(shift_x=math.copysign(2.4 / augment.SHIFT, right)).inverse(h, w)).any()


def test_transforms_do_what_their_names_say():
    """Scale and anisotropy enlarge a blob, the latter along its axis; rotation is counter-clockwise, like rot90."""
    x, y = centred(32, 32)

    def blob(right: float, down: float, wide: float, high: float) -> Tensor:
        u, v = (x - CENTRE - right) / wide, (y - CENTRE - down) / high
        return torch.exp(-(u**2 + v**2) / 2).float()[None, None]

    def warped(image: Tensor, **made: float) -> Tensor:
        return warp(image, transforms(**made).inverse(32, 32))

    def close(actual: Tensor, expected: Tensor, atol: float = 0.01) -> bool:
        inner = (..., slice(8, 24), slice(8, 24))  # where no reflection is warped
        return torch.allclose(actual[inner], expected[inner], atol=atol)

    double, middle = 1 / augment.LOG2_SCALE, blob(0, 0, 3, 3)
    assert close(warped(middle, scale=double), blob(0, 0, 6, 6))
    assert close(warped(middle, anisotropy=double), blob(0, 0, 6, 1.5), 0.02)
    assert close(warped(middle, anisotropy=double, axis=math.pi / 2), blob(0, 0, 1.5, 6), 0.02)
    diagonal = warped(middle, anisotropy=double, axis=math.pi / 4)[0, 0]  # from bottom left to top right
    assert diagonal[10:14, 18:22].sum() > 10 * diagonal[10:14, 10:14].sum()
    assert close(warped(blob(6, -2, 4, 2), rotation=math.pi / 2), blob(-2, -6, 2, 4))
    smooth = blob(5, -4, 24, 16)
    assert close(warped(smooth, rotation=math.pi / 2), torch.rot90(smooth, 1, (2, 3)), 0.02)


signed = st.floats(-1.5, 1.5)
angle = st.floats(-math.pi, math.pi)


@settings(max_examples=40, deadline=None)
@given(scale=signed, rotation=angle, anisotropy=signed, axis=angle, shift_x=signed, shift_y=signed)
def test_combined_transforms_sample_the_right_places(scale, rotation, anisotropy, axis, shift_x, shift_y):
    """Cosines that reflect into themselves, so that the padded picture has a formula; points moved one by one."""
    h, w = 32, 40
    made = transforms(
        scale=scale, rotation=rotation, anisotropy=anisotropy, axis=axis, shift_x=shift_x, shift_y=shift_y
    )

    def cosines(point: Tensor) -> Tensor:
        u, v = math.pi * ((point.real / (w - 1)) + 0.5), math.pi * ((point.imag / (h - 1)) + 0.5)
        return 0.5 * torch.cos(u) + 0.3 * torch.cos(2 * v) + 0.2 * torch.cos(3 * u) * torch.cos(v)

    def forward(point: Tensor) -> Tensor:
        """Where a point x + iy of the picture goes; exp(-i angle) is counter-clockwise as y is down."""
        point = point * 2 ** (0.2 * scale) * complex(math.cos(rotation), -math.sin(rotation))
        along = point * complex(math.cos(axis), math.sin(axis))  # the axis laid on x
        along = torch.complex(along.real * 2 ** (0.2 * anisotropy), along.imag / 2 ** (0.2 * anisotropy))
        return along * complex(math.cos(axis), -math.sin(axis)) + complex(0.125 * w * shift_x, 0.125 * h * shift_y)

    # The forward map is affine: solved for the points that land on the pixels.
    origin, right, down = forward(torch.tensor([0, 1, 1j], dtype=torch.complex128))
    right, down = right - origin, down - origin
    x, y = centred(h, w)
    centre = complex(CENTRE, CENTRE)
    landed = torch.complex(*torch.broadcast_tensors(x, y)) - centre - origin
    area = right.real * down.imag - right.imag * down.real
    source = torch.complex(
        (landed.real * down.imag - landed.imag * down.real) / area,
        (right.real * landed.imag - right.imag * landed.real) / area,
    )
    padded = (source.real.abs() < 1.5 * w - 6) & (source.imag.abs() < 1.5 * h - 6)
    image = cosines(torch.complex(*torch.broadcast_tensors(x, y))).float()[None, None]
    actual = warp(image, made.inverse(h, w))[0, 0]
    assert torch.allclose(actual[padded].double(), cosines(source + centre)[padded], atol=5e-3)


def doubled(x: Tensor) -> Tensor:
    """The last axis (.., N) at twice the resolution (.., 2N), by definition: zeros between samples, then the filter, of
    gain 2, so that sample k contributes to 2k - 5 .. 2k + 6.
    """
    n = x.shape[-1]
    out = torch.zeros(*x.shape[:-1], 2 * n + 12, dtype=torch.float64)
    for k in range(n):
        for tap, weight in enumerate(TAPS):
            out[..., 2 * k + tap] += math.sqrt(2) * weight * x[..., k]  # entry i is sample i - 5
    return out[..., 5 : 5 + 2 * n]


def halved(samples: Tensor, first: int, n: int) -> Tensor:
    """The inverse of `doubled`: pixels 0 .. n - 1 from samples of which the first has the number `first`."""
    starts = [2 * k - 5 - first for k in range(n)]
    return torch.stack([samples[..., start : start + 12] @ TAPS / math.sqrt(2) for start in starts], -1)


def reference(image: Tensor, made: Transforms, i: int) -> Tensor:
    """EDM's augmentation of one image (C, N, N), float64, as in Karras et al. 2020, appendix B, and 2022, appendix F.2:
    each transform a 3 x 3 matrix about the centre of the image, in pixels; a sample of the warped, doubled image is
    read at one point of the doubled image, of which the map is the pixels' with a scale of 2 and half a sample around.
    """
    n = image.shape[-1]
    angle, axis = float(made.rotation[i]), float(made.axis[i])
    zoom, stretch = 2 ** (0.2 * float(made.scale[i])), 2 ** (0.2 * float(made.anisotropy[i]))

    def matrix(a: float, b: float, c: float, d: float, e: float = 0, f: float = 0) -> Tensor:
        return torch.tensor([[a, b, e], [c, d, f], [0, 0, 1]], dtype=torch.float64)

    def turn(a: float) -> Tensor:
        return matrix(math.cos(a), math.sin(a), -math.sin(a), math.cos(a))

    # Flips, scale, rotation, stretch along an axis, shift: the first is applied first.
    forward = matrix(-1 if made.flip_x[i] else 1, 0, 0, -1 if made.flip_y[i] else 1)
    pixels = matrix(zoom, 0, 0, zoom)
    pixels = turn(axis) @ matrix(stretch, 0, 0, 1 / stretch) @ turn(-axis) @ turn(angle) @ pixels
    pixels = matrix(1, 0, 0, 1, n / 8 * float(made.shift_x[i]), n / 8 * float(made.shift_y[i])) @ pixels
    # Flips are of the pixels, exactly: they are no part of the filtered path.
    image = image.flip(2) if forward[0, 0] < 0 else image
    image = image.flip(1) if forward[1, 1] < 0 else image
    half, double = matrix(1, 0, 0, 1, -0.5, -0.5), matrix(2, 0, 0, 2)
    samples = half @ double @ pixels @ double.inverse() @ half.inverse()
    inverse = samples.inverse()

    row = torch.tensor([*range(n - 1, 0, -1), *range(n), *range(n - 2, -1, -1)])  # reflected, the border not doubled
    fine = doubled(doubled(image.double()[:, row][:, :, row]).mT).mT
    middle = (fine.shape[-1] - 1) / 2  # the number of the sample at the centre
    numbers = range(-5, 2 * n + 5)
    warped = torch.zeros(len(image), len(numbers), len(numbers), dtype=torch.float64)
    for down, row_number in enumerate(numbers):
        for right, column_number in enumerate(numbers):
            at = torch.tensor([column_number - (2 * n - 1) / 2, row_number - (2 * n - 1) / 2, 1], dtype=torch.float64)
            u, v, _ = (inverse @ at + middle).tolist()
            for x in (math.floor(u), math.floor(u) + 1):
                for y in (math.floor(v), math.floor(v) + 1):
                    if 0 <= x < fine.shape[-1] and 0 <= y < fine.shape[-1]:
                        warped[:, down, right] += (1 - abs(u - x)) * (1 - abs(v - y)) * fine[:, y, x]
    return halved(halved(warped, -5, n).mT, -5, n).mT


def test_all_transforms_are_those_of_the_paper():
    """Five images of noise, all transforms with given draws, against the paper's definition in float64."""
    signs = torch.tensor([1, 0, 1, 0, 1]).bool()
    given = torch.tensor([
        [0.7, -1.9, 1.3, 0.4, 0.5, -0.8], [-1.1, 0.6, -0.9, -2.2, 1.4, 0.3], [0.2, 3.0, 2.1, 1.1, -0.4, -1.2],
        [1.6, -0.5, 0.3, 2.9, -1.7, 0.9], [-0.4, 2.2, -1.8, -0.7, 0.1, 1.9],
    ])  # fmt: skip
    scale, rotation, anisotropy, axis, shift_x, shift_y = given.unbind(1)
    made = Transforms(signs, signs.roll(1), scale, rotation, anisotropy, axis, shift_x, shift_y)
    x = noise(5, 12, 12)
    actual = warp(augment.flip(x, made), made.inverse(12, 12)).double()
    expected = torch.stack([reference(x[i], made, i) for i in range(5)])
    assert float((actual - expected).abs().max()) < 2e-5


def test_half_a_turn_moves_the_middle_by_a_tenth_of_a_pixel():
    """The fixed point of the paper's code, 0.05 pixels left of and above the centre: not 0.2 right and below."""
    x, y = centred(32, 32)
    blob = torch.exp(-(x**2 + y**2) / 18).float()[None, None]
    turned = warp(blob, transforms(rotation=math.pi).inverse(32, 32))[0, 0].double()
    centre = [float((turned * along).sum() / turned.sum()) for along in torch.broadcast_tensors(x, y)]
    assert centre == pytest.approx([-0.1, -0.1], abs=0.01)


def test_flips_are_exact_and_come_first():
    x = noise(400, 8, 8)
    augmented, label = edm(x, draws(400), p=0)
    assert torch.equal(label[:, 1:], torch.zeros(400, 8))
    assert torch.allclose(augmented, torch.where(label[:, 0].bool()[:, None, None, None], x.flip(3), x), atol=3e-5)
    assert torch.equal(augment.flip(x[:1], transforms(flip_x=1, flip_y=1)), x[:1].flip(2, 3))
    augmented, label = edm(x, draws(400), p=1)
    made = draw_transforms(draws(400), 1)
    straight = x.flip(3).where(made.flip_x[:, None, None, None], x)
    straight = straight.flip(2).where(made.flip_y[:, None, None, None], straight)
    assert torch.equal(augmented, warp(straight, made.inverse(8, 8)))
    assert torch.equal(label[:, :2], torch.stack([made.flip_x, made.flip_y], 1).float())


def test_draws_have_the_published_rates_and_spreads():
    n = 20_000
    made = draw_transforms(draws(n), 0.12)
    label = made.label()
    assert label.shape == (n, augment.LABEL_DIM) and label.dtype == torch.float32
    rates = torch.tensor([0.5, 0.06, 0.12, 0.12, 0.12, 0.12, 0.06, 0.12, 0.12], dtype=torch.float64)
    within = 4 * (rates * (1 - rates) / n).sqrt()
    assert ((label != 0).double().mean(0) - rates).abs().le(within).all()
    moved = (label[:, 1:] != 0).any(1).double().mean()
    assert float(moved) == pytest.approx(1 - 0.94 * 0.88**4, abs=0.014)  # the gates are independent
    assert torch.equal(label[:, 7] != 0, label[:, 8] != 0)  # one gate shifts both ways
    for sizes in (made.scale, made.anisotropy, made.shift_x, made.shift_y):
        sizes = sizes[sizes != 0]
        assert abs(float(sizes.mean())) < 0.08 and float(sizes.std()) == pytest.approx(1, abs=0.06)
    for angles in (made.rotation, made.axis):
        spread = (angles[angles != 0].sort().values / math.pi + 1) / 2
        assert float((spread - torch.linspace(0, 1, len(spread))).abs().max()) < 2 / math.sqrt(len(spread))
    together = torch.corrcoef(
        torch.stack([made.scale, made.anisotropy, made.shift_x, made.shift_y, made.rotation, made.axis])
    )
    # Where a gate is shared both are zero together: the products' variance is 1 / 0.12, and not 1.
    assert float((together - torch.eye(6)).abs().max()) < 4 / math.sqrt(0.12 * n)


def test_label_is_what_was_drawn():
    made = transforms(flip_y=1, scale=-0.5, rotation=2.0, anisotropy=1.5, axis=-1.0, shift_x=0.25, shift_y=-2.0)
    expected = [0, 1, -0.5, math.cos(2) - 1, math.sin(2), 1.5 * math.cos(1), -1.5 * math.sin(1), 0.25, -2]
    assert made.label()[0].tolist() == pytest.approx(expected, abs=1e-6)


@settings(max_examples=10, deadline=None)
@given(rows=st.lists(st.integers(0, 2**40), min_size=2, max_size=64), seed=st.integers(0, 2**31), p=st.floats(0, 1))
def test_an_image_looks_the_same_in_any_batch(rows, seed, p):
    x, keys = noise(len(rows), 8, 8), torch.tensor(rows)
    augmented, label = edm(x, Draws(seed, keys), p)
    for i in range(len(rows)):
        alone, its_label = edm(x[i : i + 1], Draws(seed, keys[i : i + 1]), p)
        assert torch.allclose(alone[0], augmented[i], atol=1e-5)
        assert torch.allclose(its_label[0], label[i], atol=1e-6)
    again, same = edm(x, Draws(seed, keys), p)
    assert torch.equal(again, augmented) and torch.equal(same, label)


@pytest.mark.parametrize("memory", [torch.channels_last, torch.contiguous_format])
def test_layout_and_type_are_kept(memory):
    x = noise(5).contiguous(memory_format=memory)
    for augmented in (edm(x, draws(5), 1)[0], random_flip(x, draws(5))):
        assert augmented.is_contiguous(memory_format=memory) and augmented.shape == x.shape
    exact, label = edm(x, draws(5), 1)
    with torch.autocast("cpu", torch.bfloat16):
        same, its_label = edm(x, draws(5), 1)
        half, _ = edm(x.bfloat16(), draws(5), 1)
    assert torch.equal(same, exact) and torch.equal(its_label, label)
    assert half.dtype == torch.bfloat16 and torch.allclose(half.float(), exact, atol=0.03)


def test_plain_flip_is_a_fair_coin():
    x = noise(4000, 2, 2)
    augmented = random_flip(x, draws(4000))
    turned = (augmented == x.flip(3)).flatten(1).all(1)
    assert torch.equal(augmented, torch.where(turned[:, None, None, None], x.flip(3), x))
    assert float(turned.float().mean()) == pytest.approx(0.5, abs=0.032)
    assert torch.equal(augmented, random_flip(x, draws(4000)))
    _, label = edm(x, draws(4000), p=0)  # EDM's coin is another one
    assert float((label[:, 0].bool() == turned).float().mean()) == pytest.approx(0.5, abs=0.032)
