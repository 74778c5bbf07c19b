"""Steps of a class-conditional DiT-S/4 (33M parameters) on cached latents (4, 32, 32) at batch 8, as DiT is trained:
with a learned variance, by the hybrid loss.

Ours reads moments from a store and draws latents; the plain side reads a .npy file of a latent for every row, as
fast-DiT does.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from benchmarks.latents import MAPPED, WINDOW, store_of
from benchmarks.plain.dit import PlainDiT
from benchmarks.plain.hybrid import HybridLoss
from benchmarks.plain.training import PlainTraining, endless
from benchmarks.recipes import Recipe, assemble, changed, coded, process_of, recipes
from benchmarks.row import Agreement, Piece, Row, Setting, Side
from benchmarks.training import CPU, SAME, agreements, lines, share_weights, sides
from diffprobe.config import processes
from diffprobe.config.built import parse_network
from diffprobe.data.batch import Batch
from diffprobe.runtime.keyed import Draws
from diffprobe.training.latentstream import LatentStream, open_source
from diffprobe.training.loop import fresh, train

CLASSES, ROWS, BATCH = 1000, 512, 8
S4 = {"kind": "dit", "width": 384, "depth": 12, "heads": 6, "patch": 4, "conditional": True, "augment": False}
PROCESS = {"kind": "iddpm", "time_input": "index"}
TINY = {"width": 64, "depth": 2, "heads": 2}
CHANGES = ["train.optimizer=adamw", "train.lr=1.0e-4", f"train.batch={BATCH}"]
CHANGES += ["train.clip=null", "train.flip=false", *SAME]


def recipe_of(precision: str = "fp32", **network: object) -> Recipe:
    recipe = changed(recipes()["DDPM_ddpm"], [*CHANGES, f"train.precision={precision}"])
    kinds = {"network": coded(parse_network(S4 | network)), "process": process_of(processes.Process.member(PROCESS))}
    return recipe | kinds | {"image": [4, 32, 32], "classes": CLASSES}


def prepare(setting: Setting) -> None:
    """A store of moments, and their means as a file for each row."""
    latents = store_of(setting.folder, ROWS)
    (setting.folder / "features").mkdir()
    moments = latents.moments("train", 0, 0, ROWS)
    for i, row in enumerate(moments):
        np.save(setting.folder / "features" / f"{i}.npy", row[:4].astype(np.float32))
        np.save(setting.folder / "features" / f"{i}.label.npy", np.array(i % CLASSES))


class Features(Dataset):
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __len__(self) -> int:
        return ROWS

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        features, label = np.load(self.folder / f"{i}.npy"), np.load(self.folder / f"{i}.label.npy")
        return torch.from_numpy(features), torch.from_numpy(label)


def ours(precision: str) -> Side:
    def build(setting: Setting) -> Piece:
        recipe = recipe_of(precision)
        task, options, _ = assemble(recipe, CPU)
        state, latents = fresh(task, options), store_of(setting.folder, ROWS)
        source, _ = open_source(latents, ["train"], 0, CPU, WINDOW, MAPPED, BATCH)
        feed = LatentStream(latents, source, 0)

        def piece() -> float:
            train(task, feed, options, state, state.step + setting.amount, lambda _: None)
            return setting.amount * BATCH

        return piece

    return build


def plain(setting: Setting) -> Piece:
    trained, objective = plain_side(recipe_of())
    batches = endless(Features(setting.folder / "features"), BATCH)

    def loss() -> Tensor:
        x, labels = next(batches)
        return objective(trained.network, x, *objective.draw(x), labels)

    def piece() -> float:
        for _ in range(setting.amount):
            trained.step(loss)
        return setting.amount * BATCH

    return piece


def plain_side(recipe: Recipe) -> tuple[PlainTraining, HybridLoss]:
    network = recipe["network"]
    sizes = {name: network[name] for name in ("width", "depth", "heads", "patch")}
    module = PlainDiT(4, 32, **sizes, classes=CLASSES, dropout=network["label_dropout"], out_channels=8)
    return PlainTraining(module, 0.9999, None, adamw=True, lr=1e-4, weight_decay=0.0), HybridLoss()


def check(tiny: bool) -> list[Agreement]:
    recipe = recipe_of(label_dropout=0.0, **(TINY if tiny else {}))
    task, options, _ = assemble(recipe, CPU)
    trained, objective = plain_side(recipe)
    share_weights(task, trained)
    x, labels = torch.randn(2, 4, 32, 32, generator=torch.Generator().manual_seed(0)), torch.tensor([3, 999])
    draws = Draws(options.seed, torch.arange(2))
    t, noise = (draws.uniform("t") * 1000).long(), draws.normal("noise", (4, 32, 32))
    loss = task.losses(Batch(x, labels, draws.rows), draws)["loss"]
    return agreements(task, options, trained, loss, objective(trained.network, x, t, noise, labels))


ROW = Row(
    lines=lines("DiT-S/4 33M, step at batch 8", must=1.45, go=1.7),
    sides=sides(plain, ours),
    check=check,
    amount=2,
    rounds=7,
    prepare=prepare,
)
