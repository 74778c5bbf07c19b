"""The training loop: slices, resume after any stop, EMA, what invalidates a state."""

import json
import math
import signal
from dataclasses import replace

import pytest
import torch
from torch import nn
from toy_training import CPU, KilledError, equal, run_once, slice_of, stream

from diffprobe.config.built import parse_model
from diffprobe.config.training import DDAERamp, HalfLife
from diffprobe.data.batch import Batch
from diffprobe.diffusion.edm import EDM
from diffprobe.networks.unet import UNet
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.keyed import Draws
from diffprobe.training import checkpoints
from diffprobe.training.ema import decay
from diffprobe.training.events import Events
from diffprobe.training.loop import accumulate, fresh, refuse_batch_statistics, train
from diffprobe.training.optimizers import Options, clip, learning_rate
from diffprobe.training.slices import Slice, best_start, run_slice, stop_signals, tidy
from diffprobe.training.state import Row, State
from diffprobe.training.stream import Stream
from diffprobe.training.tasks.diffusion import Diffusion
from diffprobe.training.world import World

AVERAGE = HalfLife(kind="half_life", kimg=0.5, ramp=0.05)
OPTIONS = Options(batch=16, lr=1e-3, averages={"ema": AVERAGE}, warmup=200)


class Several(Diffusion):
    """A task that logs more than its loss."""

    def losses(self, batch: Batch, draws: Draws) -> dict[str, torch.Tensor]:
        loss = super().losses(batch, draws)["loss"]
        return {"loss": loss, "twice": 2 * loss, "half": loss / 2}


def task(dropout: float = 0.2) -> Diffusion:
    torch.manual_seed(0)
    network = UNet(1, 8, (1, 2), blocks=1, attention=(1,), dropout=dropout, groups=4)
    return Diffusion(network.to(memory_format=torch.channels_last), EDM())


def images() -> Stream:
    return stream(size=8, channels=1)


def go(part: Slice, die_at: int | None = None, every: float = 1e9) -> tuple[State, list[Row]]:
    state, rows, _ = run_once(part, Several(task().module, EDM()), images(), OPTIONS, die_at, every)
    return state, rows


def test_slices_equal_one_run(tmp_path):
    """Checkpoints on the way, at odd steps within an epoch, change no weight."""
    whole, _ = go(slice_of(tmp_path / "whole", 9, 0, 23))
    for kimg, (start, stop) in enumerate([(0, 7), (7, 8), (8, 23)], start=1):
        sliced, _ = go(slice_of(tmp_path / "sliced", kimg, start, stop))
    assert equal(whole, sliced)


@pytest.mark.parametrize("step", [1, 6, 7, 12])
def test_a_killed_slice_goes_on_bit_for_bit(tmp_path, step):
    undisturbed, rows = go(slice_of(tmp_path / "a", 1, 0, 13))
    with pytest.raises(KilledError):
        go(slice_of(tmp_path / "b", 1, 0, 13), die_at=step, every=0)
    resumed, rows_again = go(slice_of(tmp_path / "b", 1, 0, 13))
    assert equal(undisturbed, resumed)
    assert json.dumps(rows) == json.dumps(rows_again)  # the same text, in which order the losses come too


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_stop_saves_first(tmp_path, number, request):
    before = signal.signal(number, signal.SIG_DFL)  # under nohup, tests too, a closed terminal is ignored
    request.addfinalizer(lambda: signal.signal(number, before))
    state = fresh(task(), OPTIONS)

    def report(state: State) -> None:
        if state.step == 5:
            signal.raise_signal(number)

    piece = slice_of(tmp_path, 1, 0, 13)
    with pytest.raises(SystemExit) as stopped:
        run_slice(piece, Diffusion(state.module, EDM()), images(), OPTIONS, state, 1e9, report)
    assert stopped.value.code == 128 + number
    assert best_start(piece) == piece.autosave
    resumed, _ = go(piece)
    assert resumed.step == 13 and equal(resumed, go(slice_of(tmp_path / "other", 1, 0, 13))[0])


def test_an_ignored_signal_stays_ignored():
    """Under nohup a closed terminal stops nothing."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_signals() as stopped:
            signal.raise_signal(signal.SIGHUP)
            signal.raise_signal(signal.SIGTERM)
        assert stopped == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_save_that_was_cut_short_disturbs_nothing(tmp_path):
    first, second = slice_of(tmp_path, 1, 0, 7), slice_of(tmp_path, 2, 7, 13)
    go(first)
    for name in (".1.99.part.safetensors", ".2.99.part.safetensors"):
        (tmp_path / "states" / name).write_bytes(b"half")
    expected, _ = go(second)
    tidy(second, keep="last")
    assert best_start(second) == second.state(2)
    assert equal(expected, go(slice_of(tmp_path / "other", 1, 0, 13))[0])


def test_a_middle_checkpoint_is_remade_from_the_nearest_kept_state(tmp_path):
    first, second = slice_of(tmp_path, 1, 0, 7), slice_of(tmp_path, 2, 7, 13)
    go(first)
    expected, rows = go(second)
    tidy(second, keep="last")
    assert [path.stem for path in (tmp_path / "states").iterdir()] == ["2"]
    (tmp_path / "states" / "2.safetensors").unlink()
    again, rows_again = go(second)  # from nothing, through the first slice
    assert equal(expected, again)
    assert rows == rows_again


def test_what_a_finished_state_serves_for(tmp_path):
    first, second = slice_of(tmp_path, 1, 0, 7), slice_of(tmp_path, 2, 7, 13)
    go(first)
    go(second)
    own, earlier = second.state(2), second.state(1)
    assert best_start(second) == own  # a deleted output costs no training
    assert best_start(replace(second, code="new")) == earlier  # --forcerun after a change of code trains the slice
    assert best_start(replace(second, parent="new")) == earlier  # so does a checkpoint before that was remade
    assert best_start(replace(second, identity="new")) is None  # another config or other data: from nothing
    own.write_bytes(own.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"2\.safetensors: is damaged .* delete it"):  # not trained again without a word
        best_start(second)
    own.unlink()
    assert best_start(second) == earlier


def test_a_state_of_a_superseded_identity_is_refused(tmp_path):
    """In one line that names it, before anything is written; not where the state is of another config anyway."""
    part = slice_of(tmp_path, 1, 0, 13)
    with pytest.raises(KilledError):
        go(part, die_at=6, every=0)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=r"autosave\.safetensors: .* dropout or augmentation of an older") as error:
        go(replace(part, identity="new", superseded=("other", "i")))
    assert "\n" not in str(error.value)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    state, _ = go(replace(part, identity="new", superseded=("another",)))
    assert state.step == 13


def test_a_loss_that_is_not_finite_stops_the_run():
    bad = task()
    with torch.no_grad():
        bad.module.stem.weight.fill_(math.nan)
    state = fresh(bad, OPTIONS)
    with pytest.raises(UserError, match=r"loss is nan or infinite at step 1 \(learning rate 8e-05\)"):
        train(bad, images(), OPTIONS, state, 100, lambda state: None)


def test_the_last_good_state_is_named(tmp_path):
    state = fresh(task(), OPTIONS)

    def report(state: State) -> None:
        if state.step == 9:
            state.module.stem.weight.data.fill_(math.nan)

    every = replace(OPTIONS, batch=500)  # a row of the history, and a look at the loss, every second step
    saved = r"loss is nan or infinite at step 10 .*the last good state is of step \d+ \(.*autosave.*train\.clip"
    with pytest.raises(UserError, match=saved):
        run_slice(slice_of(tmp_path, 1, 0, 20), Diffusion(state.module, EDM()), images(), every, state, 0, report)
    assert best_start(slice_of(tmp_path, 1, 0, 20)) == slice_of(tmp_path, 1, 0, 20).autosave


@pytest.mark.parametrize("parts", [1, 5, 16, None])
def test_gradients_of_parts_add_up_to_those_of_the_batch(parts):
    gradients = {}
    for size in (None, parts):
        one = task(dropout=0.0)
        losses = accumulate(one, images(), replace(OPTIONS, device_batch=size), 3, World())
        gradients[size] = [parameter.grad for parameter in one.module.parameters()], losses["loss"]
    torch.testing.assert_close(gradients[parts], gradients[None], rtol=1e-4, atol=1e-6)


def test_batch_statistics_are_refused_for_parts_of_a_batch():
    network = torch.nn.Sequential(torch.nn.BatchNorm2d(3))
    share = OPTIONS.batch // 2
    for size, device_batch in ((1, None), (2, None), (2, share), (1, OPTIONS.batch)):
        refuse_batch_statistics(network, replace(OPTIONS, device_batch=device_batch), World(size=size))
    for size, device_batch in ((1, share), (2, share - 1)):
        with pytest.raises(UserError, match=r"train\.device_batch: .*BatchNorm2d .*whole"):
            refuse_batch_statistics(network, replace(OPTIONS, device_batch=device_batch), World(size=size))


def test_learning_rate_warms_up_and_falls_as_a_cosine():
    options = Options(batch=1, lr=2.0, warmup=100, cosine=1000)
    assert learning_rate(options, 50) == pytest.approx(2 * 0.5 * (1 + math.cos(math.pi * 0.05)) / 2)
    assert learning_rate(options, 500) == pytest.approx(1.0)
    assert learning_rate(options, 1000) == learning_rate(options, 2000) == 0
    assert learning_rate(Options(batch=1, lr=2.0), 10**9) == 2.0


@pytest.mark.parametrize("bound", [1e-3, 5.0, 5.000001, 1e3])
def test_clipping_is_torchs_bit_for_bit(bound):
    ours, torchs = (
        [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(3))] for _ in "ab"
    )
    for parameters in (ours, torchs):  # of the norm 5; one has no gradient
        parameters[0].grad, parameters[1].grad = torch.tensor([3.0, 0.0]), torch.tensor([4.0])
    clip(ours, bound)
    nn.utils.clip_grad_norm_(torchs, bound)
    for one, other in zip(ours[:2], torchs[:2], strict=True):
        assert torch.equal(one.grad, other.grad)


def test_tensorboard_events_hold_the_history(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    state = fresh(task(), OPTIONS)
    run = slice_of(tmp_path, 1, 0, 130)
    events = Events(tmp_path / "tensorboard")
    rows = run_slice(run, Diffusion(state.module, EDM()), images(), OPTIONS, state, 1e9, lambda _: None, sinks=[events])
    written = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    written.Reload()
    assert [(e.step, e.value) for e in written.Scalars("train/loss")] == [
        (row["step"], pytest.approx(row["loss"])) for row in rows
    ]


def test_ema_half_life_in_images():
    """A weight's influence halves every half-life, whatever the batch; the ramp bounds the half-life early on."""
    average = HalfLife(kind="half_life", kimg=50, ramp=0.05)
    for batch in (16, 128):
        steps = round(50_000 / batch)
        total = math.prod(decay(average, 10**9, batch) for _ in range(steps))
        assert total == pytest.approx(0.5, rel=2e-3)
    assert decay(average, 10, 100) == 0.5 ** (100 / 50)


@pytest.mark.parametrize(
    ("beta", "update", "expected"),
    [
        (0.9999, 0, 0.0),  # the first update copies the weights
        (0.9999, 2, 1 - 3 ** (-2 / 3)),
        (0.9999, 1000, 0.990006),
        (0.9999, 39_199, 0.999133),  # epoch 400 at 98 steps each, as the spec lists
        (0.9993, 53_990, 0.99929996),
        (0.9993, 53_996, 0.9993),
        (0.9999, 1_000_001, 0.9999),
    ],
)
def test_ddae_ramp(beta, update, expected):
    """min(beta, 1 - (1 + s)^(-2/3)) at update s: 0.9993 is reached after 53,995 steps, 0.9999 after a million."""
    value = decay(DDAERamp(kind="ddae", decay=beta), update + 1, 512)
    assert value == pytest.approx(expected, abs=1e-6)
    assert value <= beta


def test_ema_follows_the_weights():
    state = fresh(task(), OPTIONS)
    ema = state.emas["ema"]
    before = ema.module.stem.weight.clone()
    state.module.stem.weight.data.add_(1)
    ema.update(0.75)
    torch.testing.assert_close(ema.module.stem.weight, before + 0.25)


def test_checkpoint_round_trip(tmp_path):
    network = task().module
    head = {
        "network": {
            "kind": "unet",
            "channels": 8,
            "multipliers": [1, 2],
            "blocks": 1,
            "attention": [1],
            "groups": 4,
        }
    }
    head |= {"shape": {"image_channels": 1}, "images": 7}
    path, other = tmp_path / "ema.safetensors", task().module
    other.stem.weight.data.zero_()
    checkpoints.write(path, {"ema": network.state_dict(), "long": other.state_dict()}, head)
    again, header = checkpoints.load(path, CPU, parse_model)
    assert header == head | {"weights": ["ema", "long"]}
    assert not checkpoints.load(path, CPU, parse_model, "long")[0].stem.weight.any()
    assert checkpoints.load(path, CPU, parse_model, "ema")[0].stem.weight.any()
    with pytest.raises(UserError, match="no weights called raw; it has ema, long"):
        checkpoints.load(path, CPU, parse_model, "raw")
    x, c = torch.randn(2, 1, 8, 8), torch.randn(2)
    assert torch.equal(network.eval()(x, c)[0], again(x, c)[0])
