"""Steps of DDAE's EDM_ddpmpp_aug, DDPM++'s U-Net with 56.5M parameters, with EDM's augmentation, at batch 2."""

from functools import partial

from benchmarks.row import Row
from benchmarks.training import UNetStep, check, lines, ours, plain, sides

STEP = UNetStep("EDM_ddpmpp_aug", 2)

ROW = Row(
    lines=lines("EDM_ddpmpp_aug 56.5M, step at batch 2", must=1.10, go=1.30),
    sides=sides(plain(STEP), partial(ours, STEP)),
    check=check(STEP),
    amount=1,
    rounds=5,
)
