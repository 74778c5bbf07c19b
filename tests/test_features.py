"""Features: the same for any batch, split and way; the store resumed by level; the table that heads read."""

import errno
import os
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toy_probing import EXPERIMENT, UNET, experiment

from diffprobe.config.built import parse_network
from diffprobe.config.evaluators.linear import Linear
from diffprobe.config.levels import grid_levels
from diffprobe.config.load import parse
from diffprobe.config.schedules import edm_sigmas, linear_abar, ratios
from diffprobe.config.views import Crop, RandomCrop, RandomView
from diffprobe.data import images, views
from diffprobe.diffusion.edm import EDM
from diffprobe.diffusion.process import perturb
from diffprobe.evaluation.representation import featurestore, inputs
from diffprobe.evaluation.representation.chunks import MANIFEST, array, damage
from diffprobe.evaluation.representation.descent import row_stream
from diffprobe.evaluation.representation.features import FeatureModel, Pass
from diffprobe.evaluation.representation.featurestore import Copies, finish, write_level
from diffprobe.evaluation.representation.heads import fit
from diffprobe.evaluation.representation.inputs import open_inputs, subset
from diffprobe.evaluation.representation.table import StoredFeatures, table_of
from diffprobe.networks.build import build
from diffprobe.networks.pooling import POOLINGS, mean_std, quadrants
from diffprobe.runtime.files import sha256
from diffprobe.runtime.keyed import Key, normal

CPU = torch.device("cpu")
WANTED = {"mid": ("mid", "mean"), "out_2": ("out_2", "mean"), "out_2.tokens": ("out_2", "tokens")}
CROP = Crop(pad=1)


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return build(parse_network(UNET), image_channels=1).eval()


def test_images_that_are_not_held_are_read_as_they_are_needed(
    digits_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts, key = (slice(30, 97), np.array([150, 3, 3, 77])), Key(0, "p")
    views = [(draw, augmented) for draw in (0, 1) for augmented in (False, True)]

    def read() -> list[torch.Tensor]:
        data = open_inputs(digits_store, ["train", "select"], CPU, None, CROP, mirrored=True)["select"]
        few = subset(data, 20)
        seen = [data.read(part, key, *view) for part in parts for view in views]
        return [*seen, *(few.read(slice(5, 9), key, *view) for view in views)]

    held = read()
    monkeypatch.setattr(inputs, "MOST_HELD", 0)
    monkeypatch.setattr(inputs.images, "gather", gathered := Mock(wraps=inputs.images.gather))
    assert all(map(torch.equal, read(), held))
    assert [len(call.args[1]) for call in gathered.call_args_list] == [67] * 4 + [4] * 4 + [4] * 4


def test_one_pass_gives_what_hooks_give_for_any_batch(network: torch.nn.Module, digits_store: Path) -> None:
    """All taps at once, with an early exit, against the whole network run image by image."""
    process, level = EDM(), EDM().level(0.3)
    data = open_inputs(digits_store, ["select"], CPU, None)["select"]
    source = FeatureModel(network, process, 5, CPU, batch=77)
    pooled = {
        name: torch.cat([x[name] for _, x in source.blocks(data, Pass(level, WANTED, "p", 1))]) for name in WANTED
    }
    assert {name: tuple(x.shape) for name, x in pooled.items()} == {
        "mid": (200, 16),
        "out_2": (200, 16),
        "out_2.tokens": (200, 16, 16),
    }
    for i in (0, 76, 77, 199):
        row = torch.tensor([data.rows[i]])
        x = data.read(slice(i, i + 1), Key(5, "p"), 1, False)
        noisy = perturb(x, level.of(x), normal(Key(5, "p/0.3"), row, (1, 8, 8), 1))
        denoised = process.denoise(network, noisy, level.of(x), taps=["mid", "out_2"])
        taps = denoised.activations
        assert denoised.x0 is not None
        for name, (tap, pooling) in WANTED.items():
            expected = POOLINGS[pooling](taps[tap])
            torch.testing.assert_close(pooled[name][i], expected[0], rtol=1e-4, atol=1e-5)
    both, mid = mean_std(taps["mid"]), taps["mid"]
    half = mid.shape[2] // 2
    corner = quadrants(mid).view(len(mid), -1, 2, 2)[:, :, 1, 0]  # below, to the left
    torch.testing.assert_close(corner, mid[:, :, half:, :half].mean((2, 3)))
    torch.testing.assert_close(both[:, 16:], taps["mid"].flatten(2).std(2, correction=0))


def test_an_augmented_copy_is_that_view_of_the_image(digits_store: Path) -> None:
    data = open_inputs(digits_store, ["train"], CPU, None, CROP)["train"]
    pixels = images.read(digits_store, ["train"])
    view = {"kind": "crop", **CROP.model_dump(), "draw": 4}
    expected = views.apply(view, torch.from_numpy(pixels.images), torch.from_numpy(pixels.rows), 9)
    augmented = data.read(slice(10, 20), Key(9, "x"), 4, True)
    torch.testing.assert_close(augmented, expected[10:20].permute(0, 3, 1, 2) / 127.5 - 1)
    assert not torch.equal(augmented, data.read(slice(10, 20), Key(9, "x"), 3, True))
    assert not torch.equal(augmented, data.read(slice(10, 20), Key(9, "x"), 4, False))


def test_a_stopped_store_goes_on_with_the_next_block(
    network: torch.nn.Module, digits_store: Path, tmp_path: Path
) -> None:
    data = open_inputs(digits_store, ["train", "select"], CPU, None, CROP)
    source = FeatureModel(network, EDM(), 0, CPU)
    copies = [Copies("train", "augmented", 3), Copies("select", "identity", 2)]
    levels = [EDM().level(sigma) for sigma in (0.1, 0.5)]
    seen: list[int] = []

    def write(path: Path, level: object, identity: str = "a", stop: int = 10**9) -> str:
        def report(done: int) -> None:
            seen.append(done)
            if len(seen) > stop:
                raise KeyboardInterrupt

        seen.clear()
        return write_level(path, source, data, level, WANTED, copies, identity, report)

    first = write(tmp_path / "p/0.1.zarr", levels[0])
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "p/0.5.zarr", levels[1], stop=2)
    half, straight = tmp_path / "p/0.5.zarr", tmp_path / "straight.zarr"
    block = half / "train/augmented/mid/c/1/0/0"
    block.with_suffix(f".{'a' * 32}.partial").touch()  # a kill leaves this, and a cut line
    with (half / "blocks.jsonl").open("a") as log:
        log.write('["train", "aug')
    blocks = {path: path.stat().st_mtime_ns for path in half.rglob("c/*/*/*") if path.suffix != ".partial"}
    before = (tmp_path / "p/0.1.zarr/train/augmented/mid/c/0/0/0").stat().st_mtime_ns
    assert write(tmp_path / "p/0.1.zarr", levels[0]) == first and seen == [3 * 400 + 2 * 200]  # at once
    assert (tmp_path / "p/0.1.zarr/train/augmented/mid/c/0/0/0").stat().st_mtime_ns == before
    assert write(half, levels[1]) == write(straight, levels[1]) and seen == [400, 400, 400, 200, 200]
    assert block in blocks and all(path.stat().st_mtime_ns == time for path, time in blocks.items())
    assert sha256(half) == sha256(straight)
    assert write(tmp_path / "p/0.1.zarr", levels[0], "other weights") == first and len(seen) == 5
    write(tmp_path / "p/9.zarr", EDM().level(9.0))
    finish(tmp_path / "p", tmp_path / "whole", levels, {"content": "c"})
    assert sorted(path.name for path in (tmp_path / "whole").iterdir()) == ["0.1.zarr", "0.5.zarr", MANIFEST]
    stored = array(tmp_path / "whole", "0.5", "train", "augmented", "out_2.tokens")
    assert stored.shape == (3, 400, 256) and stored.dtype == np.float16
    assert damage(tmp_path / "whole") == []
    chunk = tmp_path / "whole/0.5.zarr/select/identity/mid/c/1/0/0"
    chunk.write_bytes(chunk.read_bytes()[:-8])
    (line,) = damage(tmp_path / "whole")
    assert line.startswith(f"{chunk}: damaged (") and "checksum" in line

    labels = {"train": np.zeros(400, np.int64), "select": np.ones(200, np.int64)}
    folders = dict.fromkeys(("0.1", "0.5"), tmp_path / "whole")
    table = StoredFeatures(folders, labels, True).table([("0.1", "mid"), ("0.5", "out_2")], ["train"], "augmented")
    direct = [next(source.blocks(data["train"], Pass(level, WANTED, "features", 2, True)))[1] for level in levels]
    expected = torch.cat([direct[0]["mid"], direct[1]["out_2"]], 1).half()
    assert torch.equal(table.read(0, 2), expected) and table.widths == [16, 16]


def test_a_block_that_could_not_be_written_is_written_next_time(
    network: torch.nn.Module, digits_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = open_inputs(digits_store, ["train", "select"], CPU, None, CROP)
    source, level = FeatureModel(network, EDM(), 0, CPU), EDM().level(0.5)
    copies = [Copies("train", "augmented", 3), Copies("select", "identity", 2)]

    def write(path: Path) -> str:
        return write_level(path, source, data, level, WANTED, copies, "a", lambda done: None)

    def full_once(*arguments: Any) -> str:
        monkeypatch.setattr(featurestore, "write_block", usual)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    usual = featurestore.write_block
    monkeypatch.setattr(featurestore, "write_block", full_once)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path / "full.zarr")  # the blocks behind it wait for the writer, which could write them
    assert write(tmp_path / "full.zarr") == write(tmp_path / "straight.zarr")
    assert sha256(tmp_path / "full.zarr") == sha256(tmp_path / "straight.zarr")


def test_cached_copies_give_the_heads_that_epochs_on_the_fly_give(
    network: torch.nn.Module, digits_store: Path, tmp_path: Path
) -> None:
    """Three copies and three epochs: every image cropped and noised anew in each, as the published recipe has it."""
    data = open_inputs(digits_store, ["train"], CPU, None, CROP)["train"]
    level, wanted = EDM().level(0.2), {"out_1": ("out_1", "mean")}
    source = FeatureModel(network, EDM(), 1, CPU)
    write_level(
        tmp_path / "0.2.zarr", source, {"train": data}, level, wanted, [Copies("train", "augmented", 3)], "", print
    )
    labels = {"train": images.labels(digits_store, "train")}
    table = StoredFeatures({"0.2": tmp_path}, labels, True).table([("0.2", "out_1")], ["train"], "augmented")
    published = {"lr": [0.01], "epochs": 3, "batch": 64, "weight_decay": 0.0, "standardise": False, "cosine": "epoch"}
    heads = fit(Linear(kind="linear", **published), [table], [7], 10, 2**30, CPU)

    numbers = table_of(torch.arange(400.0)[None, :, None], table.labels)  # rows by number, to see their order
    order = row_stream(numbers, 7, 2**30, CPU).read(0, 3 * 400)[0][:, 0].long()
    linear = torch.nn.Linear(16, 10)
    torch.nn.init.zeros_(linear.weight), torch.nn.init.zeros_(linear.bias)
    adam = torch.optim.Adam(linear.parameters(), lr=0.01)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(adam, 3)
    for epoch in range(3):
        for rows in order[epoch * 400 : (epoch + 1) * 400].split(64):
            crops = torch.cat([data.read(slice(i, i + 1), Key(1, ""), epoch, True) for i in rows.tolist()])
            key = Key(1, "features/augmented/0.2")
            h = source.pooled(crops, torch.from_numpy(data.rows[rows]), level, wanted, key, epoch)["out_1"]
            adam.zero_grad()
            torch.nn.functional.cross_entropy(linear(h.clone()), table.labels[rows]).backward()
            adam.step()
        cosine.step()
    torch.testing.assert_close(heads.groups[0].weight[0, 0], linear.weight.detach(), rtol=1e-2, atol=2e-3)
    assert linear.weight.abs().max() > 0.1


@given(st.integers(1, 3000), st.integers(1, 3), st.lists(st.integers(1, 4), min_size=1, max_size=3), st.booleans())
def test_a_table_reads_as_it_was_given(n: int, draws: int, widths: list[int], held: bool) -> None:
    rng = np.random.default_rng(n)
    values = torch.from_numpy(rng.normal(size=(draws, n, sum(widths))).astype(np.float16))
    table = table_of(values, torch.arange(n), widths).within(2**30 if held else 0)
    for view in (table, table.some(draws - 1, 1), table.mean(), table.joined()):
        for copy in range(view.copies):
            rows = torch.cat([view.read(i, copy) for i in range(len(view.sizes))])
            expected = values.float().mean(0) if view.averaged else values[view.first + copy]
            torch.testing.assert_close(rows, expected.to(rows.dtype))
        assert torch.equal(torch.cat([view.chunk_labels(i) for i in range(len(view.sizes))]), table.labels)
    assert bool(table.held) == held and table.joined().widths == [sum(widths)]


def test_levels_are_meant_as_recipes_count() -> None:

    edm = edm_sigmas(18, 0.002, 80.0)
    assert grid_levels(experiment(levels=[{"edm_index": i} for i in (1, 4, 18)])) == [edm[17], edm[14], edm[0]]
    assert edm[14] == pytest.approx(0.05995, rel=1e-4)  # index 4 of DDAE
    table = ratios(linear_abar(1000, 1e-4, 0.02))
    dit = {"kind": "dit", "width": 16, "depth": 2, "heads": 2, "patch": 2}
    for network, taps, step in ((UNET, ["mid"], 122), (dit, ["block_0"], 121)):  # counted from 1, and from 0
        probe = EXPERIMENT["probe"] | {"levels": [{"t": step}], "taps": taps}
        ddpm = EXPERIMENT | {"process": {"kind": "ddpm"}, "network": network, "probe": probe}
        ddpm |= {"sample": {"samplers": {"s": {"kind": "ddim"}}}}
        config = parse({"datasets": {"digits": {"source": {"kind": "digits"}}}, "experiments": {"x": ddpm}})
        assert grid_levels(config.experiments["x"]) == [table[122]]


def test_a_random_view_is_drawn_by_image_and_copy(digits_store: Path) -> None:
    """The share of images that the published transform crops; the same in any batch, another in each copy."""
    view = RandomView(crop=RandomCrop(p=0.65), randaugment=None)
    data = open_inputs(digits_store, ["train"], CPU, None, view)["train"]
    plain, first, second = (data.read(slice(0, 400), Key(9, "x"), *copy) for copy in ((0, False), (0, True), (1, True)))
    changed = (first != plain).flatten(1).any(1)
    assert changed.float().mean() == pytest.approx(0.65, abs=0.08)
    assert not torch.equal(first, second)
    torch.testing.assert_close(data.read(slice(7, 9), Key(9, "y"), 1, True), second[7:9], rtol=0, atol=0)
