"""Draws as torch's compiler evaluates them: the same numbers, for any batch."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
import torch

from diffprobe.data.augment import edm, random_flip
from diffprobe.data.batch import Batch
from diffprobe.diffusion.ddpm import DDPM
from diffprobe.diffusion.edm import EDM
from diffprobe.diffusion.flow import Flow
from diffprobe.diffusion.process import Noised
from diffprobe.networks.compiled import compiled, compiled_draws, is_worthwhile, keep_kernels
from diffprobe.networks.condition import Condition
from diffprobe.runtime.keyed import Draws, Key, normal, uniform
from diffprobe.training.tasks.diffusion import Diffusion

ROWS = torch.tensor([0, 1, 2**31, 2**32 - 1, 2**32, 2**40 + 3, 2**62])
TASKS = {
    "ddpm": Diffusion(torch.nn.Identity(), DDPM(), view=lambda x, draws: (random_flip(x, draws), None)),
    "edm": Diffusion(torch.nn.Identity(), EDM(), view=edm),
    "flow": Diffusion(torch.nn.Identity(), Flow("logit_normal"), label_dropout=0.3),
}


@pytest.mark.parametrize("shape", [(), (1,), (3,), (10,), (2, 3, 5)])
def test_what_the_compiler_is_given_makes_the_same_numbers(shape, monkeypatch):
    """Rows beyond 32 bits included: each number by its place alone, where otherwise a row is made at once."""
    keys = [Key(seed, "test") for seed in range(9)]
    rowwise = [draw(key, ROWS, shape) for draw in (uniform, normal) for key in keys]
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    by_place = [draw(key, ROWS, shape) for draw in (uniform, normal) for key in keys]
    assert all(x.shape == y.shape for x, y in zip(rowwise, by_place, strict=True))
    torch.testing.assert_close(by_place, rowwise, rtol=1e-6, atol=1e-6)
    assert all(map(torch.equal, by_place[:9], rowwise[:9]))  # uniforms exactly


@pytest.mark.parametrize("name", TASKS)
def test_inputs_are_those_that_the_compiler_is_given(name, monkeypatch):
    data, task = batch(2**33 + 5, 8), TASKS[name]
    expected = task.draw_inputs(data, Draws(4, data.positions))
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    compare(task.draw_inputs(data, Draws(4, data.positions)), expected)


@pytest.mark.skipif(shutil.which("c++") is None, reason="torch's compiler needs one for C++")
def test_compiled_draws_are_those_of_the_generator(tmp_path, monkeypatch):
    """By torch's compiler for CPUs, in batches of two sizes; the second is compiled for any size."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    task = TASKS["flow"]
    drawn = compiled_draws(task.draw_inputs)
    for first, count in ((2**33 + 5, 8), (77, 3), (77, 5)):
        data = batch(first, count)
        compare(*(draw(data, Draws(4, data.positions)) for draw in (drawn, task.draw_inputs)))


def test_graphs_begin_a_new_step_at_each_call(monkeypatch):
    """So that torch's record of the step before may be overwritten; without a GPU the calls alone are seen."""
    calls = []
    monkeypatch.setattr(torch, "compile", lambda function, **options: calls.append(options) or function)
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: calls.append("step"))
    network = compiled(lambda x: x + 1, torch.device("cuda"), 0, "graphs")
    assert [network(1), network(2)] == [2, 3]
    assert calls == [{"mode": "reduce-overhead"}, "step", "step"]


@pytest.mark.parametrize(
    ("device", "work", "how", "expected"),
    [
        ("cuda", 1e17, "auto", True),
        ("cuda", 1e15, "auto", False),
        ("cpu", 1e17, "auto", False),
        ("cuda", 0, "always", True),
        ("cuda", 0, "graphs", True),
        ("cuda", 1e17, "never", False),
    ],
)
def test_compiling_must_pay(device, work, how, expected):
    assert is_worthwhile(torch.device(device), work, how) == expected


def test_kernels_are_kept_in_the_users_cache(tmp_path, monkeypatch):
    """As the XDG Base Directory Specification says, unless torch's own variable is set."""
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    keep_kernels()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "diffprobe" / "inductor")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "elsewhere")
    keep_kernels()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "elsewhere"
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(Path(tempfile.gettempdir(), "torchinductor_me")))  # torch's own
    keep_kernels()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "diffprobe" / "inductor")


def test_a_long_run_compiles_draws_and_loss_apart(monkeypatch):
    """Processes with a loss of their own, which a plugin may have, are compiled as the network alone."""
    precision = torch.get_float32_matmul_precision()
    monkeypatch.setattr(torch, "compile", lambda function, **options: ("compiled", function))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "elsewhere")

    class Own:
        def loss(self): ...

    try:
        task, own = Diffusion(torch.nn.Identity(), DDPM()), Diffusion(torch.nn.Identity(), Own())
        for each in (task, own):
            each.compile(torch.device("cuda"), 10, "always")
        assert task.error == ("compiled", task.network_error) and task.network is task.module
        assert task.inputs != task.draw_inputs
        assert own.network == ("compiled", own.module) and own.inputs == own.draw_inputs
    finally:
        torch.set_float32_matmul_precision(precision)


def batch(first: int, count: int) -> Batch:
    images = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return Batch(images, torch.arange(count), torch.arange(first, first + count))


def compare(actual: tuple[Noised, Condition], expected: tuple[Noised, Condition]) -> None:
    """Equal to rounding. Images that are warped differ by the rounding of where they are sampled."""
    for x, y in zip(flat(*actual), flat(*expected), strict=True):
        assert x.stride() == y.stride()
        torch.testing.assert_close(x, y, rtol=1e-5, atol=5e-5)


def flat(noised: Noised, cond: Condition) -> list[torch.Tensor]:
    parts = [noised.clean, noised.noise, *noised.level, noised.noisy, cond.label, cond.augment]
    return [part for part in parts if part is not None]
