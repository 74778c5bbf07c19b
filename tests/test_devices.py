"""What follows from the device: the order of activations in memory, and the precision that pays."""

import os

from diffprobe.runtime.job import Job, parse

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from toy_training import run_once, slice_of, stream

from diffprobe.config.training import HalfLife
from diffprobe.diffusion.edm import EDM
from diffprobe.networks import positions
from diffprobe.networks.dit import DiT
from diffprobe.runtime import devices, gpus, leases, progress
from diffprobe.runtime.devices import convolves_faster, has_bf16, is_bf16, memory_format, report_slow_precision
from diffprobe.runtime.gpus import local_gpus
from diffprobe.training.optimizers import Options
from diffprobe.training.tasks.diffusion import Diffusion

CPU = torch.device("cpu")


class NoFloat64(TorchDispatchMode):
    """Refuses tensors of float64, as Apple's GPUs do."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        assert all(x.dtype != torch.float64 for x in tree_leaves(result) if isinstance(x, torch.Tensor)), func
        return result


@pytest.mark.parametrize("position", ["abs", "rope", "gta"])
def test_training_needs_no_float64_where_there_is_none(monkeypatch, tmp_path, position):
    monkeypatch.setattr(positions, "widest_float", lambda device: torch.float32)
    options = Options(batch=16, lr=1e-3, averages={"ema": HalfLife(kind="half_life", kimg=1)}, warmup=10)
    with NoFloat64():
        network = DiT(1, width=32, depth=1, heads=2, patch=4, position=position)
        trained, _, _ = run_once(slice_of(tmp_path, 1, 0, 3), Diffusion(network, EDM()), stream(8, 1), options)
    assert trained.step == 3


def test_apples_gpu_is_taken_only_when_asked_for_and_by_what_needs_no_float64(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setenv("DIFFPROBE_LEASES", str(tmp_path / "leases"))

    def device(wanted: str, needs_float64: bool) -> str:
        monkeypatch.setenv("DIFFPROBE_DEVICE", wanted)
        log = tmp_path / "logs" / "rule" / "x.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w") as file:
            job = Job(parse(["{}", "--log", str(log)]), file)
            job.needs_float64 = needs_float64
            kind = job.device.type
        if kind == "mps":
            os.close(*job.lease)
        return kind

    assert [device("mps", False), device("mps", True), device("", False)] == ["mps", "cpu", "cpu"]


def test_a_job_sees_its_leased_gpu_alone(monkeypatch, tmp_path):
    """Two GPUs, of which another job has the first: this one's only device is the second."""
    monkeypatch.setenv("DIFFPROBE_LEASES", str(tmp_path / "leases"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.delenv("DIFFPROBE_GPUS", raising=False)
    monkeypatch.setattr(gpus, "asked_of_torch", lambda: ["UUID-0", "UUID-1"])
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    (descriptor,) = leases.lease(["UUID-0"], 1, "another", print).descriptors
    seen: list[str] = []
    # Only once the variable is set may this process ask torch, which looks a single time.
    monkeypatch.setattr(
        torch.cuda, "is_available", lambda: bool(seen.append(os.environ["CUDA_VISIBLE_DEVICES"])) or True
    )
    monkeypatch.setattr(torch.cuda, "set_device", lambda index: None)
    log = tmp_path / "logs" / "rule" / "x.log"
    log.parent.mkdir(parents=True)
    with log.open("w") as file:
        job = Job(parse(["{}", "--log", str(log)]), file)
        assert job.device == torch.device("cuda", 0)
    assert seen == ["1"] and log.read_text() == "computes on UUID-1\n"
    for each in (descriptor, *job.lease):
        os.close(each)
    os.environ.pop(leases.MEMBERS)


@pytest.mark.parametrize(("files", "count"), [((), 0), (("nvidia0", "nvidia1", "nvidiactl"), 2), (("kfd",), 0)])
def test_gpus_are_counted_by_device_files_or_by_torch(tmp_path, files, count):
    for name in files:
        (tmp_path / name).touch()
    assert local_gpus(tmp_path) == count  # with ROCm's file torch is asked, which sees none here


@pytest.mark.parametrize(("capability", "format"), [("AVX512", torch.channels_last), ("AVX2", torch.contiguous_format)])
def test_memory_format_follows_the_units_of_the_cpu(monkeypatch, capability, format):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert memory_format(CPU) == format
    assert memory_format(torch.device("cuda")) == torch.channels_last


def test_auto_is_bf16_only_where_it_pays(monkeypatch):
    lines: list[str] = []
    monkeypatch.setattr(devices, "has_bf16", lambda device: False)
    narrow, wide = nn.Sequential(nn.Conv2d(3, 32, 3), nn.Conv2d(32, 32, 3)), nn.Linear(32, 128)
    for network in (narrow, wide):
        precisions = [is_bf16(precision, CPU, network) for precision in ("fp32", "bf16", "auto")]
        assert precisions == [False, True, False]
    for precision in ("fp32", "auto", "bf16"):
        report_slow_precision(precision, CPU, lines.append)
    (line,) = lines
    assert "slower" in line and "precision: auto" in line
    monkeypatch.setattr(devices, "has_bf16", lambda device: True)
    assert is_bf16("auto", CPU, wide) and is_bf16("auto", torch.device("cuda"), narrow)
    assert not is_bf16("auto", CPU, narrow)


def test_units_of_a_cpu_are_read_from_its_capabilities(monkeypatch):
    """Measured: bf16 takes half the time of fp32 on an EPYC with AVX-512's instructions, twice on a Xeon with them."""
    amd, intel = {"avx512_bf16": True, "cpu_name": "AMD EPYC"}, {"avx512_bf16": True, "cpu_name": "Intel Xeon"}
    for capabilities, expected in (
        (amd, True),
        (intel, False),
        (intel | {"amx_bf16": True}, True),
        ({"avx2": True}, False),
    ):
        has_bf16.cache_clear()
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda capabilities=capabilities: capabilities)
        assert has_bf16(CPU) == expected
    has_bf16.cache_clear()


def test_products_are_convolved_where_mkl_leaves_units_unused(monkeypatch):
    for name, wide, expected in (("AMD EPYC", True, True), ("AMD EPYC", False, False), ("Intel Core", True, False)):
        convolves_faster.cache_clear()
        capabilities = {"cpu_name": name, "avx512_vp2intersect": wide}
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda capabilities=capabilities: capabilities)
        assert convolves_faster() == expected
    convolves_faster.cache_clear()


def test_long_jobs_report_their_share_of_the_devices_peak(tmp_path, monkeypatch):
    """1,000 images of 5 FLOPs in about 2 s, where 5,000 FLOP per second are possible: half of them, nearly."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "time", lambda: now[0])
    monkeypatch.setattr(progress, "SETTLED_SECONDS", 1.0)
    with (tmp_path / "job.log").open("w+") as log:
        job = progress.Progress(tmp_path / "job.json", "job", log, progress.Console(tmp_path / "slot"))
        job.compare(lambda: 5.0, lambda: 5000.0)
        job.start(10_000, "images")
        assert job.mfu is None
        now[0] += 2
        job.update(1000)
        assert job.mfu == pytest.approx(0.5, rel=0.01)
        log.seek(0)
        assert "500 images/s  mfu 50%" in log.read()


def test_peak_is_what_large_products_reach():
    assert 1e8 < devices.peak_flops(CPU) < 1e14
