"""Images per second of training a recipe of config/ddae.yaml or soda.yaml, or of sampling with it, on GPU or CPU.

    python -m benchmarks.throughput DDPM_ddpm --peer 2070
    python -m benchmarks.throughput DDPM_ddpm --sampler published --images 1024 --peer 83
    python -m benchmarks.throughput --write-plan results/plan.json    # for a machine without pydantic: --plan FILE

Random images, resident on the device; the workflow's own loop, stream, augmentation, averages and optimiser, with
fresh weights. By default the batch is one GPU's share in DDAE's runs. Eager first, then compiled (`--modes`). Prints
rows for docs/BENCHMARKS.md. TFLOP/s count the network's multiplications (2 per multiply-add), not the optimiser's.
"""

import argparse
import json
import time
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import Any

import torch

from benchmarks.recipes import (
    SHARE,
    Recipe,
    as_model,
    assemble,
    changed,
    device,
    device_name,
    recipes,
    sampler_of,
    work,
)
from diffprobe.evaluation.sampling import draw, evaluations
from diffprobe.networks.compiled import compiled
from diffprobe.training.loop import fresh, train
from diffprobe.training.stream import Stream

HEAD = "| job | device | arithmetic | batch | mode | images/s | TFLOP/s | peak GiB | first s | peer, images/s | times |"
MODES = {"eager": "never", "compiled": "always", "graphs": "graphs"}  # as `train.compile` names them
IMAGES = 50_000  # as many as CIFAR-10 has


def main() -> None:
    parser = argparse.ArgumentParser(description="Images per second of training or sampling by a recipe.")
    parser.add_argument("recipe", nargs="?", default="DDPM_ddpm")
    parser.add_argument("--batch", type=int, help="images per step (default: one GPU's share, 128 or 64)")
    parser.add_argument("--seconds", type=float, default=20, help="of measuring, after the first steps")
    parser.add_argument("--modes", nargs="+", choices=MODES, help="default: eager and compiled on a GPU, else eager")
    parser.add_argument("--sampler", help="measure this sampler of the recipe in place of training")
    parser.add_argument("--images", type=int, default=512, help="images to draw, in whole batches of 256 or --batch")
    parser.add_argument("--peer", type=float, help="images per second of the peer, for the row")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="such as network.channels=32")
    parser.add_argument("--plan", type=Path, help="recipes as --write-plan wrote them")
    parser.add_argument("--write-plan", type=Path, help="only write the recipes with all their defaults")
    arguments = parser.parse_args()
    plan = recipes(arguments.plan)
    if arguments.write_plan:
        arguments.write_plan.parent.mkdir(parents=True, exist_ok=True)
        arguments.write_plan.write_text(json.dumps(plan))
        return
    recipe, where = changed(plan[arguments.recipe], arguments.set), device()
    print(f"{HEAD}\n|{'---|' * (HEAD.count('|') - 1)}", flush=True)
    for mode in arguments.modes or (["eager", "compiled"] if where.type == "cuda" else ["eager"]):
        measure = sampling if arguments.sampler else training
        print(measure(arguments, recipe, where, mode), flush=True)


def training(arguments: argparse.Namespace, recipe: Recipe, where: torch.device, mode: str) -> str:
    """Steps of the training loop for so many seconds, after the first ones and their compilation."""
    batch = arguments.batch or SHARE[recipe["network"]["resample"]]
    recipe = changed(recipe, [f"train.batch={batch}"])
    begin(where)
    task, options, _ = assemble(recipe, where)
    task.compile(where, 0, MODES[mode])
    stream, state = random_stream(recipe, where), fresh(task, options)
    begun = time.perf_counter()
    train(task, stream, options, state, 3, lambda _: None)
    first = time.perf_counter() - begun
    train(task, stream, options, state, 3 + options.tick, lambda _: None)  # clocks and allocator settle
    done, begun = state.step, time.perf_counter()
    while time.perf_counter() - begun < arguments.seconds:  # the end of each call waits for the device
        train(task, stream, options, state, state.step + options.tick, lambda _: None)
    rate = (state.step - done) * batch / (time.perf_counter() - begun)
    arithmetic = "bf16" if options.bf16 else "fp32"
    return row(arguments, "training", where, arithmetic, batch, mode, rate, task.image_flops(), first)


def sampling(arguments: argparse.Namespace, recipe: Recipe, where: torch.device, mode: str) -> str:
    """Whole batches, drawn and copied to the host as bytes; the first one is not counted."""
    batch = arguments.batch or min(256, arguments.images)
    begin(where)
    task, _, shape = assemble(recipe, where)
    network = compiled(task.module.eval(), where, 0, MODES[mode])
    model, sampler = as_model(recipe, network, shape), sampler_of(recipe, arguments.sampler)

    def batches(count: int) -> float:
        begun = time.perf_counter()
        for i in range(count):
            draw(model, sampler, torch.arange(i * batch, (i + 1) * batch, device=where), 0).cpu()
        return time.perf_counter() - begun

    first, count = batches(1), max(1, arguments.images // batch)
    rate = count * batch / batches(count)
    each = evaluations(sampler) * work(recipe, shape)[1]
    name = f"{arguments.sampler}, {sampler.settings.kind} {sampler.settings.steps}"
    return row(arguments, name, where, sampler.settings.precision, batch, mode, rate, each, first)


def random_stream(recipe: Recipe, where: torch.device) -> Stream:
    channels, height, width = recipe["image"]
    images = torch.randint(256, (IMAGES, height, width, channels), dtype=torch.uint8)
    return Stream(images, torch.zeros(IMAGES, dtype=torch.int64), 0, where)


def begin(where: torch.device) -> None:
    """Clear the compiler's cache and the peak of memory, so that nothing of the previous mode counts."""
    torch.compiler.reset()
    if where.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak_memory(where: torch.device) -> float:
    """GiB: of tensors on the GPU, or of the process."""
    if where.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    return getrusage(RUSAGE_SELF).ru_maxrss / 2**20


def row(arguments: Any, job: str, where: torch.device, arithmetic: str, batch: int, mode: str, *numbers: float) -> str:
    rate, flops, first = numbers
    cells = [f"{arguments.recipe} {job}", device_name(where), arithmetic, batch, mode]
    cells += [f"{rate:,.4g}" if rate < 1000 else f"{rate:,.0f}", f"{rate * flops / 1e12:.3g}"]
    cells += [f"{peak_memory(where):.1f}", f"{first:.0f}"]
    cells += [f"{arguments.peer:,.0f}", f"{rate / arguments.peer:.2f}"] if arguments.peer else ["", ""]
    return f"| {' | '.join(map(str, cells))} |"


if __name__ == "__main__":
    main()
