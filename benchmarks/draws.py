"""The random draws and the augmentation of a training step: numbers, kernels and time on this device.

    python -m benchmarks.draws --plan results/plan.json                  # both recipes, at one GPU's share of a batch
    python -m benchmarks.draws --recipes DDPM_ddpm --batch 4             # on a CPU, by its compiler

Compiled, as long runs have them, and eager. `error` is the largest difference from the CPU's eager numbers, of the
noise and of the noisy images. On a GPU also the kernels of a whole step by torch's profiler, of two steps between two
rows of the history, and its waits for the device, of which there must be none. Prints JSON lines.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.recipes import SHARE, Recipe, assemble, changed, device, device_name, recipes
from benchmarks.throughput import begin, random_stream
from diffprobe.data.batch import Batch
from diffprobe.networks.compiled import compiled_draws
from diffprobe.runtime.devices import full_precision
from diffprobe.runtime.keyed import Draws
from diffprobe.training.loop import fresh, train
from diffprobe.training.state import State

WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", default=["DDPM_ddpm", "EDM_ddpmpp_aug"])
    parser.add_argument("--batch", type=int, help="default: one GPU's share, 128 or 64")
    parser.add_argument(
        "--modes", nargs="+", choices=["never", "always", "graphs"], default=["never", "always", "graphs"]
    )
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="such as network.channels=32")
    parser.add_argument("--plan", type=Path, help="recipes as throughput --write-plan wrote them")
    arguments = parser.parse_args()
    plan, where = recipes(arguments.plan), device()
    for name in arguments.recipes:
        recipe = plan[name]
        batch = arguments.batch or SHARE[recipe["network"]["resample"]]
        recipe = changed(recipe, [f"train.batch={batch}", *arguments.set])
        row = {"recipe": name, "device": device_name(where), "batch": batch}
        print(json.dumps(row | draws(recipe, where)), flush=True)
        if where.type == "cuda":
            for mode in arguments.modes:
                print(json.dumps(row | {"compile": mode} | whole_step(recipe, where, mode)), flush=True)


def draws(recipe: Recipe, where: torch.device) -> dict[str, Any]:
    """Eager and compiled draws of a batch: their error, kernels and milliseconds."""
    begin(where)
    task, options, _ = assemble(recipe, where)
    batch = random_stream(recipe, where).read(0, options.batch)
    batch = batch._replace(positions=batch.positions + 2**33)  # beyond 32 bits
    host = Batch(*(None if part is None else part.cpu() for part in batch))
    expected = task.draw_inputs(host, Draws(options.seed, host.positions))[0]
    columns: dict[str, Any] = {}
    for mode, function in (("eager", task.draw_inputs), ("compiled", compiled_draws(task.draw_inputs))):
        draw = partial(exact, function, batch, Draws(options.seed, batch.positions))
        noised = draw()[0]
        pairs = {"noise": (noised.noise, expected.noise), "noisy": (noised.noisy, expected.noisy)}
        columns[mode] = {
            "error": {name: float((x.cpu() - y).abs().max()) for name, (x, y) in pairs.items()},
            "ms": round(milliseconds(draw, where), 3),
        }
        if where.type == "cuda":
            columns[mode]["kernels"] = len(kernels(profiled(draw)))
    columns["randn_ms"] = round(milliseconds(partial(torch.randn_like, expected.noise.to(where)), where), 3)
    return columns


def exact(function: Callable[..., Any], *arguments: Any) -> Any:
    """As a step calls it."""
    with full_precision():
        return function(*arguments)


def milliseconds(call: Callable[[], Any], where: torch.device, rounds: int = 20) -> float:
    """The median over calls, each until the device is done."""
    wait: Callable[[], None] = torch.cuda.synchronize if where.type == "cuda" else lambda: None
    call()
    times = []
    for _ in range(rounds):
        wait()
        begun = time.perf_counter()
        call()
        wait()
        times.append(time.perf_counter() - begun)
    return 1e3 * statistics.median(times)


def whole_step(recipe: Recipe, where: torch.device, mode: str) -> dict[str, Any]:
    """Kernels, copies and waits of two steps of the loop, by torch's profiler, per step."""
    begin(where)
    task, options, _ = assemble(recipe, where)
    task.compile(where, 0, mode)
    stream, state = random_stream(recipe, where), fresh(task, options)
    first = options.tick + 1  # no row of the history, which waits, comes in the two steps after it
    recorder = profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA])

    def after_step(state: State) -> None:
        if state.step == first:
            torch.cuda.synchronize()
            recorder.start()
        elif state.step == first + 2:
            recorder.stop()

    train(task, stream, options, state, first + 3, after_step)
    events = list(recorder.events() or [])
    waits = [event.name for event in events if event.name in WAITS]
    return {"kernels": len(kernels(events)) / 2, "waits": len(waits) / 2, "graphs": mode == "graphs"}


def profiled(call: Callable[[], Any]) -> list[Any]:
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as recorder:
        call()
        torch.cuda.synchronize()
    return list(recorder.events() or [])


def kernels(events: list[Any]) -> list[str]:
    """The names of what ran on the device, copies and fills included."""
    return [event.name for event in events if event.device_type == DeviceType.CUDA]


if __name__ == "__main__":
    main()
