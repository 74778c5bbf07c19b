"""Weights of SODA's re-implementation: every name, a whole checkpoint, refusals."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from toy_networks import refusal

from diffprobe.config.load import parse
from diffprobe.config.models import Config
from diffprobe.evaluation import model
from diffprobe.interop import ddae, soda
from diffprobe.interop.importing import import_weights
from diffprobe.networks.modulated_unet import ModulatedUNet
from diffprobe.networks.resnet import ResNet
from diffprobe.networks.unet import UNet
from diffprobe.plan import job_arguments
from diffprobe.runtime.errors import UserError

CPU = torch.device("cpu")
NETWORK = {"kind": "modulated_unet", "channels": 32, "multipliers": [1, 2], "blocks": 1, "modulation": "direct"}
TASK = {"kind": "soda", "z": 6, "encoder": {"mean": [0.4], "std": [0.3]}}
PROCESS = {"kind": "ddpm", "time_input": "fraction", "beta_schedule": "inverted"}
UNET = {key: value for key, value in NETWORK.items() if key != "modulation"} | {"kind": "unet"}


def config(network: dict[str, Any] = NETWORK, process: dict[str, Any] = PROCESS, task: dict[str, Any] = TASK) -> Config:
    experiment = {
        "dataset": "digits",
        "network": network,
        "process": process,
        "task": task,
        "train": {"checkpoints": [1]},
        "sample": {"samplers": {"s": {"kind": "ddim", "steps": 10}}},
    }
    return parse({"datasets": {"digits": {"source": {"kind": "digits"}}}, "experiments": {"x": experiment}})


def their_encoder(z: int, channels: int = 3, large: bool = False) -> nn.Sequential:
    """torchvision's layers as a list, in which a small encoder has no max-pooling."""
    layers = OrderedDict(torchvision.models.resnet18(num_classes=z).named_children())
    if not large:
        del layers["maxpool"]
        layers["conv1"] = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
    fc = layers.pop("fc")
    return nn.Sequential(*layers.values(), nn.Flatten(), fc)


@pytest.mark.parametrize(("stem", "fc"), [("small", 9), ("large", 10)])
def test_every_tensor_of_the_encoder_has_a_place(stem: str, fc: int) -> None:
    with torch.device("meta"):
        ours, theirs = ResNet(3, z=128, stem=stem), their_encoder(128, large=stem == "large")
    names = soda.encoder_names(ours)
    shapes = {other: ours.state_dict()[name.removeprefix("encoder.")].shape for name, (other,) in names.items()}
    expected = {f"encoder.encoder.{name}": value.shape for name, value in theirs.state_dict().items()}
    assert shapes == {name: shape for name, shape in expected.items() if not name.endswith("num_batches_tracked")}
    assert names["encoder.fc.weight"] == (f"encoder.encoder.{fc}.weight",)


@pytest.mark.parametrize("options", [{}, {"resample": "block"}])
def test_the_decoder_has_ddaes_names_and_a_layer_for_the_code(options: dict[str, str]) -> None:
    with torch.device("meta"):
        plain = UNet(3, 128, (1, 2, 2, 2), blocks=2, attention=(1,), **options)
        decoder = ModulatedUNet(3, 128, (1, 2, 2, 2), "direct", z=128, blocks=2, attention=(1,), **options)
    made = soda.decoder_names(decoder)
    assert set(made) == {f"decoder.{name}" for name in decoder.state_dict()}
    ddaes = {f"decoder.{other}" for (other,) in ddae.unet_names(plain).values()}
    code = {name.replace(".time_emb.1.", ".z_emb.1.") for name in ddaes if ".time_emb.1." in name}
    assert {other for (other,) in made.values()} == ddaes | code
    assert "decoder.down.1.res.z_emb.1.weight" in code and "decoder.middle.res2.z_emb.1.bias" in code


Networks = dict[str, dict[str, Tensor]]  # their tensors by name, of the average (`ema`) and the weights (`raw`)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Networks]:
    """A file as their train.py writes one: EMA with the online model beside, MODEL in DDP; and both networks."""
    made: Networks = {}
    for seed, key in enumerate(("ema", "raw")):
        torch.manual_seed(seed)
        decoder = ModulatedUNet(1, 32, (1, 2), "direct", z=6, blocks=1, attention=(1,))
        encoder = their_encoder(6, channels=1)
        for norm in (part for part in encoder.modules() if isinstance(part, nn.BatchNorm2d)):
            nn.init.normal_(norm.running_mean), nn.init.uniform_(norm.running_var, 0.5, 1.5)
        made[key] = {f"encoder.encoder.{name}": x for name, x in encoder.state_dict().items()}
        state = decoder.state_dict()
        made[key] |= {other: state[name.removeprefix("decoder.")] for name, (other,) in names_of(decoder)}
    prefixed = [("ema_model.", "ema"), ("online_model.", "raw")]
    average = {f"{prefix}{name}": x for prefix, key in prefixed for name, x in made[key].items()}
    content = {
        "MODEL": {f"module.{name}": x for name, x in made["raw"].items()},
        "EMA": average | {"initted": torch.tensor(True), "step": torch.tensor(7)},
        "opt": {"state": {0: {"step": torch.tensor(7.0)}}, "param_groups": [{"lr": 2e-4, "params": [0]}]},
    }
    path = tmp_path_factory.mktemp("soda") / "model_799.pth"
    torch.save(content, path)
    return path, made


def names_of(decoder: ModulatedUNet):
    return soda.decoder_names(decoder).items()


def test_a_checkpoint_is_imported_whole(tmp_path: Path, file: tuple[Path, Networks]) -> None:
    """Average and weights; the encoder's codes are those of torchvision's layers, of images normalised as there."""
    path, made = file
    result = import_weights(config(), "x", "soda", str(path), tmp_path / "x.safetensors")
    assert result.sets == ["ema", "raw"]
    images = torch.rand(2, 1, 8, 8)
    for key, states in made.items():
        loaded = model.load(result.path, CPU, weights=key)
        theirs = their_encoder(6, channels=1).eval()
        own = {name.removeprefix("encoder.encoder."): x for name, x in states.items() if name.startswith("encoder.")}
        theirs.load_state_dict(own)
        expected = theirs((images - 0.4) / 0.3)
        torch.testing.assert_close(loaded.network.encode(2 * images - 1), expected, rtol=1e-4, atol=1e-4)
        decoder = loaded.network.decoder
        for name, (other,) in names_of(decoder):
            assert torch.equal(decoder.state_dict()[name.removeprefix("decoder.")], states[other])
    job = job_arguments.imported(config().experiments["x"])  # with which the job `imported` compares the header
    assert job == {part: loaded.header[part] for part in ("network", "process", "task")}


LARGE = {"stem": "large", "mean": [0.4], "std": [0.3]}
REFUSED = [
    (NETWORK | {"modulation": "residual"}, TASK, r"network\.modulation: residual is refused; allowed: direct"),
    (NETWORK | {"parts": "levels"}, TASK, r"network\.parts: levels is refused; allowed: all"),
    (NETWORK | {"blocks": 2}, TASK, "lack decoder.down.1.res"),
    (NETWORK, TASK | {"encoder": {}}, r"task\.encoder\.mean: None is refused; allowed: that of the images"),
    (NETWORK, TASK | {"z": 5}, r"encoder\.encoder\.9\.weight has shape \(6, 512\), expected \(5, 512\); set exp"),
    (NETWORK, TASK | {"encoder": LARGE}, r"encoder\.encoder\.0\.weight has shape \(64, 1, 3, 3\)"),
    (NETWORK, {"kind": "diffusion"}, r"task\.kind: diffusion is refused; allowed: soda, for --format soda"),
    (UNET, {"kind": "diffusion"}, r"network\.kind: unet is refused; allowed: modulated_unet"),
]


@pytest.mark.parametrize(("network", "task", "line"), REFUSED)
def test_another_experiment_is_refused(tmp_path: Path, file, network, task, line: str) -> None:
    with pytest.raises(UserError, match=line) as error:
        import_weights(
            config(network, task=task), "x", "soda", str(file[0]), tmp_path / "x.safetensors", say=lambda _: None
        )
    assert "\n" not in str(error.value)


def test_another_process_is_refused_and_another_format(tmp_path: Path, file) -> None:
    for made, form, line in (
        (config(process={"kind": "ddpm"}), "soda", "process.time_input: index is refused; allowed: fraction"),
        (config(), "ddae", "network.kind: modulated_unet is refused; allowed: unet, for --format ddae"),
    ):
        assert line in refusal(import_weights, made, "x", form, str(file[0]), tmp_path / "x.safetensors")
