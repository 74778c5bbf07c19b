"""Steps of the U-Net of DDPM_ddpm with 32 channels, 2.2M parameters, at batch 32."""

from benchmarks.row import Line, Row
from benchmarks.training import UNetStep, check, ours, plain

STEP = UNetStep("DDPM_ddpm", 32, ("network.channels=32",))

ROW = Row(
    lines=(Line("U-Net of 32 channels, step at batch 32", must=1.20, go=1.40),),
    sides={"plain": plain(STEP), "ours": ours(STEP)},
    check=check(STEP),
    amount=2,
    rounds=7,
)
