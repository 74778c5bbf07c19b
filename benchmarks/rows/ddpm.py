"""Steps of DDAE's DDPM_ddpm, the U-Net of DDPM with 35.7M parameters, at batch 8."""

from functools import partial

from benchmarks.row import Row
from benchmarks.training import UNetStep, check, lines, ours, plain, sides

STEP = UNetStep("DDPM_ddpm", 8)

ROW = Row(
    lines=lines("DDPM_ddpm 35.7M, step at batch 8", must=1.10, go=1.30),
    sides=sides(plain(STEP), partial(ours, STEP)),
    check=check(STEP),
    amount=1,
    rounds=5,
)
