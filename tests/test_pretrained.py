"""Published autoencoders: diffusers' own outputs through our checkpoint, two sources in one, the hub, refusals."""

import json
import os
import shutil
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import huggingface_hub
import pytest
import torch
import yaml
from diffusers import AutoencoderKL, AutoencoderTiny
from kills import ROOT, copy_project, run
from safetensors.torch import load_file, save_file
from toy_networks import OLD_NAMES, refusal

import diffprobe
from diffprobe.config.autoencoders import Pretrained
from diffprobe.config.built import parse_network
from diffprobe.config.inferred import latent_bytes, model_space
from diffprobe.config.levels import grid_levels
from diffprobe.config.load import load, parse
from diffprobe.evaluation.model import load_codec
from diffprobe.interop import autoencoders
from diffprobe.networks.autoencoder import Codec
from diffprobe.networks.build import build
from diffprobe.networks.flops import on_meta, training_flops
from diffprobe.runtime.files import sha256
from diffprobe.training import checkpoints

CPU = torch.device("cpu")
FILE, PICKLE = "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin"
ENTRY = {"kind": "pretrained", "decoder": None, "size": 16, "resize": "repeat"}
ENTRY |= {"channels": 3, "latent_channels": 4, "factor": 2}


def kl(folder: Path, seed: int = 0, **changes: Any) -> Path:
    torch.manual_seed(seed)
    levels = len(changes.get("block_out_channels", (8, 16)))
    usual = {"down_block_types": ("DownEncoderBlock2D",) * levels, "up_block_types": ("UpDecoderBlock2D",) * levels}
    usual |= {"block_out_channels": (8, 16), "norm_num_groups": 4}
    AutoencoderKL(**usual | changes).save_pretrained(folder)
    return folder


def tiny(folder: Path, **changes: Any) -> Path:
    torch.manual_seed(0)
    blocks = ("encoder_block_out_channels", "decoder_block_out_channels", "num_encoder_blocks", "num_decoder_blocks")
    usual = dict(zip(blocks, ((8, 8), (8, 8), (1, 1), (1, 1)), strict=True))
    AutoencoderTiny(**usual | changes).save_pretrained(folder)
    return folder


def pickled(folder: Path) -> Path:
    torch.save(load_file(folder / FILE), folder / PICKLE)
    (folder / FILE).unlink()
    return folder


def old_names(folder: Path, convolutions: bool = False) -> Path:
    """As the oldest files have attention layers: other names, and even projections by 1x1 convolutions."""
    state = load_file(folder / FILE)
    for new, old in OLD_NAMES.items():
        state = {name.replace(f".{new}.", f".{old}."): value for name, value in state.items()}
    projections = [name for name in state if ".attentions." in name and state[name].ndim == 2]
    assert len(projections) == 8 and any("proj_attn" in name for name in projections)
    if convolutions:
        state |= {name: state[name][..., None, None] for name in projections}
    save_file(state, folder / FILE)
    return folder


def halved(folder: Path) -> Path:
    save_file({name: value.half() for name, value in load_file(folder / FILE).items()}, folder / FILE)
    return folder


def of_pipeline(folder: Path) -> Path:
    shutil.move(folder, folder.parent / "moved")
    folder.mkdir()
    (folder / "model_index.json").write_text("{}")
    shutil.move(folder.parent / "moved", folder / "vae")
    return folder


def edited(folder: Path, **changes: Any) -> Path:
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def written(folder: Path, **changes: Any) -> Path:
    """The checkpoint of the model in `folder`."""
    out = folder.with_name(f"{folder.name}.safetensors")
    write("x", ENTRY | {"source": str(folder)} | changes, out)
    return out


def write(name: str, entry: dict[str, Any], out: Path, *say: Any) -> dict[str, Any]:
    return autoencoders.write(name, Pretrained(**entry), out, *say)


# --- the same model


@pytest.mark.parametrize(
    ("make", "change", "scaling"),
    [
        (kl, None, (0.18215, 0.0)),
        (kl, pickled, (0.18215, 0.0)),
        (kl, old_names, (0.18215, 0.0)),
        (kl, of_pipeline, (0.18215, 0.0)),
        (kl, halved, (0.18215, 0.0)),
        (lambda f: kl(f, use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.5), None, (0.18215, 0.5)),
        (lambda f: kl(f, mid_block_add_attention=False, layers_per_block=2, scaling_factor=2.0), None, (2.0, 0.0)),
        (
            lambda f: kl(f, scaling_factor=0.5, latents_mean=(1.0, -2.0, 0.0, 3.0), latents_std=(1.0, 2.0, 4.0, 0.25)),
            None,
            ([0.5, 0.25, 0.125, 2.0], [1.0, -2.0, 0.0, 3.0]),
        ),
        (
            lambda f: kl(
                f,
                down_block_types=("DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
                up_block_types=("AttnUpDecoderBlock2D", "UpDecoderBlock2D"),
            ),
            None,
            (0.18215, 0.0),
        ),
        (tiny, None, (1.0, 0.0)),
        (lambda f: tiny(f, scaling_factor=0.4, shift_factor=0.1, act_fn="silu"), pickled, (0.4, 0.1)),
    ],
)
@torch.no_grad()
def test_it_codes_as_diffusers_does(tmp_path: Path, make: Any, change: Any, scaling: tuple) -> None:
    folder = make(tmp_path / "model")
    folder = change(folder) if change else folder
    kind = AutoencoderTiny if "Tiny" in next(folder.rglob("config.json")).read_text() else AutoencoderKL
    theirs = kind.from_pretrained(next(folder.rglob("config.json")).parent).float()
    theirs.to(memory_format=torch.channels_last)  # as ours; the other order rounds otherwise
    codec, header = load_codec(written(folder), CPU, (3, 16, 16))
    x = torch.rand(2, 3, 16, 16) * 2 - 1
    made = codec.moments(x)
    if kind is AutoencoderTiny:
        assert codec.holds == "latents"
        z = theirs.encode(x).latents
        torch.testing.assert_close(made, z, atol=1e-6, rtol=1e-6)
    else:
        assert codec.holds == "moments"
        posterior = theirs.encode(x).latent_dist
        z = posterior.mean
        torch.testing.assert_close(made, torch.cat([z, posterior.logvar], dim=1), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(codec.latents(made), z, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(codec.postprocess(codec.decode(z)), theirs.decode(z).sample, atol=1e-6, rtol=1e-6)
    assert header["codec"]["scaling"] == dict(zip(("scale", "shift"), scaling, strict=True))
    assert (header["image"], header["shape"], header["weights"]) == ([3, 16, 16], {}, ["ema"])


@torch.no_grad()
def test_projections_by_convolution_are_matrices(tmp_path: Path) -> None:
    """diffusers itself would not read these."""
    x = torch.rand(2, 3, 16, 16) * 2 - 1
    expected = AutoencoderKL.from_pretrained(kl(tmp_path / "model")).encode(x).latent_dist.mean
    codec, _ = load_codec(written(old_names(tmp_path / "model", convolutions=True)), CPU, (3, 16, 16))
    torch.testing.assert_close(codec.latents(codec.moments(x)), expected, atol=1e-6, rtol=1e-6)


def test_a_config_without_a_scale_publishes_none(tmp_path: Path) -> None:
    """Left out of config.json, as sd-vae-ft-mse does, it is diffusers' 0.18215; null, there is none."""
    folder = kl(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    del config["scaling_factor"]
    (folder / "config.json").write_text(json.dumps(config))
    assert checkpoints.header(written(folder))["codec"]["scaling"]["scale"] == 0.18215
    assert "scaling" not in checkpoints.header(written(edited(folder, scaling_factor=None)))["codec"]


@torch.no_grad()
def test_one_encodes_and_another_decodes(tmp_path: Path) -> None:
    mse, ema = kl(tmp_path / "mse", seed=0), kl(tmp_path / "ema", seed=1)
    out = tmp_path / "both.safetensors"
    receipt = write("x", ENTRY | {"source": str(mse), "decoder": str(ema)}, out)
    codec, _ = load_codec(out, CPU, (3, 16, 16))
    encodes, decodes = AutoencoderKL.from_pretrained(mse), AutoencoderKL.from_pretrained(ema)
    x, z = torch.rand(2, 3, 16, 16) * 2 - 1, torch.randn(2, 4, 8, 8)
    torch.testing.assert_close(codec.latents(codec.moments(x)), encodes.encode(x).latent_dist.mean)
    torch.testing.assert_close(codec.decode(z), decodes.decode(z).sample)
    assert not torch.allclose(codec.decode(z), encodes.decode(z).sample, atol=1e-2)
    assert (receipt["source"], receipt["decoder"]) == (str(mse), str(ema))
    assert receipt["files"]["decoder"][FILE] == sha256(ema / FILE)
    alone = checkpoints.header(written(mse))
    assert checkpoints.header(out)["identity"] != alone["identity"]


def test_the_same_files_make_the_same_checkpoint_wherever_they_lie(tmp_path: Path) -> None:
    kl(tmp_path / "model")
    shutil.copytree(tmp_path / "model", tmp_path / "other")
    assert sha256(written(tmp_path / "model")) == sha256(written(tmp_path / "other"))


@torch.no_grad()
def test_load_takes_it_for_a_model_of_latents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the folder that the workflow puts it in; large images are decoded a few at a time."""
    monkeypatch.setattr(Codec, "at_once", lambda *_: 2)
    place = tmp_path / "autoencoders/vae/checkpoints/pretrained/ema.safetensors"
    write("x", ENTRY | {"source": str(tiny(tmp_path / "model"))}, place)
    shape, network = {"image_channels": 4}, {"kind": "dit", "width": 8, "depth": 1, "heads": 2, "patch": 4}
    latents = {"scale": [2.0] * 4, "shift": [1.0] * 4, "image": [1, 8, 8], "content": "c"}
    head = {"network": network, "process": {"kind": "flow"}, "shape": shape, "image": [4, 8, 8], "latents": latents}
    checkpoints.write(tmp_path / "dit.safetensors", {"ema": build(parse_network(network), **shape).state_dict()}, head)
    dit = diffprobe.load(tmp_path / "dit.safetensors", autoencoder=tmp_path / "autoencoders/vae", device="cpu")
    theirs, z = AutoencoderTiny.from_pretrained(tmp_path / "model"), torch.randn(3, 4, 8, 8)
    expected = dit.codec.postprocess(dit.codec.decode(z / 2 + 1))
    torch.testing.assert_close(dit.model.to_images(z), expected)
    grey = theirs.decode(z / 2 + 1).sample.mean(dim=1, keepdim=True)
    torch.testing.assert_close(expected, torch.nn.functional.interpolate(grey, size=(8, 8), mode="area"))
    assert dit.sample(2, sampler={"kind": "heun", "steps": 2}).shape == (2, 8, 8, 1)


# --- refusals


@pytest.mark.parametrize(
    ("make", "changes", "line"),
    [
        (kl, {"channels": 1}, "autoencoders.x.channels: 1 is refused; allowed: 3, as in {0}/config.json"),
        (kl, {"latent_channels": 16}, "x.latent_channels: 16 is refused; allowed: 4, as in {0}/config.json"),
        (kl, {"factor": 8}, "autoencoders.x.factor: 8 is refused; allowed: 2, as in {0}/config.json"),
        (tiny, {"factor": 4}, "autoencoders.x.factor: 4 is refused; allowed: 2, as in {0}/config.json"),
        (lambda f: kl(f, out_channels=1), {}, "allowed: a model with as many channels out as in, not 3 to 1"),
        (
            lambda f: tiny(f, upsampling_scaling_factor=4),
            {},
            "such a model makes images of shape (3, 32, 32);",
        ),
        (lambda f: f, {}, "autoencoders.x.source: {0}: no such folder"),
        (lambda f: f.mkdir() or f, {}, "{0} is refused; allowed: a folder with the config.json of an AutoencoderKL or"),
        (lambda f: edited(kl(f), _class_name="VQModel"), {}, "allowed: a folder whose config.json is that of an"),
        (lambda f: (kl(f) / FILE).unlink() or f, {}, f"allowed: a folder with {FILE} or {PICKLE} beside its"),
        (lambda f: (kl(f) / FILE).write_text("version https://git-lfs") and f, {}, f"{{0}}/{FILE}: cannot be read"),
        (lambda f: edited(kl(f), norm_num_groups=3), {}, "no AutoencoderKL can be built"),
        (lambda f: edited(kl(f), layers_per_block=2), {}, f"weights of {{0}}/{FILE} lack"),
        (
            lambda f: edited(kl(f), use_quant_conv=False),
            {},
            "has no place in this network (expected: none); the file",
        ),
        (lambda f: edited(kl(f), latents_mean=[0.0], latents_std=[1.0]), {}, "allowed: 4 means and as many deviations"),
    ],
)
def test_refused(tmp_path: Path, make: Any, changes: dict, line: str) -> None:
    folder = make(tmp_path / "model")
    said = refusal(written, folder, **changes)
    assert line.format(folder) in said
    assert not (tmp_path / "model.safetensors").exists()


def test_a_pickle_that_could_run_code_is_refused(tmp_path: Path) -> None:
    folder = kl(tmp_path / "model")
    torch.save({"decoder.conv_in.weight": Path("/")}, folder / PICKLE)
    (folder / FILE).unlink()
    assert "could run code" in refusal(written, folder)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"block_out_channels": (8, 8)}, "block_out_channels: [8, 8] is refused; allowed: [8, 16], as {0}/config.json"),
        ({"scaling_factor": 1.0}, "config.json.scaling_factor: 1.0 is refused; allowed: 0.18215, as {0}/config.json"),
        ({"latent_channels": 8}, "config.json.latent_channels: 8 is refused; allowed: 4"),
    ],
)
def test_another_decoder_must_fit(tmp_path: Path, changes: dict, line: str) -> None:
    source, other = kl(tmp_path / "model"), kl(tmp_path / "other", **changes)
    said = refusal(written, source, decoder=str(other))
    assert said.startswith(f"autoencoders.x.decoder: {other}/config.json.") and line.format(source) in said
    assert "_class_name" in refusal(written, source, decoder=str(tiny(tmp_path / "tiny")))


def test_the_shipped_recipe() -> None:
    """DDAE/DiT's eleven versions and its numbers (spec of the peer): bytes of the stores, FLOPs of DiT-S/2."""
    config = load(ROOT / "config/ddae_dit.yaml")
    for name, gigabytes in (("cifar10_dit_s2", 8.36), ("tiny_imagenet_dit_s2", 16.5)):
        experiment = config.experiments[name]
        views = config.latents[experiment.latents].views
        assert [(view.kind, getattr(view, "count", 1)) for view in views] == [("identity", 1), ("crop", 10)]
        assert model_space(config, experiment) == (4, 32)
        assert latent_bytes(config, experiment.latents) / 1e9 == pytest.approx(gigabytes, rel=0.01)
        module, inputs = on_meta(experiment.network, (4, 32, 32), classes=10, augment=3)
        assert training_flops(module, inputs) / 1e9 == pytest.approx(36.3, abs=0.1)
    for level, alpha_bar in zip(
        grid_levels(config.experiments["cifar10_dit_s2"])[1:3], (0.928303, 0.852687), strict=True
    ):
        assert 1 / (1 + level**2) == pytest.approx(alpha_bar, abs=1e-6)  # t = 81 and 121, from 0


def test_a_local_folder_is_looked_at_before_any_job_starts(tmp_path: Path) -> None:
    def config(**entry: Any) -> dict:
        autoencoder = {"kind": "pretrained", "size": 16, **entry}
        sample, train = {"samplers": {"s": {"kind": "heun"}}}, {"checkpoints": [1]}
        network, process = {"kind": "unet", "multipliers": [1, 2]}, {"kind": "edm"}
        experiment = {"dataset": "digits", "network": network, "process": process, "train": train, "sample": sample}
        datasets = {"digits": {"source": {"kind": "digits"}}}
        return {"datasets": datasets, "autoencoders": {"vae": autoencoder}, "experiments": {"e": experiment}}

    folder, empty = kl(tmp_path / "model"), tmp_path / "empty"
    empty.mkdir()
    parse(config(source=str(folder), factor=2))
    parse(config(source="stabilityai/sd-vae-ft-mse"))
    said = refusal(parse, config(source=str(folder)))
    assert said == f"config: autoencoders.vae.factor: 8 is refused; allowed: 2, as in {folder}/config.json"
    said = refusal(parse, config(source=str(folder), decoder=str(empty), factor=2))
    assert f"autoencoders.vae.decoder: '{empty}' is refused; allowed: a folder with the config.json" in said


def test_a_folder_that_is_not_there_starts_no_job(tmp_path: Path) -> None:
    entry = {"kind": "pretrained", "source": "./nowhere", "size": 16, "factor": 2}
    project = copy_project(tmp_path / "project")
    shipped = yaml.safe_load((project / "config/config.yaml").read_text())
    shipped["autoencoders"] = {"digits_vae": entry}
    (project / "config/config.yaml").write_text(yaml.safe_dump(shipped))
    dry_run = run(project, "-n")
    assert dry_run.returncode == 1
    assert "autoencoders.digits_vae.source: ./nowhere: no such folder, and no name on the hub" in dry_run.stderr
    assert "Traceback" not in dry_run.stderr and len(dry_run.stderr.splitlines()) <= 2


# --- the hub


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Serves what lies in `tmp_path / "hub"`/OWNER/MODEL as huggingface.co does."""
    commit, requests = "c" * 40, []

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer()

        def do_GET(self) -> None:
            self.wfile.write(self.answer())

        def answer(self) -> bytes:
            requests.append((self.command, self.path))
            name, _, file = self.path.strip("/").partition("/resolve/main/")
            path = tmp_path / "hub" / name / file
            exists = path.is_file()
            self.send_response(200 if exists else 404)
            if not exists:
                there = (tmp_path / "hub" / name).is_dir()
                self.send_header("X-Error-Code", "EntryNotFound" if there else "RepoNotFound")
            data = path.read_bytes() if exists else b""
            self.send_header("X-Repo-Commit", commit)
            self.send_header("ETag", f'"{sha256(path)}"' if exists else '""')
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            return data

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=server.serve_forever, daemon=True).start()
    constants, address = huggingface_hub.constants, f"http://127.0.0.1:{server.server_port}"
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", address)
    yield requests
    server.shutdown()
    server.server_close()


def test_what_the_hub_has_is_downloaded_once(tmp_path: Path, cache: Path, hub: list) -> None:
    """Of a pipeline, pickled; then the cache alone is used, as it must be offline."""
    folder = pickled(kl(tmp_path / "hub/owner/pipeline/vae"))
    said: list[str] = []
    entry, out = ENTRY | {"source": "owner/pipeline"}, tmp_path / "x.safetensors"
    receipt = write("x", entry, out, said.append)
    assert said == ["downloads owner/pipeline"] and receipt["source"] == "owner/pipeline"
    assert receipt["files"]["source"] == {name: sha256(folder / name) for name in ("config.json", PICKLE)}
    assert sha256(out) == sha256(written(folder))  # what it came from changes nothing
    hub.clear()
    write("x", entry, out, said.append)
    assert hub == [] and len(said) == 1


def test_what_the_hub_has_not_is_one_line(tmp_path: Path, cache: Path, hub: list) -> None:
    out = tmp_path / "x.safetensors"

    def said(name: str) -> str:
        line = refusal(write, "x", ENTRY | {"source": name}, out, lambda _: None)
        began = f"autoencoders.x.source: {name}: no such folder, and it cannot be downloaded from the hub ("
        assert line.startswith(began)
        remedy = f"download config.json and {FILE} from https://huggingface.co/{name} into a folder and set"
        assert line.endswith(f"; {remedy} autoencoders.x.source: FOLDER")
        return line

    assert "404" in said("owner/nothing")
    (tmp_path / "hub/owner/empty").mkdir(parents=True)
    assert "it has no config.json, nor one in vae/" in said("owner/empty")
    edited(kl(tmp_path / "hub/owner/other"), _class_name="VQModel")
    assert "it is not a folder whose config.json is that of an AutoencoderKL" in said("owner/other")
    assert not [path for _, path in hub if "other" in path and "diffusion" in path]  # its weights were not fetched
    (kl(tmp_path / "hub/owner/light") / FILE).unlink()
    assert f"it has no {FILE} or {PICKLE}" in said("owner/light")
    assert not out.exists()


@pytest.mark.parametrize("offline", [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}])
def test_offline_the_job_says_so_at_once(tmp_path: Path, offline: dict[str, str]) -> None:
    (tmp_path / "logs").mkdir()
    config = json.dumps(ENTRY | {"source": "stabilityai/sd-vae-ft-mse", "state": None})
    command = [sys.executable, ROOT / "workflow/scripts/pretrained.py", config, "--with", "name=sd", "--out"]
    command += [f"weights={tmp_path}/w.safetensors", f"receipt={tmp_path}/r.json", "--log", tmp_path / "logs/a.log"]
    env = os.environ | {"PYTHONPATH": str(ROOT / "src"), "HF_HOME": str(tmp_path / "hf")} | offline
    begun = time.monotonic()
    job = subprocess.run(command, env=env, capture_output=True, text=True)
    assert time.monotonic() - begun < 20  # most of it imports; the client alone would try for 23 s more
    (line,) = job.stderr.splitlines()
    assert job.returncode == 1 and "autoencoders.sd.source: stabilityai/sd-vae-ft-mse: no such folder" in line
    assert not list(tmp_path.glob("*.safetensors")) and not list(tmp_path.glob("r.json"))
