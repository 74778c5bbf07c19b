"""What follows from the device that a job computes on: the order of activations in memory, the precision that pays,
the limit of its speed."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

BF16_CAPABILITY = (8, 0)  # the first CUDA devices with units for bfloat16: Ampere
# Mean width from which bfloat16 gains on a CPU with units for it: at 67 a step of a U-Net is a tenth slower and
# sampling a quarter, at 133 a step is a quarter faster (docs/LOG.md, 2026-11-29).
WIDE = 100


def memory_format(device: torch.device) -> torch.memory_format:
    """The order in memory in which our networks, convolutions between group norms, are fastest on a device.

    Channels last on GPUs, whose tensor cores read it, and on CPUs with AVX-512. On other CPUs GroupNorm's backward pass
    is eight times slower in it, which costs 5 to 9 % of a step.
    """
    if device.type == "cpu" and torch.backends.cpu.get_cpu_capability() != "AVX512":
        return torch.contiguous_format
    return torch.channels_last


def cpu_capabilities() -> Mapping[str, Any]:
    """What torch knows of this CPU: its `cpu_name`, and whether it has each set of instructions."""
    return torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}


@cache
def has_bf16(device: torch.device) -> bool:
    """Whether a device has units by which bfloat16 is faster than float32. Without any it is emulated.

    Intel's CPUs that have AVX-512's instructions for it, but no AMX, execute them at half the rate of float32's.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= BF16_CAPABILITY
    if device.type != "cpu":
        return device.type != "mps"  # nobody has measured it there
    capabilities = cpu_capabilities()
    intel = "Intel" in capabilities.get("cpu_name", "")
    return bool(capabilities.get("amx_bf16") or (capabilities.get("avx512_bf16") and not intel))


def in_float32_on_cpu(x: Tensor) -> bool:
    """Whether a layer computes in float32 on a CPU, given x."""
    return x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")


@cache
def convolves_faster() -> bool:
    """Whether this CPU computes products of float32 matrices faster as 1x1 convolutions.

    AMD's do whose units are 512 bits wide. torch multiplies matrices by MKL and convolves by oneDNN: on a core of an
    AMD EPYC (family 26, Zen 5) at 104 and at 200 GFLOP/s, while both reach 160 on a Xeon. Zen 4, with AVX-512 on units
    of 256 bits, has not been measured; the instructions that tell the two apart are those of VP2INTERSECT.
    """
    capabilities = cpu_capabilities()
    return "AMD" in capabilities.get("cpu_name", "") and bool(capabilities.get("avx512_vp2intersect"))


def is_bf16(precision: str, device: torch.device, network: nn.Module | None = None) -> bool:
    """Whether a network computes in bfloat16 on a device, with a `precision` of fp32, bf16 or auto.

    auto does where the device has units for it and, of a network given, layers are wide enough to gain on a CPU.
    """
    narrow = device.type == "cpu" and network is not None and mean_width(network) < WIDE
    pays = has_bf16(device) and not narrow
    return precision == "bf16" or (precision == "auto" and pays)


def mean_width(network: nn.Module) -> float:
    """The mean number of channels that a weight of its convolutions and linear layers contributes to."""
    weights = [module.weight for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    total = sum(weight.numel() for weight in weights)
    return sum(weight.numel() * len(weight) for weight in weights) / total if total else 0


def report_slow_precision(precision: str, device: torch.device, say: Callable[[str], object]) -> None:
    """Say what a precision costs that a device has no fast units for."""
    if precision == "bf16" and not has_bf16(device):
        say(f"bf16 is 2 to 13 times slower than fp32 on this {device.type}; `precision: auto` avoids that")


@contextmanager
def full_precision() -> Iterator[None]:
    """Within, products of float32 matrices are float32's, where the process lets a GPU round their factors to TF32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def widest_float(device: torch.device) -> torch.dtype:
    """float64, in which sums of thousands of numbers lose nothing; float32 on Apple's GPUs, which have no other."""
    return torch.float32 if device.type == "mps" else torch.float64


@cache
def peak_flops(device: torch.device, bf16: bool = False) -> float:
    """FLOP per second that a device reaches in large products, the best of a few: measured, in a moment.

    In float32 on a GPU, products use TF32 where the process does. On a CPU matrices and convolutions are multiplied by
    different libraries, of which the first (MKL) has half the speed of the second (oneDNN) in float32 on AMD's CPUs
    with AVX-512.
    """
    cpu, dtype = device.type == "cpu", torch.bfloat16 if bf16 else torch.float32
    n = 1024 if cpu else 8192
    x = torch.ones(n, n, device=device, dtype=dtype)
    rates = [2 * n**3 / seconds(lambda: x @ x)]
    if cpu:
        channels, size, batch = 128, 32, 16
        images = torch.ones(batch, channels, size, size, dtype=dtype)
        weight = torch.ones(channels, channels, 3, 3, dtype=dtype)
        flops = 2 * batch * (size - 2) ** 2 * weight.numel()
        rates.append(flops / seconds(lambda: functional.conv2d(images, weight)))
    return max(rates)


def seconds(product: Callable[[], Tensor]) -> float:
    """What a product takes, at best of a few times."""
    taken = []
    for _ in range(6):
        begin = time.perf_counter()
        product().flatten()[0].item()  # waits for the device
        taken.append(time.perf_counter() - begin)
    return min(taken)
