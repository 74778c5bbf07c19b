"""The training loop over the bare step: a U-Net of 8 channels on images of 8 pixels at batch 8."""

from benchmarks.loop import Loop, bare, check, ours
from benchmarks.row import Line, Row

LOOP = Loop("digits_edm", {"image_channels": 1}, batch=8, changes={"channels": 8})

ROW = Row(
    lines=(Line("loop over the bare step: a toy of 8 channels", must=10, go=2, figure="overhead", plain="ours_bare"),),
    sides={"ours_bare": bare(LOOP), "ours": ours(LOOP)},
    check=check(LOOP),
    amount=150,
    unit="steps/s",
    rounds=11,
)
