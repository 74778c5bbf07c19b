"""The forms in which people have weights: variants, several files, wrappers, averages; and weights to be refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DModel
from safetensors.torch import load_file, save_file
from torch import Tensor
from toy_networks import OURS, config, diffusers_model, refusal, saved

from diffprobe.config import published
from diffprobe.config.autoencoders import Pretrained
from diffprobe.interop import autoencoders
from diffprobe.interop.ddae import sets
from diffprobe.interop.importing import Written, import_weights
from diffprobe.interop.wrappers import unwrapped, weights_of
from diffprobe.networks.unet import UNet
from diffprobe.training import checkpoints

NAME = "diffusion_pytorch_model"
FILE = f"{NAME}.safetensors"
Model = UNet2DModel | AutoencoderKL
State = dict[str, Tensor]


def network() -> UNet2DModel:
    return diffusers_model()


def autoencoder() -> AutoencoderKL:
    torch.manual_seed(0)
    down, up = ("DownEncoderBlock2D",) * 2, ("UpDecoderBlock2D",) * 2
    return AutoencoderKL(down_block_types=down, up_block_types=up, block_out_channels=(8, 16), norm_num_groups=4)


def brought(folder: Path, kind: Callable[[], Model]) -> State:
    """The weights of the checkpoint that the model in `folder` becomes."""
    out = folder.parent / "out.safetensors"
    if kind is network:
        bring_network(folder)
    else:
        entry = {"kind": "pretrained", "source": str(folder), "size": 16, "resize": "repeat", "factor": 2}
        autoencoders.write("x", Pretrained(**entry), out)
    return checkpoints.state_dict(out, ["ema"], None)


def bring_network(folder: Path) -> Written:
    return import_weights(config(OURS), "x", "diffusers", str(folder), folder.parent / "out.safetensors")


def same(mine: State, expected: State) -> bool:
    return mine.keys() == expected.keys() and all(torch.equal(mine[name], expected[name]) for name in mine)


def as_variant(model: Model, folder: Path) -> None:
    model.save_pretrained(folder, variant="fp16")


def as_raw_variant(model: Model, folder: Path) -> None:
    model.save_pretrained(folder, variant="non_ema", safe_serialization=False)


def in_several_files(model: Model, folder: Path) -> None:
    model.save_pretrained(folder, max_shard_size="20KB")
    assert len(list(folder.glob("*-of-*"))) > 1


def in_several_pickles_of_a_variant(model: Model, folder: Path) -> None:
    model.save_pretrained(folder, max_shard_size="20KB", variant="bf16", safe_serialization=False)
    assert len(list(folder.glob("*-of-*"))) > 1


def prefixed(prefix: str) -> Callable[[Model, Path], None]:
    def save(model: Model, folder: Path) -> None:
        model.save_pretrained(folder)
        save_file({f"{prefix}{name}": value for name, value in model.state_dict().items()}, folder / FILE)

    return save


def in_a_training_checkpoint(model: Model, folder: Path) -> None:
    model.save_pretrained(folder)
    (folder / FILE).unlink()
    state = {f"module._orig_mod.{name}": value for name, value in model.state_dict().items()}
    content = {"state_dict": {"n_averaged": torch.tensor(3), **state}, "epoch": 3, "optimizer": {"state": {}}}
    torch.save(content, folder / f"{NAME}.bin")


def named_by_accelerate(model: Model, folder: Path) -> None:
    model.save_pretrained(folder)
    (folder / FILE).rename(folder / "model.safetensors")


def compiled_by_blocks(model: Model, folder: Path) -> None:
    model.save_pretrained(folder)
    state = {name.replace("resnets.0.", "resnets.0._orig_mod."): x for name, x in model.state_dict().items()}
    assert any("_orig_mod" in name for name in state)
    save_file(state, folder / FILE)


FORMS = [as_variant, as_raw_variant, in_several_files, in_several_pickles_of_a_variant, in_a_training_checkpoint]
FORMS += [
    compiled_by_blocks,
    named_by_accelerate,
    prefixed("_orig_mod."),
    prefixed("module._orig_mod."),
    prefixed("_orig_mod.module."),
]


@pytest.mark.parametrize("kind", [network, autoencoder])
@pytest.mark.parametrize("save", FORMS)
def test_every_form_brings_the_same_weights(tmp_path: Path, kind: Callable[[], Model], save: Callable) -> None:
    model = kind()
    saved(model, tmp_path / "plain") if isinstance(model, UNet2DModel) else model.save_pretrained(tmp_path / "plain")
    save(model, tmp_path / "model")
    assert same(brought(tmp_path / "model", kind), brought(tmp_path / "plain", kind))


def test_of_several_files_the_most_precise_average_is_taken(tmp_path: Path) -> None:
    order = [
        "safetensors",
        "bin",
        "ema.bin",
        "fp32.safetensors",
        "fp16.safetensors",
        "fp16.bin",
        "x.bin",
        "non_ema.bin",
    ]
    for ending in reversed(order):
        (tmp_path / f"{NAME}.{ending}").touch()
        assert published.weights_file(tmp_path).name == f"{NAME}.{ending}"
    (tmp_path / f"{FILE}.index.json").touch()
    (tmp_path / f"{NAME}-00001-of-00002.safetensors").touch()
    assert published.weights_file(tmp_path).name == FILE


def test_a_local_source_has_the_files_that_are_read(tmp_path: Path) -> None:
    """They decide reruns; beside weights under their plain names nothing else does."""
    in_several_files(autoencoder(), tmp_path)
    entry = Pretrained(kind="pretrained", source=str(tmp_path), size=16, factor=2)
    assert {Path(path) for path in published.local_files(entry)} == set(tmp_path.iterdir())
    (tmp_path / FILE).touch()
    assert {Path(path).name for path in published.local_files(entry)} == {"config.json", FILE}


@pytest.mark.parametrize("kind", [network, autoencoder])
@pytest.mark.parametrize("index", ["{", "[]", '{"weight_map": {}}', '{"weight_map": {"x": "../x.safetensors"}}'])
def test_a_damaged_index_is_refused(tmp_path: Path, kind: Callable[[], Model], index: str) -> None:
    in_several_files(kind(), tmp_path / "model")
    (tmp_path / "model" / f"{FILE}.index.json").write_text(index)
    assert f"a folder with the files of weights, as {FILE}.index.json lists them" in refusal(
        brought, tmp_path / "model", kind
    )


@pytest.mark.parametrize("kind", [network, autoencoder])
def test_a_missing_file_of_several_is_named(tmp_path: Path, kind: Callable[[], Model]) -> None:
    in_several_files(kind(), tmp_path / "model")
    missing = sorted((tmp_path / "model").glob("*-of-*"))[1]
    missing.unlink()
    assert f"a folder with {missing.name}, as {FILE}.index.json lists them" in refusal(
        brought, tmp_path / "model", kind
    )


def test_all_of_several_files_make_the_identity(tmp_path: Path) -> None:
    in_several_files(diffusers_model(), tmp_path / "model")
    identities = []
    for change in (0.0, 1.0):
        shard = sorted((tmp_path / "model").glob("*-of-*"))[-1]
        save_file({name: value + change for name, value in load_file(shard).items()}, shard)
        identities.append(checkpoints.header(bring_network(tmp_path / "model").path)["identity"])
    assert identities[0] != identities[1]


def test_of_a_training_folder_the_average_is_taken(tmp_path: Path) -> None:
    model, folder = diffusers_model(), tmp_path / "checkpoint-500"
    saved(model, folder / "unet")
    raw = bring_network(folder / "unet")
    assert raw.source == str(folder / "unet" / FILE)
    of_raw = checkpoints.state_dict(raw.path, ["ema"], None)
    shutil.copytree(folder / "unet", folder / "unet_ema")
    settings = json.loads((folder / "unet_ema/config.json").read_text())
    settings |= {"decay": 0.9999, "inv_gamma": 1.0, "optimization_step": 500, "use_ema_warmup": True}
    (folder / "unet_ema/config.json").write_text(json.dumps(settings))
    save_file({name: value / 2 for name, value in model.state_dict().items()}, folder / "unet_ema" / FILE)

    average = bring_network(folder)
    assert average.source == f"{folder}/unet_ema/{FILE} (the average; the raw weights are in {folder}/unet)"
    assert same(checkpoints.state_dict(average.path, ["ema"], None), {name: x / 2 for name, x in of_raw.items()})
    # Who names the raw weights gets them, and reads that they are.
    assert bring_network(folder / "unet").source.endswith(f"(the raw weights; the average is in {folder}/unet_ema)")


def test_of_an_autoencoders_training_folder_the_average_is_taken(tmp_path: Path) -> None:
    model = autoencoder()
    model.save_pretrained(tmp_path / "run/autoencoderkl")
    raw = brought(tmp_path / "run", autoencoder)
    model.save_pretrained(tmp_path / "run/autoencoderkl_ema")
    average = {name: value / 2 for name, value in model.state_dict().items()}
    save_file(average, tmp_path / "run/autoencoderkl_ema" / FILE)
    assert same(brought(tmp_path / "run", autoencoder), {name: value / 2 for name, value in raw.items()})
    files = published.local_files(Pretrained(kind="pretrained", source=str(tmp_path / "run"), size=16, factor=2))
    assert {Path(file).parent.name for file in files} == {"autoencoderkl", "autoencoderkl_ema"}


def test_a_file_may_be_named_instead_of_its_folder(tmp_path: Path) -> None:
    model = saved(diffusers_model(), tmp_path / "model")
    expected = brought(model, network)
    as_variant(diffusers_model(), model)
    (model / f"{NAME}.fp16.safetensors").rename(model / f"{NAME}.mine.safetensors")
    written = bring_network(model / f"{NAME}.mine.safetensors")
    assert written.source == str(model / f"{NAME}.mine.safetensors")
    mine = checkpoints.state_dict(written.path, ["ema"], None)
    assert all(torch.allclose(mine[name], x, atol=1e-2) for name, x in expected.items())


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module._orig_mod.", "module.nn_model._orig_mod."])
def test_compiled_weights_of_ddae_have_their_own_names(prefix: str) -> None:
    state = UNet(channels=8, multipliers=[1], blocks=1, groups=2, head_groups=2, image_channels=1).state_dict()
    both = {f"ema_model.{prefix}{name}": x for name, x in state.items()} | {"online_model.x": torch.zeros(1), "n": 3}
    assert same(sets({"EMA": both}, "m.pth")["ema"], state)
    assert same(sets({f"{prefix}{name}": x for name, x in state.items()}, "m.pth")["ema"], state)
    assert refusal(sets, {"EMA": [1]}, "m.pth") == "m.pth: expected tensors by name, not list"


def test_the_average_in_a_training_checkpoint_comes_first() -> None:
    raw, average = {"x": torch.zeros(1)}, {"x": torch.ones(1)}
    assert weights_of({"model": raw, "ema": average, "opt": {}}) is average
    assert weights_of({"state_dict": {"model": raw}}) is raw
    assert weights_of(raw) is raw


def test_one_tensor_under_two_names_is_refused() -> None:
    state = {"x": torch.zeros(1), "_orig_mod.x": torch.ones(1)}
    assert refusal(unwrapped, state, "m.bin") == "m.bin: holds x twice, as _orig_mod.x too; save one state dict alone"
    assert refusal(unwrapped, {3: torch.zeros(1)}, "m.bin").startswith("m.bin: 3 is no tensor")


def test_an_unfamiliar_prefix_is_named(tmp_path: Path) -> None:
    prefixed("my.net.")(diffusers_model(), tmp_path / "model")
    assert "have my.net." in (line := refusal(brought, tmp_path / "model", network))
    assert line.endswith("save them without the prefix my.net.")


@pytest.mark.parametrize("kind", [network, autoencoder])
@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda x: x.index_fill(0, torch.tensor([0]), torch.nan), "holds NaN or infinite values"),
        (lambda x: x.index_fill(0, torch.tensor([0]), -torch.inf), "holds NaN or infinite values"),
        (lambda x: x.double() * 1e300, "holds NaN or infinite values"),  # beyond float32
        (lambda x: x.to(torch.int8), "is int8, expected float16, bfloat16, float32 or float64"),
        (lambda x: x.to(torch.float8_e4m3fn), "is float8_e4m3fn, expected float16"),
        (lambda x: x.to(torch.complex64), "is complex64, expected float16"),
    ],
)
def test_weights_that_are_no_numbers_are_refused(
    tmp_path: Path, kind: Callable[[], Model], change: Callable[[Tensor], Tensor], line: str
) -> None:
    model, folder = kind(), tmp_path / "model"
    model.save_pretrained(folder)
    name = "conv_in.bias" if kind is network else "encoder.conv_in.bias"
    save_file(model.state_dict() | {name: change(model.state_dict()[name] + 1)}, folder / FILE)
    assert f"weights of {folder}/{FILE}: {name} {line}" in refusal(brought, folder, kind)
    assert not (tmp_path / "out.safetensors").exists()
