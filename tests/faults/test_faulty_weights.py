"""Hostile weights and settings of others: `import` of diffusers, DDAE and EDM, published autoencoders; and `export`."""

import argparse
import io
import json
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from damage import as_json, flips, of_other_types, whole_file, written
from diffusers import AutoencoderKL
from harness import Sandbox, complaints, restore
from safetensors.torch import load_file, save, save_file
from toy_networks import OURS, diffusers_model, saved

EXPERIMENT = {
    "dataset": "digits",
    "network": OURS,
    "process": {"kind": "ddpm"},
    "train": {"checkpoints": [1], "imported": "x.safetensors"},
    "sample": {"samplers": {"s": {"kind": "ddim", "steps": 10}}},
}
EDM = EXPERIMENT | {  # the smallest network that EDM's code makes
    "network": {"kind": "unet", "channels": 128, "multipliers": [1], "blocks": 1, "attention": [0]},
    "process": {"kind": "edm"},
    "sample": {"samplers": {"s": {"kind": "heun", "steps": 10}}},
}
CONFIG = {"datasets": {"digits": {"source": {"kind": "digits"}}}, "experiments": {"x": EXPERIMENT, "edm": EDM}}
FILE = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model of diffusers, and an autoencoder."""
    folder = tmp_path_factory.mktemp("originals")
    saved(diffusers_model(), folder / "model")
    down, up = ("DownEncoderBlock2D",) * 2, ("UpDecoderBlock2D",) * 2
    torch.manual_seed(0)
    AutoencoderKL(
        down_block_types=down, up_block_types=up, block_out_channels=(8, 16), norm_num_groups=4
    ).save_pretrained(folder / "vae")
    return folder


@pytest.fixture
def model(sandbox: Sandbox, originals: Path) -> Path:
    shutil.copytree(originals / "model", sandbox.work / "model")
    (sandbox.work / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    outcome = imported(sandbox)
    assert outcome.status == 0, outcome
    (sandbox.work / "x.safetensors").unlink()
    return sandbox.work / "model"


def imported(sandbox: Sandbox, source: str = "model", form: str = "diffusers"):
    return sandbox.run(
        "import",
        source,
        "--format",
        form,
        "--experiment",
        "edm" if form == "edm" else "x",
        "--configfile",
        "config.yaml",
    )


def refused(sandbox: Sandbox, what: str, named: str, source: str = "model", form: str = "diffusers") -> list[str]:
    sandbox.inputs += 1
    made = sandbox.work / "x.safetensors"
    with sandbox.unchanged("work/x.safetensors"):
        outcome = imported(sandbox, source, form)
    wrong = complaints(outcome, named) + (["a checkpoint was made"] if made.exists() else [])
    made.unlink(missing_ok=True)
    return [f"{what}: {line}" for line in wrong]


def refused_or_same(sandbox: Sandbox, what: str, sound: bytes, named: str) -> list[str]:
    """For settings of which some change nothing: the imported file is the one of the sound settings, or refused."""
    sandbox.inputs += 1
    with sandbox.unchanged("work/x.safetensors"):
        outcome = imported(sandbox)
    made = sandbox.work / "x.safetensors"
    if outcome.status == 0:
        same = load_file(made).keys() == load_file(sandbox.work / "sound").keys()
        made.unlink()
        return [] if same and sound else [f"{what}: passed"]
    assert not made.exists()
    return [f"{what}: {line}" for line in complaints(outcome, named)]


def test_settings_of_other_types(sandbox: Sandbox, model: Path) -> None:
    imported(sandbox)
    (sandbox.work / "x.safetensors").rename(sandbox.work / "sound")
    wrong: list[str] = []
    for name in ("config.json", "scheduler_config.json"):
        content = (model / name).read_bytes()
        damaged = [(what, as_json(value)) for what, value in of_other_types(json.loads(content), 130)]
        damaged += [pair for pair in whole_file(content) if pair[0] != "without its first kilobyte"]
        damaged += [("nested", b"[" * 100_000), ("a key twice", content.rstrip()[:-1] + b', "in_channels": 3}')]
        for what, bad in damaged:
            written(model / name, bad)
            wrong += refused_or_same(sandbox, f"{name}: {what}", b"x", "")
        written(model / name, content)
    assert not wrong, f"{len(wrong)}\n" + "\n".join(wrong)


def states(state: dict[str, torch.Tensor]) -> Iterator[tuple[str, Any]]:
    """State dicts that are not, or not of this network."""
    name = next(iter(state))
    first = state[name]

    def other(value: object) -> dict[str, Any]:
        return state | {name: value}

    yield "NaN", other(torch.full_like(first, float("nan")))
    yield "infinity", other(torch.full_like(first, float("inf")))
    yield "complex numbers", other(first.to(torch.complex64))
    yield "whole numbers", other(first.to(torch.int8))
    yield "truth", other(first > 0)
    yield "eight bits", other(first.to(torch.float8_e4m3fn))
    yield "another shape", other(first[:1])
    yield "no dimension", other(first.sum())
    yield "nothing", other(first[:0])
    yield "one dimension more", other(first[None])
    yield "a number", other(1.0)
    yield "text", other("x")
    yield "a list", other([1.0])
    yield "null", other(None)
    yield "a mapping", other({"weight": first})
    yield "a sparse tensor", other(first.to_sparse())
    yield "a tensor without memory", other(first.to("meta"))
    yield "a name that is a number", {**state, 7: first}
    yield "a name that is a list", {**state, ("a", "b"): first}
    yield "a name with an escape", {**state, "a\x1b[2J\nb": first}
    yield "a name too few", {key: value for key, value in state.items() if key != name}
    yield "a name too many", {**state, "stranger.weight": first}
    yield "no names", {}
    yield "in a list", [state]
    yield "in text", "state"
    yield "in a number", 7
    yield "in null", None
    yield "in a tensor", first
    yield "of a state dict in a list", {"state_dict": [state]}
    yield "of a state dict of null", {"state_dict": None}
    yield "of a model that is text", {"model": "x"}
    yield "of both prefixes", {**{f"module.{key}": value for key, value in state.items()}, **state}
    yield "of a step only", {"step": 7, "opt": {"lr": 1.0}}


class Code:
    """A pickle that runs code."""

    def __reduce__(self) -> tuple[object, ...]:
        import os

        return os.system, ("touch ../outside/owned",)


def pickles() -> Iterator[tuple[str, bytes]]:
    for protocol in (0, 2, 4):
        yield f"code by protocol {protocol}", pickle.dumps({"a": Code()}, protocol)
    file = io.BytesIO()
    torch.save({"state_dict": Code()}, file)
    yield "code in PyTorch's zip", file.getvalue()
    yield "an endless pickle", b"\x80\x04" + b"(" * 1_000_000
    yield "a pickle of 4 GB", b"\x80\x04\x8e" + (1 << 62).to_bytes(8, "little")
    yield "a memo of 2^31", b"\x80\x04]r\xff\xff\xff\x7f."
    file = io.BytesIO()
    torch.save(argparse.Namespace(x=1), file)
    yield "arguments", file.getvalue()


@pytest.mark.parametrize("form", ["diffusers", "ddae", "edm"])
def test_state_dicts_of_other_types(form: str, sandbox: Sandbox, model: Path) -> None:
    state, wrong = load_file(model / FILE), []
    (model / FILE).unlink()
    name = "diffusion_pytorch_model.bin" if form == "diffusers" else "bad.pth" if form == "ddae" else "bad.pt"
    path = model / name if form == "diffusers" else sandbox.work / name
    source = "model" if form == "diffusers" else name
    for what, content in states(state):
        torch.save(content, path)
        wrong += refused(sandbox, what, name if form != "diffusers" else "", source, form)
    for what, content in pickles():
        written(path, content)
        wrong += refused(sandbox, what, name, source, form)
    torch.save(state, path)
    whole = path.read_bytes()
    for what, content in [*whole_file(whole), *flips(whole, 10)]:
        written(path, content)
        if form == "diffusers" and "turned" in what:
            continue  # judged below, where its checksums are looked at
        wrong += refused(sandbox, what, name, source, form)
    assert not (sandbox.place / "outside" / "owned").exists()
    assert not wrong, f"{len(wrong)}\n" + "\n".join(wrong)


def safetensors_headers(content: bytes) -> Iterator[tuple[str, bytes]]:
    """A safetensors file with a header of lies."""
    length = int.from_bytes(content[:8], "little")
    header, body = json.loads(content[8 : 8 + length]), content[8 + length :]
    name = next(key for key in header if key != "__metadata__")

    def packed(value: Any, size: int | None = None) -> bytes:
        text = value if isinstance(value, bytes) else json.dumps(value).encode()
        return (len(text) if size is None else size).to_bytes(8, "little") + text + body

    yield "a header of 2^62", packed(header, 1 << 62)
    yield "a header of 100 MB", packed(header, 10**8)
    yield "a header of nothing", packed(b"")
    yield "a list for a header", packed([])
    yield "a nested header", packed(b"[" * 100_000)
    for key, value in {
        "dtype": "F63", "shape": [-1], "data_offsets": [0, 1 << 62],
    }.items():  # fmt: skip
        yield f"{key} {value}", packed(header | {name: header[name] | {key: value}})
    yield "a shape of 2^40", packed(header | {name: header[name] | {"shape": [1 << 40, 1 << 40]}})
    yield "offsets in each other", packed(header | {name: header[name] | {"data_offsets": [0, 4]}})
    yield "metadata that is a list", packed(header | {"__metadata__": []})
    yield "metadata of numbers", packed(header | {"__metadata__": {"a": 1}})
    yield "a name with an escape", packed({f"\x1b[2J{key}" if key == name else key: v for key, v in header.items()})


def test_hostile_safetensors(sandbox: Sandbox, model: Path) -> None:
    wrong: list[str] = []
    content = (model / FILE).read_bytes()
    for what, bad in [*safetensors_headers(content), *whole_file(content)]:
        if what == "a picture in its middle":
            continue  # numbers as good as any: no checksum in the format
        written(model / FILE, bad)
        wrong += refused(sandbox, what, FILE)
    for what, state in states(load_file_of(content)):
        if isinstance(state, dict) and all(plain(key, value) for key, value in state.items()):
            save_file({key: value.clone() for key, value in state.items()}, model / FILE)
            wrong += refused(sandbox, what, "")
    assert not wrong, f"{len(wrong)}\n" + "\n".join(wrong)


def plain(key: object, value: object) -> bool:
    """Whether safetensors can hold it."""
    tensor = isinstance(value, torch.Tensor) and value.layout == torch.strided and not value.is_meta
    return isinstance(key, str) and tensor


def load_file_of(content: bytes) -> dict[str, torch.Tensor]:
    from safetensors.torch import load

    return load(content)


INDICES: dict[str, object] = {
    "no map": {},
    "a map that is a list": {"weight_map": []},
    "a map of numbers": {"weight_map": {"conv_in.weight": 7}},
    "a map of nothing": {"weight_map": {}},
    "a path outside": {"weight_map": {"conv_in.weight": "../../outside/precious.txt"}},
    "an absolute path": {"weight_map": {"conv_in.weight": "/etc/passwd"}},
    "a file that is not there": {"weight_map": {"conv_in.weight": "gone.safetensors"}},
    "itself": {"weight_map": {"conv_in.weight": f"{FILE}.index.json"}},
    "another kind of file": {"weight_map": {"conv_in.weight": "config.json"}},
    "null": None,
    "text": "x",
    "a name with NUL": {"weight_map": {"conv_in.weight": "a\0b"}},
}


def test_hostile_indices(sandbox: Sandbox, model: Path) -> None:
    wrong: list[str] = []
    (model / FILE).unlink()
    index = model / f"{FILE}.index.json"
    for what, content in INDICES.items():
        written(index, as_json(content))
        wrong += refused(sandbox, what, "model")
    for what, bad in whole_file(b'{"weight_map": {"a": "b.safetensors"}}'):
        written(index, bad)
        wrong += refused(sandbox, what, "model")
    assert not wrong, f"{len(wrong)}\n" + "\n".join(wrong)


def test_hostile_sources(sandbox: Sandbox, model: Path) -> None:
    """Of `import`: what is no model."""
    wrong: list[str] = []
    (sandbox.work / "empty").mkdir()
    (sandbox.work / "loop").symlink_to("loop")
    for form in ("diffusers", "ddae", "edm"):
        for source in (
            "nowhere",
            "empty",
            "loop",
            "mine.txt",
            "config.yaml",
            "",
            "x" * 300,
            "/dev/null",
            "owner/model",
            "a/b/c",
        ):
            named = source[:100] if source and source.isprintable() else ""
            wrong += refused(sandbox, f"{form} {source[:20]!r}", named, source, form)
    for out in ("mine.txt", "mine.txt/x.safetensors", "empty", "/proc/x.safetensors", "", "x" * 300):
        sandbox.inputs += 1
        with sandbox.unchanged():
            words = ["--format", "diffusers", "--experiment", "x", "--configfile", "config.yaml", "--out", out]
            outcome = sandbox.run("import", "model", *words)
        wrong += [f"--out {out[:20]}: {line}" for line in complaints(outcome, out[:100].split("/x")[0])]
    for name in ("nobody", "", "a\nb", "x/../x"):
        sandbox.inputs += 1
        with sandbox.unchanged():
            outcome = sandbox.run(
                "import", "model", "--format", "ddae", f"--experiment={name}", "--configfile", "config.yaml"
            )
        wrong += [f"--experiment {name!r}: {line}" for line in complaints(outcome, "experiment")]
    assert not wrong, f"{len(wrong)}\n" + "\n".join(wrong)


# --- published autoencoders, by the job that converts them


def test_hostile_autoencoders(sandbox: Sandbox, originals: Path) -> None:
    folder = shutil.copytree(originals / "vae", sandbox.work / "vae")
    (sandbox.work / "logs" / "pretrained").mkdir(parents=True)
    settings, weights = (folder / "config.json").read_bytes(), (folder / FILE).read_bytes()
    entry = {"kind": "pretrained", "source": "vae", "size": 16, "resize": "repeat", "factor": 2}
    words = ["--out", "weights=out/ema.safetensors", "receipt=out/receipt.json", "--log", "logs/pretrained/vae.log"]
    words += ["--threads", "1", "--with", "name=vae"]

    def convert(what: str, damaged: str, content: bytes, named: str) -> list[str]:
        written(folder / damaged, content)
        sandbox.inputs += 1
        with sandbox.unchanged("work/logs*", "work/out*"):
            outcome = sandbox.job("pretrained", json.dumps(entry), *words)
        made = sandbox.work / "out" / "ema.safetensors"
        if outcome.status == 0:
            made.unlink()
            return ["passed"] if not named else []
        assert not made.exists()
        return [f"{damaged}: {what}: {line}" for line in complaints(outcome, named)]

    wrong: list[str] = []
    for what, value in of_other_types(json.loads(settings), 100):
        wrong += convert(what, "config.json", as_json(value), "vae")
    for what, content in list(whole_file(settings))[:7]:
        wrong += convert(what, "config.json", content, "vae")
    written(folder / "config.json", settings)
    state = load_file(folder / FILE)
    for what, content in [*safetensors_headers(weights), *list(whole_file(weights))[:7]]:
        wrong += convert(what, FILE, content, "vae")
    for what, bad in states(state):
        if what in ("NaN", "infinity", "another shape", "a name too few", "nothing", "whole numbers", "no names"):
            wrong += convert(what, FILE, save({key: value.clone() for key, value in bad.items()}), "vae")
    assert not wrong, f"{len(wrong)}\n" + "\n".join(wrong)


# --- export


def test_hostile_exports(sandbox: Sandbox, finished: Path) -> None:
    restore(finished, sandbox.work)
    (sandbox.work / "mine.txt").write_text("of the user\n")
    wrong: list[str] = []

    def export(*words: object, names: str = "") -> None:
        sandbox.inputs += 1
        with sandbox.unchanged():
            outcome = sandbox.run("export", *words)
        wrong.extend(f"{words}: {line}" for line in complaints(outcome, names))

    (sandbox.work / "model").mkdir()
    (sandbox.work / "model" / "config.json").write_text('{"_class_name": "UNet2DModel"}')
    (sandbox.work / "model" / "diary.txt").touch()
    (sandbox.work / "link").symlink_to("../outside")
    (sandbox.work / "file.safetensors").symlink_to("../outside/precious.txt")
    for out in ("model", "photos", "mine.txt", "results", ".", "link", "mine.txt/x", "/proc/x"):
        for form in ("safetensors", "diffusers"):
            export(out, "--format", form, "--experiment", "tiny")
        for form in ("hdf5", "npy"):
            export(out, "--format", form, "--latents", "views")
    export("file.safetensors", "--format", "safetensors", "--experiment", "tiny")
    export("out.safetensors", "--format", "safetensors", "--experiment", "nobody", names="nobody")
    export("out.safetensors", "--format", "safetensors", "--experiment", "tiny", "--kimg", "7", names="7")
    export("out.safetensors", "--format", "safetensors", "--experiment", "tiny", "--kimg", "-1")
    export("out.safetensors", "--format", "safetensors", "--experiment", "tiny", "--weights", "nobody", names="nobody")
    export("out.safetensors", "--format", "safetensors", "--experiment", "tiny", "--weights", "../../x")
    export("out", "--format", "diffusers", "--experiment", "tiny_dit")
    export("out.h5", "--format", "hdf5", "--latents", "nobody", names="nobody")
    export("out.h5", "--format", "hdf5", "--experiment", "tiny", names="--format")
    for value in ("nan", "inf", "0", "-1"):
        export("out", "--format", "npy", "--latents", "views", f"--scaled={value}", names="--scaled")
    assert not wrong, f"{len(wrong)}\n" + "\n".join(wrong)


@pytest.mark.parametrize("form", ["safetensors", "diffusers"])
def test_exports_of_damaged_checkpoints(form: str, sandbox: Sandbox, finished: Path) -> None:
    restore(finished, sandbox.work)
    name = "results/runs/tiny/checkpoints/2/ema.safetensors"
    content, wrong = (finished / name).read_bytes(), []
    for what, bad in [*safetensors_headers(content), *whole_file(content), *flips(content, 12)]:
        written(sandbox.work / name, bad)
        sandbox.inputs += 1
        with sandbox.unchanged():
            outcome = sandbox.run(
                "export",
                "out.safetensors" if form == "safetensors" else "out",
                "--format",
                form,
                "--experiment",
                "tiny",
            )
        wrong += [f"{what}: {line}" for line in complaints(outcome, "ema.safetensors")]
    assert not wrong, f"{len(wrong)}\n" + "\n".join(wrong)


# --- latents of others

Peer = Callable[[Path, Path], None]


def peers(kind: str) -> Iterator[tuple[str, Callable[[Path], None]]]:
    """Damage to a folder of another system's latents."""

    def array(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
        return lambda folder: np.save(folder / name, change(np.load(folder / name)), allow_pickle=True)

    if kind in ("npy", "files"):
        latents, labels = (
            ("train_code_0.npy", "train_label.npy") if kind == "npy" else ("0.npy", "../toy256_labels/0.npy")
        )
        for what, change in {
            "NaN": lambda a: np.full_like(a, np.nan),
            "infinity": lambda a: np.full_like(a, np.inf),
            "beyond float16": lambda a: np.full_like(a, 1e9),
            "complex numbers": lambda a: a.astype(np.complex64),
            "text": lambda a: a.astype("U4"),
            "objects": lambda a: a.astype(object),
            "whole numbers": lambda a: a.astype(np.int64),
            "one row less": lambda a: a[:-1],
            "one channel less": lambda a: a[:, :-1],
            "no dimension": lambda a: np.float32(1),
            "one dimension more": lambda a: a[None],
            "records": lambda a: np.zeros(a.shape, [("x", "f4")]),
        }.items():
            yield what, array(latents, change)
        for what, change in {
            "labels of floats": lambda a: a.astype(np.float32),
            "labels of text": lambda a: a.astype("U4"),
            "labels of 10^18": lambda a: np.full_like(a, 10**18),
            "other labels": lambda a: a + 1,
            "one label more": lambda a: np.append(a, a[:1]),
            "negative labels": lambda a: -5 - a,
        }.items():
            yield what, array(labels, change)
        files = [latents, labels]
    else:
        files = ["latents_rank00_shard000.safetensors"]
    for name in files:

        def damage(folder: Path, bad: bytes, name: str = name) -> None:
            written(folder / name, bad)

        if name != "train_label.npy":  # which others need not have
            yield f"{name} missing", lambda folder, name=name: (folder / name).unlink()
        for number in range(8):

            def whole(folder: Path, number: int = number, name: str = name) -> None:
                damages = list(whole_file((folder / name).read_bytes()))
                damage(folder, damages[number][1], name)

            if number < 7:
                yield f"{name} damaged ({number})", whole
    if kind == "safetensors":
        for number in range(12):  # the last renames the labels, which others need not have

            def lie(folder: Path, number: int = number) -> None:
                damages = list(safetensors_headers((folder / files[0]).read_bytes()))
                if number < len(damages):
                    damage(folder, damages[number][1], files[0])

            yield f"header {number}", lie

        def ranks(folder: Path) -> None:
            (folder / files[0]).rename(folder / "latents_rank1000000000_shard000.safetensors")

        yield "a rank of 10^9", ranks

        def shards(folder: Path) -> None:
            (folder / files[0]).rename(folder / "latents_rank00_shard99999999999999999999.safetensors")

        yield "a shard of 10^20", shards

        def nan(folder: Path) -> None:
            state = load_file(folder / files[0])
            save_file(state | {"latents": torch.full_like(state["latents"], float("nan"))}, folder / files[0])

        yield "NaN", nan

        def empty(folder: Path) -> None:
            state = load_file(folder / files[0])
            save_file({key: value[:0].clone() for key, value in state.items()}, folder / files[0])

        yield "no rows", empty


@pytest.mark.parametrize("kind", ["npy", "files", "safetensors"])
def test_hostile_latents_of_others(kind: str, sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> None:
    from toy_peers import import_job, imported, listing, write_files, write_npy, write_shards, write_shuffled_images

    from diffprobe.data.splits import TEST
    from diffprobe.runtime.errors import UserError

    place = tmp_path_factory.mktemp("peers")
    store = write_shuffled_images(place / "images.h5")
    folder = place / "original" / ("toy256_features" if kind == "files" else "peer")
    if kind == "npy":
        write_npy(folder, store)
    elif kind == "files":
        write_files(folder, store)
    else:
        rows, split, labels = listing(store)
        write_shards(folder, rows[split != TEST], labels[split != TEST], 2)
    shutil.copytree(folder.parent, sandbox.work / "theirs")

    def bring() -> None:
        import sys

        try:
            imported(sandbox.work, store, import_job(kind, sandbox.work / "theirs" / folder.name))
        except UserError as error:
            sys.exit(str(error))

    sound = sandbox.call(bring)
    assert sound.status == 0, sound
    shutil.rmtree(sandbox.work / "latents.zarr")
    shutil.rmtree(sandbox.work / "parts", ignore_errors=True)
    wrong: list[str] = []
    for what, damage in peers(kind):
        damage(sandbox.work / "theirs" / folder.name)
        sandbox.inputs += 1
        with sandbox.unchanged("work/latents.zarr*", "work/parts*"):
            outcome = sandbox.call(bring)
        wrong += [f"{what}: {line}" for line in complaints(outcome, "theirs")]
        if (sandbox.work / "latents.zarr" / "zarr.json").exists():
            wrong.append(f"{what}: a store was finished")
        restore(folder.parent, sandbox.work / "theirs")
        for made in ("latents.zarr", "parts"):
            shutil.rmtree(sandbox.work / made, ignore_errors=True)
    assert not wrong, f"{len(wrong)}\n" + "\n".join(wrong)
