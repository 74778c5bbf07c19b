"""Images per second of a DiT on the GPU or the CPU: training steps of the network, and passes for its features.

    python -m benchmarks.transformer B/2 --batch 256                     # abs, rope, gta; eager, then compiled
    python -m benchmarks.transformer XL/2 --batch 64 --recompute --positions abs
    python -m benchmarks.transformer XL/2 --batch 256 --features

Latents of 4 x 32 x 32, 1,000 classes, learned variance, normed queries and keys except with abs; bf16 on a GPU. A step
is forward, backward and fused AdamW; features are the middle block's, by early exit and from the whole pass.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from benchmarks.recipes import device, device_name
from benchmarks.throughput import peak_memory
from diffprobe.config.networks import Network
from diffprobe.networks.build import build
from diffprobe.networks.condition import Condition
from diffprobe.networks.dit import DiT
from diffprobe.networks.flops import flops

HEAD = "| job | device | batch | mode | images/s | TFLOP/s | peak GiB | first s |"
IMAGE, CLASSES = (4, 32, 32), 1000


def main() -> None:
    parser = argparse.ArgumentParser(description="Images per second of a DiT.")
    parser.add_argument("size", nargs="?", default="B/2", help="S/2 .. XL/8")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--positions", nargs="+", default=["abs", "rope", "gta"])
    parser.add_argument("--modes", nargs="+", choices=["eager", "compiled"], help="default: both on a GPU, else eager")
    parser.add_argument("--recompute", action="store_true", help="gradient checkpointing")
    parser.add_argument("--features", action="store_true", help="passes for features in place of steps")
    parser.add_argument("--seconds", type=float, default=10, help="of measuring, after the first calls")
    arguments = parser.parse_args()
    where = device()
    print(f"{HEAD}\n|{'---|' * (HEAD.count('|') - 1)}", flush=True)
    for position in arguments.positions:
        for mode in arguments.modes or (["eager", "compiled"] if where.type == "cuda" else ["eager"]):
            for name, network, run in jobs(arguments, position, where):
                torch.compiler.reset()
                each = flops(partial(run, network)) / 1e12  # recomputation included
                call = torch.compile(network) if mode == "compiled" else network
                cells = measured(partial(run, call), each, where, arguments)
                row = [f"{arguments.size} {position}, {name}", device_name(where), arguments.batch, mode, *cells]
                print(f"| {' | '.join(map(str, row))} |", flush=True)


Run = Callable[[Callable[..., tuple[Tensor, dict[str, Tensor]]]], None]


def jobs(arguments: argparse.Namespace, position: str, where: torch.device) -> list[tuple[str, DiT, Run]]:
    """What is measured of a network: a name, the network, and a call of it, compiled or not."""
    settings = {"kind": "dit", "size": arguments.size, "position": position, "qk_norm": position != "abs"}
    with where:
        network = build(Network.member(settings), image_channels=IMAGE[0], classes=CLASSES, out_channels=2 * IMAGE[0])
        x, t = torch.randn(arguments.batch, *IMAGE), torch.rand(arguments.batch) * 999
        cond = Condition(torch.randint(CLASSES, (arguments.batch,)))
    bf16 = torch.autocast(where.type, torch.bfloat16, enabled=where.type == "cuda")
    middle = network.taps[len(network.taps) // 2 - 1]
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)
    network.recompute = arguments.recompute

    def step(call: Callable[..., tuple[Tensor, dict[str, Tensor]]]) -> None:
        with bf16:
            loss = call(x, t, cond)[0].float().square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def features(early: bool, call: Callable[..., tuple[Tensor, dict[str, Tensor]]]) -> None:
        with torch.inference_mode(), bf16:
            call(x, t, cond, taps=[middle], features_only=early)

    if arguments.features:
        network.eval()
        return [
            (f"{middle}, whole pass", network, partial(features, False)),
            (middle, network, partial(features, True)),
        ]
    return [("step, recomputed" if arguments.recompute else "step", network, step)]


def measured(run: Callable[[], None], each: float, where: torch.device, arguments: argparse.Namespace) -> list[str]:
    """Images and TFLOP per second, peak memory in GiB, seconds of the first call."""
    wait: Callable[[], None] = torch.cuda.synchronize if where.type == "cuda" else lambda: None
    if where.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    begun = time.perf_counter()
    run()
    wait()
    first = time.perf_counter() - begun
    run()
    wait()
    calls, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < arguments.seconds:
        run()
        wait()
        calls += 1
    seconds = (time.perf_counter() - begun) / calls
    return [f"{arguments.batch / seconds:.4g}", f"{each / seconds:.3g}", f"{peak_memory(where):.1f}", f"{first:.0f}"]


if __name__ == "__main__":
    main()
