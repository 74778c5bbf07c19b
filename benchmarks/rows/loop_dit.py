"""The training loop over the bare step: the demo's DiT (2.0M) on latents of digits, held in memory, at batch 32."""

import numpy as np

from benchmarks.loop import CPU, Loop, bare, check, ours
from benchmarks.row import Line, Row, Setting
from diffprobe.config.latents import Crop
from diffprobe.config.names import VIEW_LABEL
from diffprobe.data import views
from diffprobe.data.batch import Feed
from diffprobe.latents.completion import finish
from diffprobe.latents.parts import StorePlan, write_part
from diffprobe.latents.store import open_store
from diffprobe.training.latentstream import Budget, LatentStream, open_source

ROWS = 1437  # train and select of the digits


def latents(setting: Setting) -> Feed:
    """Moments (8, 8, 8) of one crop view, as the demo's job reads them: whole in memory."""
    path = setting.folder / "digits" / "latents.zarr"
    if not (path / "zarr.json").exists():
        plan = StorePlan(path, {}, 0, {"train": ROWS}, {"train": views.expand([Crop(kind="crop")])}, shard_chunks=16)
        for part in plan.parts:
            moments = np.random.default_rng(part.start).standard_normal((part.stop - part.start, 8, 8, 8), np.float32)
            write_part(plan, part, moments.astype(np.float16))
        numbers = {"train": np.arange(ROWS)}
        finish(plan, {"train": np.arange(ROWS) % 10}, numbers, "own", {"scale": 1.0, "shift": 0.0})
    store = open_store(path)
    source, _ = open_source(store, ["train"], 0, CPU, 2**26, Budget(0, 1e12), 32)
    return LatentStream(store, source, 0)


LOOP = Loop("digits_dit", {"image_channels": 4, "classes": 10, "augment": VIEW_LABEL}, batch=32, latents=latents)

ROW = Row(
    lines=(Line("loop over the bare step: the demo's DiT", must=5, go=2, figure="overhead", plain="ours_bare"),),
    sides={"ours_bare": bare(LOOP), "ours": ours(LOOP)},
    check=check(LOOP),
    amount=25,
    unit="steps/s",
    rounds=11,
    prepare=latents,
)
