"""diffusers' DiTTransformer2DModel and DiTPipeline: in, out and back, outputs to 1e-5, refusals."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny, DDIMScheduler, DiTPipeline, DiTTransformer2DModel
from safetensors.torch import load_file, save_file
from torch import Tensor
from toy_networks import config, refusal

from diffprobe.config import checks
from diffprobe.config.built import parse_model, parse_network
from diffprobe.config.models import Config
from diffprobe.interop import diffusers_dit
from diffprobe.interop.exporting import export
from diffprobe.interop.importing import import_weights
from diffprobe.interop.names import to_theirs
from diffprobe.networks.build import build
from diffprobe.networks.condition import Condition
from diffprobe.networks.dit import DiT
from diffprobe.runtime.files import UMASK
from diffprobe.training import checkpoints

CPU = torch.device("cpu")
SMALL = {
    "num_attention_heads": 2,
    "attention_head_dim": 8,
    "in_channels": 1,
    "out_channels": 2,
    "num_layers": 2,
    "sample_size": 8,
    "patch_size": 2,
    "num_embeds_ada_norm": 10,
}
OURS = {"kind": "dit", "width": 16, "depth": 2, "heads": 2, "patch": 2, "augment": False}
THEIRS = OURS | {"time_embedding": "diffusers", "mlp_norm_eps": 1e-5}
X, T = torch.randn(3, 1, 8, 8, generator=torch.manual_seed(1)), torch.tensor([0.0, 250.0, 999.0])
LABEL = torch.tensor([7, 0, 3])
FILE = "diffusion_pytorch_model.safetensors"


def theirs(**changes: object) -> DiTTransformer2DModel:
    """With all weights at work, and one embedding in all blocks."""
    torch.manual_seed(0)
    model = DiTTransformer2DModel(**SMALL | changes).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.copy_(0.1 * torch.randn_like(parameter))
    for block in model.transformer_blocks[1:]:
        block.norm1.emb.load_state_dict(model.transformer_blocks[0].norm1.emb.state_dict())
    return model


def pipeline_folder(model: DiTTransformer2DModel, folder: Path) -> Path:
    model.save_pretrained(folder / "transformer")
    DDIMScheduler(beta_start=1e-4, beta_end=0.02, clip_sample=False).save_pretrained(folder / "scheduler")
    return folder


def made(network: dict, process: dict | None = None) -> Config:
    plain = config(OURS, {"kind": "flow"}).model_dump(mode="json", exclude_unset=True)
    plain["experiments"]["x"] |= {"network": network, "process": process or {"kind": "iddpm"}}
    plain["experiments"]["x"]["sample"] = {"samplers": {"s": {"kind": "ddim", "steps": 10}}}
    return Config.model_validate(plain)


def problems(made: Config) -> list[str]:
    return [f"{key}: {value}: {allowed}" for key, value, allowed in checks.problems(made)]


def bytes_of(state: dict[str, Tensor]) -> list[tuple[str, bytes]]:
    return sorted((name, value.numpy().tobytes()) for name, value in state.items())


@pytest.mark.parametrize("learned", [True, False])
@pytest.mark.parametrize("place", ["", "transformer"])
@torch.no_grad()
def test_a_transformer_of_diffusers_is_imported(tmp_path: Path, learned: bool, place: str) -> None:
    model = theirs(out_channels=2 if learned else None)
    folder = pipeline_folder(model, tmp_path / "theirs") / place
    process = {"kind": "iddpm" if learned else "ddpm"}
    written = import_weights(made(THEIRS, process), "x", "diffusers", str(folder), tmp_path / "x.safetensors")
    network, _ = checkpoints.load(written.path, CPU, parse_model)
    assert isinstance(network, DiT)
    expected = model(X, T, LABEL).sample
    torch.testing.assert_close(network(X, T, Condition(LABEL))[0], expected, atol=1e-5, rtol=1e-5)
    without = model(X, T, torch.full((3,), 10)).sample
    torch.testing.assert_close(network(X, T)[0], without, atol=1e-5, rtol=1e-5)
    state = network.state_dict()
    again = diffusers_dit.with_copies(to_theirs(state, diffusers_dit.names(state)), depth=2)
    assert bytes_of(again) == bytes_of(model.state_dict())


@torch.no_grad()
def test_the_older_class_and_labels_of_other_images(tmp_path: Path) -> None:
    model = theirs(num_embeds_ada_norm=100)
    folder = pipeline_folder(model, tmp_path / "theirs") / "transformer"
    older = json.loads((folder / "config.json").read_text()) | {"_class_name": "Transformer2DModel"}
    (folder / "config.json").write_text(json.dumps(older | {"num_vector_embeds": None, "cross_attention_dim": None}))
    experiment = made(THEIRS | {"conditional": False})
    written = import_weights(experiment, "x", "diffusers", str(folder), tmp_path / "x.safetensors")
    network, _ = checkpoints.load(written.path, CPU, parse_model)
    expected = model(X, T, torch.full((3,), 100)).sample
    torch.testing.assert_close(network(X, T)[0], expected, atol=1e-5, rtol=1e-5)
    assert "row 100 of its label table" in written.source


@pytest.mark.parametrize("learned", [True, False])
@pytest.mark.parametrize("conditional", [True, False])
@torch.no_grad()
def test_a_transformer_is_wrapped_as_it_is(tmp_path: Path, learned: bool, conditional: bool) -> None:
    model = theirs(out_channels=2 if learned else None, activation_fn="geglu", num_embeds_ada_norm=10)
    folder = pipeline_folder(model, tmp_path / "theirs")
    wrapper = {"kind": "diffusers_dit", "path": str(folder), "conditional": conditional}
    experiment = made(wrapper, {"kind": "iddpm" if learned else "ddpm"})
    assert not problems(experiment)
    written = import_weights(experiment, "x", "diffusers", str(folder), tmp_path / "x.safetensors")
    network, header = checkpoints.load(written.path, CPU, parse_model)
    assert bytes_of(network.transformer.state_dict()) == bytes_of(model.state_dict())
    assert header["shape"].get("classes", 0) == (10 if conditional else 0)
    label, null = torch.tensor([7, -1, 3]), torch.full((3,), 10)
    expected = model(X, T, torch.tensor([7, 10, 3])).sample
    assert torch.equal(network(X, T, Condition(label))[0], expected)
    whole = network(X, T, taps=network.taps)
    assert torch.equal(whole[0], model(X, T, null).sample) and network.taps == ["block_0", "block_1"]
    assert whole[1]["block_0"].shape == (3, 16, 4, 4)
    called: list[int] = []
    network.transformer.transformer_blocks[1].register_forward_pre_hook(lambda *_: called.append(1))
    output, tapped = network(X, T, taps=["block_0"], features_only=True)
    assert output is None and not called and torch.equal(tapped["block_0"], whole[1]["block_0"])
    network.train()
    assert torch.equal(network(X, T, Condition(label))[0], expected)  # no labels dropped but by our training


@torch.no_grad()
def test_wrapped_and_ours_have_the_same_taps(tmp_path: Path) -> None:
    folder, tapped = pipeline_folder(theirs(), tmp_path / "theirs"), []
    for i, network in enumerate((THEIRS, {"kind": "diffusers_dit", "path": str(folder / "transformer")})):
        written = import_weights(made(network), "x", "diffusers", str(folder), tmp_path / f"{i}.safetensors")
        tapped.append(checkpoints.load(written.path, CPU, parse_model)[0](X, T, taps=["block_0", "block_1"])[1])
    torch.testing.assert_close(tapped[0], tapped[1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "process", "line"),
    [
        ({}, "ddpm", "a model for the process ddpm, not one that predicts the noise and its variance"),
        ({"out_channels": None}, "iddpm", "a model for the process iddpm, not one that predicts no variance"),
        ({"patch_size": 3}, "iddpm", "a model whose patches divide 8 pixels evenly"),
        ({"_class_name": "UNet2DModel"}, "iddpm", "a DiTTransformer2DModel, not a UNet2DModel"),
        ({"num_layers": 10**6}, "iddpm", "num_layers: input should be less than or equal to 128"),
    ],
)
def test_a_transformer_that_cannot_be_wrapped(tmp_path: Path, changes: dict, process: str, line: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "DiTTransformer2DModel"} | SMALL | changes))
    experiment = made({"kind": "diffusers_dit", "path": str(tmp_path)}, {"kind": process})
    assert line in problems(experiment)[0]


def test_labels_of_a_wrapped_model_are_its_own(tmp_path: Path) -> None:
    folder = pipeline_folder(theirs(num_embeds_ada_norm=100), tmp_path / "theirs")
    experiment = made({"kind": "diffusers_dit", "path": str(folder)})
    line = refusal(import_weights, experiment, "x", "diffusers", str(folder), tmp_path / "x.safetensors")
    assert "num_embeds_ada_norm: 100 is refused; allowed: 10, the dataset's classes; or set network.conditional" in line


@pytest.mark.parametrize(
    ("network", "changes", "line"),
    [
        (OURS | {"mlp_norm_eps": 1e-5}, {}, "network.time_embedding: dit is refused; allowed: diffusers"),
        (OURS | {"time_embedding": "diffusers"}, {}, "network.mlp_norm_eps: 1e-06 is refused; allowed: 1e-05"),
        (THEIRS | {"heads": 4}, {}, "network.heads: 4 is refused; allowed: 2"),
        (THEIRS, {"sample_size": 16}, "sample_size: 16 is refused; allowed: 8"),
        (THEIRS, {"in_channels": 4}, "in_channels: 4 is refused; allowed: 1"),
        (THEIRS, {"activation_fn": "geglu"}, "activation_fn: geglu has no counterpart in the network `dit`"),
        (THEIRS, {"num_embeds_ada_norm": 1000}, "embedding_table.weight has shape (1001, 16), expected (11, 16)"),
        (THEIRS, {"out_channels": None}, "process.kind: iddpm is refused; allowed: ddpm"),
    ],
)
def test_another_transformer_is_refused(tmp_path: Path, network: dict, changes: dict, line: str) -> None:
    folder = pipeline_folder(theirs(**changes), tmp_path / "theirs")
    out = tmp_path / "x.safetensors"
    assert line in refusal(import_weights, made(network), "x", "diffusers", str(folder), out) and not out.exists()


def test_blocks_with_embeddings_of_their_own_are_refused(tmp_path: Path) -> None:
    folder = pipeline_folder(theirs(), tmp_path / "theirs") / "transformer"
    state = load_file(folder / FILE)
    state["transformer_blocks.1.norm1.emb.timestep_embedder.linear_1.bias"] += 1
    save_file(state, folder / FILE)
    line = refusal(import_weights, made(THEIRS), "x", "diffusers", str(folder), tmp_path / "x.safetensors")
    assert "transformer_blocks.1.norm1.emb.timestep_embedder.linear_1.bias differs from that of the first" in line


# --- out


def autoencoder(path: Path, kind: str = "AutoencoderKL") -> Path:
    """The checkpoint of a published autoencoder of 16 x 16 images, with latents of 4 x 8 x 8."""
    torch.manual_seed(0)
    levels = ("DownEncoderBlock2D",) * 2, ("UpDecoderBlock2D",) * 2
    options = {"down_block_types": levels[0], "up_block_types": levels[1], "norm_num_groups": 4}
    model = AutoencoderKL(block_out_channels=(4, 8), **options) if kind == "AutoencoderKL" else AutoencoderTiny()
    described = {"kind": "diffusers_autoencoder", "config": {"_class_name": kind, **model.config}}
    codec = {"size": 16, "channels": 3, "resize": "bilinear"}
    header = {"network": described, "shape": {}, "codec": codec}
    checkpoints.write(path, {"ema": model.state_dict()}, header)
    return path


def checkpoint(path: Path, process: str = "iddpm", shape: dict | None = None, latents: dict | None = None, **options):
    """A checkpoint of a class-conditional DiT of such latents."""
    torch.manual_seed(0)
    network = THEIRS | options
    learned = {"out_channels": 8} if process == "iddpm" else {}
    shape = {"image_channels": 4, **learned, **({"classes": 1000} if shape is None else shape)}
    module = build(parse_network(network), **shape)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    scaled = {"scale": [np.float32(0.18215).item()] * 4, "shift": [0.0] * 4, "image": [3, 16, 16], "content": "c"}
    header = {"network": network, "process": {"kind": process}, "shape": shape, "image": [4, 8, 8], "images": 1}
    header |= {"latents": scaled | latents} if latents is not None else {"latents": scaled}
    checkpoints.write(path, {"ema": module.state_dict()}, header)
    return path


@pytest.mark.parametrize("process", ["iddpm", "ddpm"])
@torch.no_grad()
def test_an_export_is_a_pipeline_of_diffusers(tmp_path: Path, process: str) -> None:
    path = checkpoint(tmp_path / "x.safetensors", process)
    said = export(path, None, "diffusers", tmp_path / "out", autoencoder(tmp_path / "vae.safetensors"))
    assert said == [f"{tmp_path / 'out'}: load it by diffusers' DiTPipeline.from_pretrained"]
    pipeline = DiTPipeline.from_pretrained(tmp_path / "out")
    pipeline.set_progress_bar_config(disable=True)
    network, _ = checkpoints.load(path, CPU, parse_model)
    x, label = torch.randn(3, 4, 8, 8), torch.tensor([999, 0, 3])
    for labels, condition in ((label, Condition(label)), (torch.full((3,), 1000), Condition())):
        expected = pipeline.transformer(x, T, labels).sample
        torch.testing.assert_close(network(x, T, condition)[0], expected, atol=1e-5, rtol=1e-5)
    vae, _ = checkpoints.load(tmp_path / "vae.safetensors", CPU, parse_model)
    assert bytes_of(pipeline.vae.state_dict()) == bytes_of(vae.state_dict())
    assert pipeline.vae.config.scaling_factor == 0.18215 and pipeline.scheduler.config.clip_sample is False

    # Guided by 2 over all channels, from the same noise: their loop, and DDIM on our network.
    images = pipeline([999, 3], 2.0, torch.manual_seed(5), num_inference_steps=4, output_type="np").images
    z = torch.randn(2, 4, 8, 8, generator=torch.manual_seed(5))
    scheduler, classes = pipeline.scheduler, torch.tensor([999, 3])
    for t in scheduler.timesteps:
        conditional, plain = (network(z, t.repeat(2), c)[0][:, :4] for c in (Condition(classes), Condition()))
        z = scheduler.step(plain + 2 * (conditional - plain), t, z).prev_sample
    own = (vae.decode(z / 0.18215).sample / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(images, own, atol=1e-4)


def test_a_transformer_comes_back_byte_by_byte(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "x.safetensors")
    export(path, None, "diffusers", tmp_path / "out", autoencoder(tmp_path / "vae.safetensors"))
    model = DiTTransformer2DModel.from_pretrained(tmp_path / "out", subfolder="transformer")
    model.save_pretrained(tmp_path / "again")
    again, exported = load_file(tmp_path / "again" / FILE), load_file(tmp_path / "out" / "transformer" / FILE)
    assert bytes_of(again) == bytes_of(exported)
    names = [name for name in again if ".emb." in name]
    assert len(names) == 2 * 5  # in both blocks
    modes = {file.stat().st_mode & 0o777 for file in (tmp_path / "out").rglob("*") if file.is_file()}
    assert modes == {0o666 & ~UMASK}


def test_the_noise_levels_sinusoids_are_named(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "x.safetensors", time_embedding="dit")
    said = export(path, None, "diffusers", tmp_path / "out", autoencoder(tmp_path / "vae.safetensors"))
    assert len(said) == 2 and "127 where this network has 128" in said[1]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"shape": {"classes": 10}}, "classes: 10 is refused, DiTPipeline has no such thing; allowed: 1000"),
        ({"shape": {}}, "network.conditional: False is refused"),
        ({"shape": {"classes": 1000, "augment": 3}}, "network.augment: True is refused"),
        ({"position": "rope"}, "network.position: rope is refused"),
        ({"position": "gta"}, "network.position: gta is refused"),
        ({"position": "abs_rows"}, "network.position: abs_rows is refused"),
        ({"qk_norm": True}, "network.qk_norm: True is refused"),
        ({"mlp_ratio": 2.0}, "network.mlp_ratio: 2.0 is refused"),
        ({"time_embedding": "dit_pytorch"}, "network.time_embedding: dit_pytorch is refused"),
        ({"process": "flow"}, "process: flow is refused"),
        ({"latents": {"scale": [0.2, 0.2, 0.2, 0.3]}}, "latents: scaled per channel or shifted is refused"),
        ({"latents": {"shift": [0.1] * 4}}, "latents: scaled per channel or shifted is refused"),
    ],
)
def test_what_the_pipeline_cannot_do_is_refused(tmp_path: Path, changes: dict, line: str) -> None:
    path = checkpoint(tmp_path / "x.safetensors", **changes)
    said = refusal(export, path, None, "diffusers", tmp_path / "out", autoencoder(tmp_path / "vae.safetensors"))
    assert line in said and not (tmp_path / "out").exists()


def test_without_an_autoencoder_of_diffusers_there_is_no_pipeline(tmp_path: Path) -> None:
    path, out = checkpoint(tmp_path / "x.safetensors"), tmp_path / "out"
    assert "no autoencoder's checkpoint" in refusal(export, path, None, "diffusers", out, None)
    tiny = autoencoder(tmp_path / "vae.safetensors", "AutoencoderTiny")
    assert "is of the class AutoencoderTiny; DiTPipeline needs" in refusal(export, path, None, "diffusers", out, tiny)
    conv = {"kind": "conv_autoencoder", "channels": 3, "latent_channels": 4}
    checkpoints.write(tmp_path / "conv.safetensors", {"ema": {}}, {"network": conv, "shape": {}})
    line = refusal(export, path, None, "diffusers", out, tmp_path / "conv.safetensors")
    assert "is of the kind conv_autoencoder" in line and not out.exists()


@torch.no_grad()
def test_an_autoencoder_trained_here_goes_along(tmp_path: Path) -> None:
    own = {"kind": "autoencoder_kl", "channels": 3, "latent_channels": 4, "widths": [4, 8], "blocks": 1, "groups": 2}
    own |= {"attention": False}
    network = build(parse_network(own))
    checkpoints.write(tmp_path / "vae.safetensors", {"ema": network.state_dict()}, {"network": own, "shape": {}})
    export(checkpoint(tmp_path / "x.safetensors"), None, "diffusers", tmp_path / "out", tmp_path / "vae.safetensors")
    vae = DiTPipeline.from_pretrained(tmp_path / "out").vae
    z = torch.randn(1, 4, 8, 8)
    torch.testing.assert_close(vae.decode(z).sample, network.decoder(network.post_quant_conv(z)))
