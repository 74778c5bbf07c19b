"""The training loop over the bare step: the demo's U-Net (1.4M) on digits at batch 32."""

from benchmarks.loop import Loop, bare, check, ours
from benchmarks.row import Line, Row

LOOP = Loop("digits_edm", {"image_channels": 1}, batch=32)

ROW = Row(
    lines=(Line("loop over the bare step: the demo's U-Net", must=5, go=2, figure="overhead", plain="ours_bare"),),
    sides={"ours_bare": bare(LOOP), "ours": ours(LOOP)},
    check=check(LOOP),
    amount=25,
    unit="steps/s",
    rounds=11,
)
