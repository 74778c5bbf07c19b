"""The grid over 12 taps of DDPM_ddpm's U-Net with 32 channels at one level, beside the published procedure.

Ours computes V copies of the images' features once, and fits the heads of all taps and rates as one problem. The
published procedure runs once for each rate: it is timed for one, and counted five times for five.
"""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from benchmarks import probe
from benchmarks.plain.grid import Hooks, published_level
from benchmarks.plain.unet import PlainUNet, plain_unet
from benchmarks.recipes import assemble
from benchmarks.row import Agreement, Line, Piece, Row, Setting, Slope
from benchmarks.training import CPU, TINY, UNetStep
from diffprobe.diffusion.levels import Level

COPIES, LR = 4, 1e-3
RATES = [LR / 4, LR / 2, LR, 2 * LR, 4 * LR]
TRAIN, TEST, CLASSES = 256, 64, 10
NETWORK = UNetStep("DDPM_ddpm", 1, ("network.channels=32",))


def both(levels: int, *changes: str) -> tuple[probe.Setup, PlainUNet]:
    """Our network, process and images, at so many levels; the plain network with the same weights."""
    recipe = NETWORK.read(*changes)
    task, _, _ = assemble(recipe, CPU)
    module = task.module.eval().requires_grad_(False)
    plain = plain_unet(recipe["network"], module).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (TRAIN + TEST, 32, 32, 3), dtype=torch.uint8, generator=generator)
    labels = torch.arange(TRAIN + TEST) % CLASSES
    parts = [images[:TRAIN], images[TRAIN:], labels[:TRAIN], labels[TRAIN:]]
    at = [task.process.at(1 + 10 * i) for i in range(1, levels + 1)]
    taps = [tap for tap in module.taps if tap.startswith("out_")]
    return probe.Setup(module, task.process, taps, at, *parts, CPU, False), plain


def plain_features(hooks: Hooks, level: Level) -> Callable[[Tensor], list[Tensor]]:
    def see(x: Tensor) -> list[Tensor]:
        noisy = level.alpha * x + level.sigma * torch.randn_like(x)
        return hooks.features(noisy, torch.full((len(x),), level.c_noise))

    return see


def plain(setting: Setting) -> Piece:
    setup, network = both(setting.amount)
    hooks = Hooks(network, network.decoder)
    images = (setup.train, setup.labels, setup.test, setup.truth)

    def piece() -> float:
        for level in setup.levels:
            published_level(plain_features(hooks, level), *images, LR)
        return setting.amount

    return piece


def ours(rates: Sequence[float]) -> Callable[[Setting], Piece]:
    def build(setting: Setting) -> Piece:
        setup, _ = both(setting.amount)

        def piece() -> float:
            with tempfile.TemporaryDirectory(dir=setting.folder) as folder:
                probe.ours(setup, COPIES, list(rates), Path(folder))
            return setting.amount

        # Imports and the first allocations are no part of it.
        small = setup._replace(train=setup.train[:32], labels=setup.labels[:32], levels=setup.levels[:1])
        with tempfile.TemporaryDirectory(dir=setting.folder) as folder:
            probe.ours(small, 1, list(rates), Path(folder))
        return piece

    return build


def check(tiny: bool) -> list[Agreement]:
    """Features at every tap of the same noisy images; heads are fitted on random draws of their own."""
    setup, network = both(1, *(TINY if tiny else []))
    noisy, level = torch.randn(2, 3, 32, 32), setup.levels[0]
    other = Hooks(network, network.decoder).features(noisy, torch.full((2,), level.c_noise))
    denoised = setup.process.denoise(setup.network, noisy, level.of(noisy), taps=setup.taps)
    mine = [denoised.activations[tap].mean(dim=(2, 3)) for tap in setup.taps]
    worst = max(float((a - b).norm() / b.norm()) for a, b in zip(mine, other, strict=True))
    return [Agreement("features of all taps", worst, 1e-4)]


ROW = Row(
    lines=(
        Line("grid of 12 taps, V = 4", must=6, go=8),
        Line("grid of 12 taps, V = 4, five rates", must=25, go=35, ours="ours_rates", factor=len(RATES)),
    ),
    sides={"plain": plain, "ours": ours([LR]), "ours_rates": ours(RATES)},
    check=check,
    amount=1,
    unit="levels/s",
    rounds=2,
    warm=False,
    slope=Slope("levels of 12 taps", 1, 10),
)
