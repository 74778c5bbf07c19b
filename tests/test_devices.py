"""What follows from the device: the order of activations in memory, and the precision that pays."""

import pytest
import torch
from torch import nn

from diffprobe.runtime import devices, progress
from diffprobe.runtime.devices import has_bf16, is_bf16, memory_format, report_slow_precision

CPU = torch.device("cpu")


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


def test_peak_is_what_a_large_matrix_product_reaches():
    assert 1e8 < devices.peak_flops(CPU) < 1e14
