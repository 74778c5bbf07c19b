"""Weights from DDAE and diffusers, and to diffusers: names, outputs, refusals, the command lines."""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest
import torch
import yaml
from diffusers import DDIMPipeline, DDIMScheduler, DDPMPipeline, DDPMScheduler, UNet2DModel
from safetensors.torch import load_file, save_file
from torch import Tensor
from toy_networks import CIFAR10, OLD_NAMES, OURS, SMALL, config, diffusers_model, refusal, saved

from diffprobe.__main__ import main
from diffprobe.config import processes
from diffprobe.config.built import parse_model, parse_network
from diffprobe.config.models import Config
from diffprobe.config.processes import ddpm
from diffprobe.config.samplers.ddim import DDIM
from diffprobe.diffusion.build import build_process, build_sampler
from diffprobe.evaluation import model
from diffprobe.interop import ddae, diffusers_unet
from diffprobe.interop.diffusers_unet import plain
from diffprobe.interop.exporting import export
from diffprobe.interop.importing import import_weights
from diffprobe.interop.source import read
from diffprobe.networks.build import build
from diffprobe.networks.unet import UNet
from diffprobe.plan import job_arguments
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import sha256
from diffprobe.training import checkpoints

CPU = torch.device("cpu")
X = torch.randn(4, 1, 8, 8, generator=torch.manual_seed(1))
T = torch.tensor([0.0, 1.0, 250.0, 999.0])


# --- diffusers


def as_published(folder: Path, into: Path) -> Path:
    """The same model in the layout of a pipeline, pickled, its attention layers under their old names."""
    state = load_file(folder / "diffusion_pytorch_model.safetensors")
    for new, old in OLD_NAMES.items():
        state = {name.replace(f".{new}.", f".{old}."): value for name, value in state.items()}
    assert any(".proj_attn." in name for name in state)
    (into / "unet").mkdir(parents=True)
    torch.save(state, into / "unet" / "diffusion_pytorch_model.bin")
    (into / "unet" / "config.json").write_text((folder / "config.json").read_text())
    return into


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("published", [False, True])
@torch.no_grad()
def test_a_diffusers_model_comes_and_goes(tmp_path: Path, padding: int, published: bool) -> None:
    theirs = diffusers_model(downsample_padding=padding)
    folder = saved(theirs, tmp_path / "model")
    source = as_published(folder, tmp_path / "published") if published else folder
    ours = config(OURS | {"down_padding": "both" if padding else "right"}, imported=str(tmp_path / "x.safetensors"))
    written = import_weights(ours, "x", "diffusers", str(source))
    assert written.path == tmp_path / "x.safetensors"
    assert written.parameters == sum(p.numel() for p in theirs.parameters())
    network, header = checkpoints.load(written.path, CPU, parse_model)
    torch.testing.assert_close(network(X, T)[0], theirs(X, T).sample, atol=1e-5, rtol=1e-5)
    assert (header["format"], header["weights"], header["image"]) == ("diffusers", ["ema"], [1, 8, 8])
    assert header["source"]["sha256"] == sha256(header["source"]["path"])

    export(written.path, None, "diffusers", tmp_path / "again")
    again = UNet2DModel.from_pretrained(tmp_path / "again")
    wanted = SMALL | {"downsample_padding": padding}
    assert {key: plain(again.config[key]) for key in wanted if key[0] != "_"} == {
        key: value for key, value in wanted.items() if key[0] != "_"
    }
    assert bytes_of(again.state_dict()) == bytes_of(theirs.state_dict())
    torch.testing.assert_close(again(X, T).sample, theirs(X, T).sample)


def bytes_of(state: dict[str, Tensor]) -> list[tuple[str, bytes]]:
    return sorted((name, value.numpy().tobytes()) for name, value in state.items())


@torch.no_grad()
def test_its_pipelines_draw_what_we_draw(tmp_path: Path) -> None:
    """DDIM from the same start: their loop over the exported folder, and ours."""
    folder = saved(diffusers_model(), tmp_path / "model")
    written = import_weights(config(OURS), "x", "diffusers", str(folder), tmp_path / "x.safetensors")
    export(written.path, "ema", "diffusers", tmp_path / "out")
    assert DDPMPipeline.from_pretrained(tmp_path / "out").scheduler.config.variance_type == "fixed_large"
    pipeline = DDIMPipeline.from_pretrained(tmp_path / "out")
    assert isinstance(pipeline.scheduler, DDIMScheduler)
    pipeline.scheduler.set_timesteps(10)
    x = X
    for t in pipeline.scheduler.timesteps:
        x = pipeline.scheduler.step(pipeline.unet(x, t).sample, t, x, use_clipped_model_output=True).prev_sample

    loaded = model.load(written.path, CPU)
    sampler = build_sampler(DDIM(kind="ddim", steps=10, clip=True), processes.Process.member(loaded.header["process"]))
    mine = sampler.run(lambda x, level: sampler.process.denoise(loaded.network, x, level.of(x)), X, None)
    torch.testing.assert_close(x, mine, atol=1e-4, rtol=1e-4)


def test_a_cosine_schedule_is_theirs_both_ways() -> None:
    cosine = ddpm.DDPM(kind="ddpm", beta_schedule="cosine")
    scheduler = DDIMScheduler.from_config(diffusers_unet.their_scheduler(cosine))
    assert scheduler.alphas_cumprod.tolist() == pytest.approx(build_process(cosine).abar[1:], rel=1e-3)
    flow, zero_snr = {"num_train_timesteps": 1000, "shift": 3.0}, {**scheduler.config, "rescale_betas_zero_snr": True}
    for other in (flow, zero_snr):
        assert diffusers_unet.our_process(other)["kind"].startswith("none that is here")
    assert diffusers_unet.our_process({}) == {}
    back = diffusers_unet.our_process(scheduler.config)
    assert processes.Process.member(back) == cosine
    linear = ddpm.DDPM(kind="ddpm").options | {"kind": "ddpm"}
    assert list(diffusers_unet.differing(linear, back)) == [("beta_schedule", "linear", "cosine")]


def test_every_name_of_the_published_ddpm_has_one_of_ours() -> None:
    with torch.device("meta"):
        theirs = UNet2DModel.from_config(CIFAR10)
        whole = diffusers_unet.whole(CIFAR10)
        assert not list(diffusers_unet.refused_config(whole))
        ours = UNet(3, **diffusers_unet.our_network(whole))
    names = diffusers_unet.unet_names(ours)
    mapped = [name for several in names.values() for name in several]
    assert set(names) == set(ours.state_dict())
    assert sorted(mapped) == sorted(theirs.state_dict())
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters()) == 35_746_307


@torch.no_grad()
def test_the_network_diffusers_takes_the_weights_as_they_are(tmp_path: Path) -> None:
    theirs = diffusers_model()
    folder = saved(theirs, tmp_path / "model")
    wrapped = config({"kind": "diffusers", "path": str(folder)})
    source = as_published(folder, tmp_path / "published")
    written = import_weights(wrapped, "x", "diffusers", str(source), tmp_path / "x.safetensors")
    network, header = checkpoints.load(written.path, CPU, parse_model)
    torch.testing.assert_close(network(X, T)[0], theirs(X, T).sample)
    assert header["network"]["config"]["_class_name"] == "UNet2DModel"
    export(written.path, None, "diffusers", tmp_path / "out")
    assert bytes_of(UNet2DModel.from_pretrained(tmp_path / "out").state_dict()) == bytes_of(theirs.state_dict())


@pytest.mark.parametrize(
    ("changes", "process", "line"),
    [
        ({"norm_eps": 1e-5}, {}, "experiments.x.network.norm_eps: 1e-05 is refused; allowed: 1e-06, as"),
        ({"down_padding": "both"}, {}, "experiments.x.network.down_padding: both is refused; allowed: right"),
        ({"attention": []}, {}, r"experiments.x.network.attention: \[\] is refused; allowed: \[1\]"),
        ({}, {"beta_max": 0.01}, "experiments.x.process.beta_max: 0.01 is refused; allowed: 0.02"),
        ({}, {"time_input": "fraction"}, "experiments.x.process.time_input: fraction is refused; allowed: index"),
        ({}, {"kind": "edm"}, "experiments.x.process.kind: edm is refused; allowed: ddpm"),
        ({"conditional": True}, {}, "experiments.x.network.conditional: True is refused; allowed: false"),
    ],
)
def test_an_experiment_that_is_not_as_the_source_is_refused(
    tmp_path: Path, changes: dict, process: dict, line: str
) -> None:
    folder = saved(diffusers_model(), tmp_path / "model")
    experiment = config(OURS | changes, {"kind": "ddpm"} | process)
    with pytest.raises(UserError, match=line) as error:
        import_weights(experiment, "x", "diffusers", str(folder), tmp_path / "x.safetensors")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "x.safetensors").exists()


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"flip_sin_to_cos": True}, "flip_sin_to_cos: True has no counterpart"),
        ({"attention_head_dim": 8}, "attention_head_dim: 8 has no counterpart"),
        ({"up_block_types": ["UpBlock2D", "UpBlock2D"]}, "up_block_types: .* has no counterpart"),
        ({"_class_name": "AutoencoderKL"}, "describes a AutoencoderKL; expected a UNet2DModel"),
    ],
)
def test_a_model_that_is_no_u_net_of_ours_is_refused(tmp_path: Path, changes: dict, line: str) -> None:
    folder = saved(diffusers_model(), tmp_path / "model")
    (folder / "config.json").write_text(json.dumps(SMALL | changes))
    with pytest.raises(UserError, match=line):
        import_weights(config(OURS), "x", "diffusers", str(folder), tmp_path / "x.safetensors")


def test_a_damaged_source_is_refused_by_its_first_tensor(tmp_path: Path) -> None:
    folder = saved(diffusers_model(), tmp_path / "model")
    path = folder / "diffusion_pytorch_model.safetensors"
    state = load_file(path)
    for changed, line in (
        (state | {"conv_out.bias": torch.zeros(3)}, "conv_out.bias has shape (3,), expected (1,)"),
        ({name: value for name, value in state.items() if name != "conv_out.bias"}, "lack conv_out.bias"),
        (state | {"conv_more.bias": torch.zeros(3)}, "conv_more.bias of shape (3,) has no place"),
    ):
        save_file(changed, path)
        assert line in refusal(import_weights, config(OURS), "x", "diffusers", str(folder), tmp_path / "x.safetensors")
    path.write_bytes(path.read_bytes()[:1000])
    assert "cannot be read" in refusal(
        import_weights, config(OURS), "x", "diffusers", str(folder), tmp_path / "x.safetensors"
    )


def test_without_the_hub_it_is_said_what_to_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> str:
        raise OSError("no route\nto host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    line = refusal(import_weights, config(OURS), "x", "diffusers", "google/ddpm-cifar10-32", tmp_path / "x.safetensors")
    assert "https://huggingface.co/google/ddpm-cifar10-32 into a folder google/ddpm-cifar10-32" in line
    assert "no such folder" in refusal(
        import_weights, config(OURS), "x", "diffusers", str(tmp_path / "none"), tmp_path / "x.safetensors"
    )


@pytest.mark.parametrize(
    ("changes", "process", "line"),
    [
        ({"head_groups": 4}, {}, "network.head_groups: 4 is refused"),
        ({"resample": "block"}, {}, "network.resample: block is refused"),
        ({"time_scale": 1000.0}, {}, "network.time_scale: 1000.0 is refused"),
        ({"skip_scale": 0.5}, {}, "network.skip_scale: 0.5 is refused"),
        ({"multipliers": [2, 2]}, {}, r"network.multipliers: \[2, 2\] is refused"),
        ({}, {"time_input": "fraction"}, "process.time_input: fraction is refused"),
    ],
)
def test_what_diffusers_cannot_express_is_not_exported(tmp_path: Path, changes: dict, process: dict, line: str) -> None:
    path = checkpoint(tmp_path, config(OURS | changes, {"kind": "ddpm"} | process))
    with pytest.raises(UserError, match=line):
        export(path, None, "diffusers", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    export(path, "raw", "safetensors", tmp_path / "out.safetensors")
    loaded, header = checkpoints.load(tmp_path / "out.safetensors", CPU, parse_model)
    assert header["weights"] == ["raw"]
    assert bytes_of(loaded.state_dict()) == bytes_of(checkpoints.load(path, CPU, parse_model, "raw")[0].state_dict())


def checkpoint(folder: Path, made: Config) -> Path:
    """A checkpoint of the experiment, with two sets of weights."""
    experiment = made.experiments["x"]
    network, process = experiment.network.argument(), job_arguments.dump(experiment.process)
    header = {"network": network, "process": process, "shape": {"image_channels": 1}, "image": [1, 8, 8], "images": 1}
    sets = {name: build(parse_network(network), image_channels=1).state_dict() for name in ("ema", "raw")}
    path = folder / "checkpoint.safetensors"
    checkpoints.write(path, sets, header)
    return path


# --- DDAE: names and shapes as its code (model/unet.py, model/block.py) gives them

RESIDUAL = ["norm1", "conv1", "norm2", "conv2.1", "time_emb.1"]
ATTENTION = ["norm", "projection", "output"]
ONCE = ["image_proj", "time_emb.lin1", "time_emb.lin2", "norm", "final"]
# For each network, by number in the lists `down` and `up`: residual blocks, those with attention, with a shortcut,
# and what resamples.
DDPM = {
    "down": ([0, 1, 3, 4, 6, 7, 9, 10], [3, 4], [3], [2, 5, 8]),
    "up": ([0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14], [8, 9, 10], [0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14], [3, 7, 11]),
}
DDPMPP = {
    "down": ([0, 1, 2, 3, 5, 6, 7, 8, 10, 11, 12, 13], [5, 6, 7, 8], [0], [4, 9]),
    "up": (
        [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 12, 13, 14, 15, 16],
        [6, 7, 8, 9, 10],
        [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 12, 13, 14, 15, 16],
        [5, 11],
    ),
}
SHAPES = {
    "image_proj.weight": (128, 3, 3, 3),
    "time_emb.lin1.weight": (512, 128),
    "down.1.res.time_emb.1.weight": (None, 512),
    "middle.attn.projection.weight": (768, 256),
    "up.0.res.conv1.weight": (256, 512, 3, 3),
    "up.0.res.shortcut.weight": (256, 512, 1, 1),
    "final.weight": (3, None, 3, 3),
}


def ddae_names(parts: dict, blocks_resample: bool) -> set[str]:
    modules = [*ONCE, *(f"middle.attn.{layer}" for layer in ATTENTION)]
    modules += [f"middle.{res}.{layer}" for res in ("res1", "res2") for layer in RESIDUAL]
    for part, (residual, attention, shortcut, resamplers) in parts.items():
        modules += [f"{part}.{i}.res.{layer}" for i in residual for layer in RESIDUAL]
        modules += [f"{part}.{i}.attn.{layer}" for i in attention for layer in ATTENTION]
        modules += [f"{part}.{i}.res.shortcut" for i in shortcut]
        inside = [f"op.{layer}" for layer in RESIDUAL] if blocks_resample else ["conv"]
        modules += [f"{part}.{i}.{layer}" for i in resamplers for layer in inside]
    return {f"{module}.{kind}" for module in modules for kind in ("weight", "bias")}


@pytest.mark.parametrize(
    ("parts", "options", "count"),
    [
        (DDPM, {"multipliers": (1, 2, 2, 2), "blocks": 2}, 35_746_307),
        (DDPMPP, {"multipliers": (2, 2, 2), "blocks": 4, "resample": "block"}, 56_524_291),
        (DDPMPP, {"multipliers": (2, 2, 2), "blocks": 4, "resample": "block", "augment": 9}, 56_525_443),
    ],
    ids=["DDPM", "DDPM++", "DDPM++ augmented"],
)
def test_every_name_of_ddae_has_one_of_ours(parts: dict, options: dict, count: int) -> None:
    with torch.device("meta"):
        network = UNet(3, 128, attention=(1,), **options)
    names = ddae.unet_names(network)
    mapped = {theirs: network.state_dict()[ours].shape for ours, (theirs,) in names.items()}
    augmented = {"time_emb.aug_emb.weight"} if "augment" in options else set()
    assert set(names) == set(network.state_dict()) and len(mapped) == len(names)
    assert set(mapped) == ddae_names(parts, "resample" in options) | augmented
    assert sum(p.numel() for p in network.parameters()) == count
    for name, expected in SHAPES.items():
        shape = tuple(mapped[name])
        assert all(b in (None, a) for a, b in zip(shape, expected, strict=True)), (name, shape)


DDAE_SMALL = {"kind": "unet", "channels": 32, "multipliers": [1, 2], "blocks": 1, "attention": [1], "head_groups": 8}


def ddae_file(path: Path, network: UNet, other: UNet) -> Path:
    """As DDAE's train.py writes one: EMA of `network`, MODEL of `other`."""

    def wrapped(module: UNet, *prefixes: str) -> dict[str, Tensor]:
        names = ddae.unet_names(module)
        state = {f"nn_model.{names[ours][0]}": value for ours, value in module.state_dict().items()}
        state["augpipe.Hz_geom"] = torch.ones(12)
        return {f"{prefix}{name}": value for prefix in prefixes for name, value in state.items()}

    ema = wrapped(other, "online_model.") | wrapped(network, "ema_model.")
    content = {
        "MODEL": wrapped(other, "module."),
        "EMA": ema | {"initted": torch.tensor([True]), "step": torch.tensor([7])},
        "opt": {"state": {0: {"step": torch.tensor(7.0)}}, "param_groups": [{"lr": 1e-4, "params": [0]}]},
        "args": argparse.Namespace(config="x.yaml"),
    }
    torch.save(content, path)
    return path


def ours(**changes: object) -> UNet:
    keys = {key: value for key, value in (DDAE_SMALL | changes).items() if key != "kind"}
    return UNet(1, **keys).eval().requires_grad_(False)


@pytest.mark.parametrize("resample", ["conv", "block"])
def test_a_ddae_checkpoint_is_imported_whole(tmp_path: Path, resample: str) -> None:
    network, other = ours(resample=resample, augment=9), ours(resample=resample, augment=9)
    path = ddae_file(tmp_path / "model_1999.pth", network, other)
    made = config(DDAE_SMALL | {"resample": resample}, {"kind": "edm"}, augment={"p": 0.12})
    written = import_weights(made, "x", "ddae", str(path), tmp_path / "x.safetensors")
    assert written.sets == ["ema", "raw"]
    for name, expected in (("ema", network), ("raw", other)):
        loaded, _ = checkpoints.load(written.path, CPU, parse_model, name)
        assert bytes_of(loaded.state_dict()) == bytes_of(expected.state_dict())


@pytest.mark.parametrize(
    ("changes", "process", "line"),
    [
        ({"head_groups": 32}, {"kind": "edm"}, "network.head_groups: 32 is refused; allowed: 8"),
        ({}, {"kind": "ddpm"}, "process.time_input: index is refused; allowed: fraction"),
        ({}, {"kind": "flow"}, "process.kind: flow is refused"),
        (
            {"channels": 64},
            {"kind": "edm"},
            r"time_emb.lin1.weight has shape \(128, 32\), expected \(256, 64\); set exp",
        ),
        ({"blocks": 2}, {"kind": "edm"}, "lack down.1.res"),
        ({}, {"kind": "edm"}, r"time_emb.aug_emb.weight of shape \(32, 9\) has no place .* train.augment"),
        ({"kind": "dit"}, {"kind": "edm"}, "network.kind: dit is refused; allowed: unet, for --format ddae"),
    ],
)
def test_an_experiment_that_is_not_ddaes_is_refused(tmp_path: Path, changes: dict, process: dict, line: str) -> None:
    path = ddae_file(tmp_path / "m.pth", ours(augment=9), ours(augment=9))
    network = {"kind": "dit", "conditional": False} if "kind" in changes else DDAE_SMALL | changes
    with pytest.raises(UserError, match=line) as error:
        import_weights(config(network, process), "x", "ddae", str(path), tmp_path / "x.safetensors")
    assert "\n" not in str(error.value)


class Evil:
    def __reduce__(self) -> tuple:
        return pathlib.Path.touch, (pathlib.Path("touched"),)


@pytest.mark.parametrize("thing", [Evil(), torch.nn.Linear(2, 2), pathlib.PurePosixPath("x")])
def test_a_pickle_that_could_run_code_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, thing: object
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"MODEL": {}, "EMA": {"ema_model.nn_model.x": thing}}, "m.pth")
    line = refusal(read, Path("m.pth"))
    assert line.startswith("m.pth: refused, since it asks for ") and "could run code" in line
    assert not Path("touched").exists()
    Path("m.pth").write_bytes(b"no checkpoint" * 10)
    assert "refused" in refusal(read, Path("m.pth"))


# --- the command lines


def test_import_and_export_by_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    saved(diffusers_model(), Path("model"))
    raw = config(OURS).model_dump(mode="json", exclude_unset=True)
    Path("c.yaml").write_text(yaml.safe_dump(raw))
    call("import --format diffusers model --experiment x")
    out = capsys.readouterr().out
    assert "imported/x.safetensors: " in out
    assert "train: {imported: imported/x.safetensors, checkpoints: [1]}" in out
    raw["experiments"]["x"]["train"]["imported"] = "imported/x.safetensors"
    Path("c.yaml").write_text(yaml.safe_dump(raw))
    call("import --format diffusers model --experiment x")
    assert "to use it" not in capsys.readouterr().out

    shutil.copytree("model", "pipeline/unet")
    Path("pipeline/unet/scheduler_config.json").unlink()
    DDPMScheduler(prediction_type="v_prediction").save_pretrained("pipeline/scheduler")
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.chdir("pipeline/unet")
        main(["import", "--format", "diffusers", ".", "--experiment", "x", "--configfile", "../../c.yaml"])
    assert "none that is here" in capsys.readouterr().err

    (Path("model") / "thesis.tex").write_text("dear")
    Path("mine.safetensors").write_text("dear")
    run = Path("results/runs/x/checkpoints/1")
    run.mkdir(parents=True)
    Path("imported/x.safetensors").rename(run / "ema.safetensors")  # as the workflow does
    call("export --format diffusers --experiment x out")
    assert "DDIMPipeline.from_pretrained" in capsys.readouterr().out
    for words, line in (
        ("export --format diffusers --experiment x o --seed 1", "--seed: --format diffusers has no use for it here"),
        ("export --format diffusers --experiment y out", "--experiment y: no such experiment; there are x"),
        ("export --format diffusers --experiment x out --kimg 2", "no checkpoint at 2 kimg; there are 1"),
        ("export --format safetensors --experiment x a.safetensors --weights raw", "no weights called raw; it has ema"),
        ("export --format diffusers --experiment x results", "results: exists and is not an empty folder"),
        ("export --format diffusers --experiment x model", "model: exists and is not an empty folder"),
        ("export --format safetensors --experiment x mine.safetensors", "mine.safetensors: exists and is not"),
        (
            "import --format diffusers model --experiment x --out mine.safetensors",
            "holds no imported weights",
        ),
        ("import --format ddae none.pth --experiment x", "none.pth: no such file"),
        ("import --format diffusers model --experiment x --out x.bin", "--out x.bin: allowed: a name that ends in"),
    ):
        with pytest.raises(SystemExit) as stop:
            call(words)
        said = capsys.readouterr().err
        assert stop.value.code == 1 and line in said and said.count("\n") == 1, said
    assert Path("model/thesis.tex").read_text() == Path("mine.safetensors").read_text() == "dear"


def call(words: str) -> None:
    main([*words.split(), "--configfile", "c.yaml"])


def test_the_command_line_starts_without_torch() -> None:
    code = "import sys, diffprobe, diffprobe.__main__; assert not {'torch', 'diffusers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("option", [{"decoder_attention": "last"}, {"label_layer": "scaled"}, {"shortcut_conv": True}])
def test_options_of_edms_network_have_no_counterpart_in_diffusers(option: dict) -> None:
    options = {"norm_eps": 1e-6, "head_groups": 32, "down_padding": "right"}
    usual = parse_network({"kind": "unet", **options})
    network = parse_network({"kind": "unet", **options, **option})
    assert not list(diffusers_unet.refused_network(usual))
    assert [key for key, _, _ in diffusers_unet.refused_network(network)] == list(option)
