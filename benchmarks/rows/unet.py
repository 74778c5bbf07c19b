"""Steps of the U-Net of DDPM_ddpm with 32 channels, 2.2M parameters, at batch 32."""

from functools import partial

from benchmarks.row import Row
from benchmarks.training import UNetStep, check, lines, ours, plain, sides

STEP = UNetStep("DDPM_ddpm", 32, ("network.channels=32",))

ROW = Row(
    lines=lines("U-Net of 32 channels, step at batch 32", must=1.20, go=1.40),
    sides=sides(plain(STEP), partial(ours, STEP)),
    check=check(STEP),
    amount=2,
    rounds=7,
)
