"""DDIM with 25 steps by the U-Net of DDPM_ddpm with 32 channels, 16 images at a time, to bytes."""

import torch
from torch import Tensor

from benchmarks.plain.sampling import DDIM
from benchmarks.plain.unet import PlainUNet, plain_unet
from benchmarks.recipes import Recipe, as_model, assemble, sampler_of
from benchmarks.row import Agreement, Piece, Row, Setting, Side, Slope
from benchmarks.training import CPU, TINY, UNetStep, lines, sides
from diffprobe.diffusion.build import Sampler
from diffprobe.evaluation.model import Model
from diffprobe.evaluation.sampling import draw
from diffprobe.runtime.keyed import Key, normal

STEPS, BATCH = 25, 16
SAMPLER = (f"samplers.exact.steps={STEPS}", "samplers.exact.precision=fp32")
NETWORK = UNetStep("DDPM_ddpm", 1, ("network.channels=32", *SAMPLER))


def both(recipe: Recipe) -> tuple[Model, Sampler, PlainUNet]:
    """Our model and sampler, and the plain network with the same weights."""
    task, _, shape = assemble(recipe, CPU)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in task.module.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    module = task.module.eval()
    return as_model(recipe, module, shape), sampler_of(recipe, "exact"), plain_unet(recipe["network"], module).eval()


def noise(rows: Tensor) -> Tensor:
    return normal(Key(0, "sample"), rows, (3, 32, 32))


def to_bytes(images: Tensor) -> Tensor:
    return (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1)


def ours(precision: str) -> Side:
    def build(setting: Setting) -> Piece:
        model, sampler, _ = both(NETWORK.read(f"samplers.exact.precision={precision}"))

        def piece() -> float:
            for rows in torch.arange(setting.amount).split(BATCH):
                draw(model, sampler, rows, 0).numpy()
            return setting.amount

        return piece

    return build


def plain(setting: Setting) -> Piece:
    _, _, network = both(NETWORK.read())
    sampler = DDIM(STEPS)

    def piece() -> float:
        for rows in torch.arange(setting.amount).split(BATCH):
            to_bytes(sampler.sample(network, torch.randn(len(rows), 3, 32, 32))).numpy()
        return setting.amount

    return piece


def check(tiny: bool) -> list[Agreement]:
    model, sampler, network = both(NETWORK.read(*(TINY if tiny else [])))
    rows = torch.arange(2)
    mine, other = draw(model, sampler, rows, 0), to_bytes(DDIM(STEPS).sample(network, noise(rows)))
    # Ours holds the state in float64, so that a value may be rounded to the neighbouring grey level.
    return [Agreement("images, in grey levels", float((mine.int() - other.int()).abs().max()), 1.0)]


ROW = Row(
    lines=lines("DDIM, 25 steps, U-Net of 32 channels, batch 16", must=1.35, go=1.6),
    sides=sides(plain, ours),
    check=check,
    amount=BATCH,
    slope=Slope("images", 16, 160),
)
