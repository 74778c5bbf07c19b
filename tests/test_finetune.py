"""Fine-tuning: what is trained and at which rates, mixup, a stop in the middle, scores, what a config may not ask."""

import copy
import json
import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

from diffprobe.runtime.job import run

import pytest
import torch
import torch.nn.functional as F
import toy_soda
from scipy import stats
from sklearn.metrics import accuracy_score, log_loss
from toy_probing import EXPERIMENT, PROBE, SCRIPTS, UNET
from toy_training import CPU, KilledError, equal, run_once, slice_of

from diffprobe.config.built import parse_network
from diffprobe.config.load import parse
from diffprobe.config.training import HalfLife
from diffprobe.config.views import Crop
from diffprobe.data import views
from diffprobe.data.mixup import mixup, symmetric_beta
from diffprobe.diffusion.levels import CLEAN
from diffprobe.diffusion.process import perturb
from diffprobe.evaluation.representation.finetuned import Classifier, joined, score
from diffprobe.evaluation.representation.inputs import open_inputs
from diffprobe.networks.build import build
from diffprobe.plan import probe_job_arguments
from diffprobe.plan.training_argument import FineTuningArgument, parse_argument
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.keyed import Draws, Key, normal
from diffprobe.training import checkpoints
from diffprobe.training.data import Data
from diffprobe.training.loop import fresh, train
from diffprobe.training.optimizers import Options
from diffprobe.training.stream import Stream
from diffprobe.training.tasks.finetuning import FineTuning, make

DIT = {"kind": "dit", "width": 8, "depth": 3, "heads": 2, "patch": 4}
PROCESS = {"kind": "edm"}
OPTIONS = Options(batch=16, lr=0.1, optimizer="sgd", averages={"ema": HalfLife(kind="half_life", kimg=0.05, ramp=1.0)})


def raw(evaluator: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The toy experiment with an evaluator `tuned` beside its linear one."""
    evaluators = {"linear": PROBE["evaluators"]["linear"], "tuned": {"kind": "finetune", "kimg": 1, **evaluator}}
    toy = copy.deepcopy(EXPERIMENT | {"probe": PROBE | {"taps": "all", "evaluators": evaluators}} | changes)
    return {"datasets": {"digits": {"source": {"kind": "digits"}}}, "experiments": {"toy": toy}}


def tuned(folder: Path, network: dict[str, Any], tap: str, sigma: float = 0.3, **evaluator: Any) -> FineTuning:
    """The task that fine-tunes a network of random weights up to a tap, for grey images of 8x8."""
    config = parse(raw(evaluator, network=network))
    argument = probe_job_arguments.finetuning(config, config.experiments["toy"], "tuned", "seed_0")
    weights = folder / f"{tap}.safetensors"
    if network["kind"] == "modulated_unet":
        toy_soda.checkpoint(weights)
        argument |= {"model_task": {"kind": "soda", **toy_soda.TASK}, "network": toy_soda.NETWORK}
        argument["process"] = {"kind": "ddpm", "beta_schedule": "inverted"}
    else:
        torch.manual_seed(1)
        shape = {"image_channels": 1, "out_channels": 1} if network["kind"] == "dit" else {"image_channels": 1}
        module = build(parse_network(network), **shape)
        for parameter in module.parameters():
            parameter.data.add_(0.1 * torch.randn_like(parameter))
        header = {"network": network, "process": PROCESS, "shape": shape, "image": [1, 8, 8]}
        checkpoints.write(weights, {"ema": module.state_dict()}, header)
    parsed = parse_argument(argument)
    assert isinstance(parsed, FineTuningArgument)
    parsed = parsed.model_copy(update={"tap": tap, "sigma": sigma, "kimg": 1})
    return make(parsed, Data((1, 8, 8), 10, "", files={"weights.0": weights}), CPU, print)


def images(n: int = 64) -> Stream:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (n, 8, 8, 1), dtype=torch.uint8, generator=generator)
    return Stream(pixels, torch.randint(0, 10, (n,), generator=generator), 0, CPU)


# --- what is trained


def tops(block: list[str], depth: int) -> set[str]:
    return {".".join(name.split(".")[:depth]) for name in block}


def test_blocks_are_those_of_each_network_in_the_order_of_computation(tmp_path: Path) -> None:
    """With nothing after the tap; what comes before the first block counts with it."""
    unet = tuned(tmp_path, UNET, "out_1").blocks
    assert tops(unet[0], 2) == {"embed.0", "embed.2", "stem.weight", "stem.bias", "encoder.0"}
    assert [tops(block, 1) for block in unet[1:]] == [{"downs", "encoder"}, {"mid1", "mid2"}, {"decoder"}]
    assert tops(unet[3], 2) == {"decoder.0"}
    dit = tuned(tmp_path, DIT, "mlp_1").blocks
    assert tops(dit[0], 2) >= {"x_embedder.proj", "t_embedder.mlp", "blocks.0"} and tops(dit[1], 2) == {"blocks.1"}
    soda = {"kind": "modulated_unet"} | toy_soda.NETWORK
    encoder = tuned(tmp_path, soda, "features", CLEAN.sigma).blocks
    stem = {"encoder.conv1", "encoder.bn1"}  # `features`, a mean, has no parameters, and so is no block
    assert [tops(block, 2) for block in encoder] == [
        stem | {"encoder.layer1"}, {"encoder.layer2"}, {"encoder.layer3"}, {"encoder.layer4"},
    ]  # fmt: skip
    decoder = tuned(tmp_path, soda, "in_1", 0.3).blocks  # by the code of the clean image
    assert len(decoder) == 6 and tops(decoder[4], 2) == {"encoder.fc"} and "decoder.stem" in tops(decoder[5], 2)


@pytest.mark.parametrize("network", [UNET, DIT], ids=["unet", "dit"])
def test_a_step_is_the_gradient_at_the_rate_of_a_blocks_depth(network: dict[str, Any], tmp_path: Path) -> None:
    """SGD's first steps by hand; what lies after the tap is neither computed nor changed."""
    tap, after = {"unet": ("mid", "decoder"), "dit": ("block_1", "blocks.2")}[network["kind"]]
    network = network | ({"dropout": 0.0} if network["kind"] == "unet" else {})
    task = tuned(tmp_path, network, tap, layer_decay=0.5)
    task.module.head.weight.data.normal_()  # at zero no gradient reaches the network
    task.module.model.get_submodule(after).register_forward_hook(lambda *_: pytest.fail("computed after the tap"))
    before = copy.deepcopy(task.module.state_dict())
    seen = images().read(0, 16)
    draws = Draws(0, seen.positions)
    level = task.sight.level.of(seen.images)
    noisy = perturb(seen.images, level, draws.normal("noise", (1, 8, 8)))
    h = task.sight.process.denoise(task.module.model, noisy, level, taps=[tap], features_only=True).activations[tap]
    logits = task.module.head(F.layer_norm(h.mean((2, 3)), h.shape[1:2]))
    parameters = dict(task.module.named_parameters())
    trained = [name for name, parameter in parameters.items() if parameter.requires_grad]
    gradients = torch.autograd.grad(F.cross_entropy(logits, seen.labels), [parameters[name] for name in trained])
    blocks = {f"model.{name}": len(task.blocks) - i for i, block in enumerate(task.blocks) for name in block}
    train(task, images(), OPTIONS, fresh(task, OPTIONS), 1, lambda _: None)
    for name, gradient in zip(trained, gradients, strict=True):
        expected = before[name] - 0.1 * 0.5 ** blocks.get(name, 0) * gradient  # the classifier's depth is 0
        torch.testing.assert_close(parameters[name].data, expected, rtol=1e-5, atol=1e-7)
    assert set(trained) == {*blocks, "head.weight", "head.bias"}
    rest = parameters.keys() - set(trained)
    assert any(name.startswith(f"model.{after}") for name in rest)
    assert all(torch.equal(parameters[name], before[name]) for name in rest)


def test_weights_begin_as_the_checkpoints_or_fresh_and_only_matrices_decay(tmp_path: Path) -> None:
    pretrained, scratch = (tuned(tmp_path, UNET, "mid", start=start).module for start in ("checkpoint", "scratch"))
    stored = checkpoints.load(tmp_path / "mid.safetensors", CPU, parse_of)[0].state_dict()
    assert all(torch.equal(value, stored[name]) for name, value in pretrained.model.state_dict().items())
    assert not torch.equal(scratch.model.stem.weight, stored["stem.weight"])
    for group in tuned(tmp_path, UNET, "mid").parameter_groups():
        assert {p.ndim > 1 for p in group.parameters} == {group.weight_decay is None}


def parse_of(header: dict[str, Any]) -> Any:
    return parse_network(header["network"])


def test_a_clean_input_has_no_noise_at_the_lowest_level(tmp_path: Path) -> None:
    task, x = tuned(tmp_path, UNET, "mid", input="clean"), images().read(0, 4).images
    task.module.eval()  # without dropout
    level = task.sight.process.level(0.002)
    expected = task.sight.process.denoise(task.module.model, x, level.of(x), taps=["mid"]).activations["mid"]
    assert task.sight.level == level and not task.sight.draws
    torch.testing.assert_close(task.sight.activations(task.module.model, x, None, ["mid"])["mid"], expected)


# --- views


def test_a_padded_crop_is_that_of_the_stored_view() -> None:
    """Flip, crop and black border as for bytes."""
    rows, pixels = torch.arange(40), torch.randint(0, 256, (40, 8, 8, 1), dtype=torch.uint8)
    x = pixels.permute(0, 3, 1, 2) / 127.5 - 1
    crop = Crop(pad=2)
    expected = views.apply({"kind": "crop", **crop.model_dump(), "draw": 0}, pixels, rows, 7)
    torch.testing.assert_close(views.padded_crop(x, Draws(7, rows), crop), expected.permute(0, 3, 1, 2) / 127.5 - 1)


@pytest.mark.parametrize("alpha", [0.4, 1.0, 3.0])
def test_shares_of_mixup_are_of_the_beta_distribution(alpha: float) -> None:
    shares = symmetric_beta(Draws(0, torch.arange(20_000)), alpha).numpy()
    assert stats.kstest(shares, stats.beta(alpha, alpha).cdf).pvalue > 0.01
    assert shares.min() >= 0 and shares.max() <= 1


def test_mixup_mixes_pairs_whatever_the_division_and_its_labels_are_soft(tmp_path: Path) -> None:
    batch = images().read(0, 16)
    whole = mixup(batch.images, batch.labels, Draws(0, batch.positions), 0.5)
    parts = [images().read(start, start + 4) for start in range(0, 16, 4)]
    pieces = [mixup(part.images, part.labels, Draws(0, part.positions), 0.5) for part in parts]
    assert torch.equal(torch.cat([piece.images for piece in pieces]), whole.images)
    i, share = 6, whole.share[6]
    torch.testing.assert_close(whole.images[i], share * batch.images[i] + (1 - share) * batch.images[7])
    task = tuned(tmp_path, UNET | {"dropout": 0.0}, "mid", mixup=0.5)
    task.module.head.weight.data.normal_()
    draws = Draws(0, batch.positions)
    logits = task.sight.logits(task.module, whole.images, draws.normal("noise", (1, 8, 8)))
    own, others = F.one_hot(whole.labels, 10), F.one_hot(whole.others, 10)
    soft = whole.share[:, None] * own + (1 - whole.share[:, None]) * others
    torch.testing.assert_close(task.losses(batch, draws)["loss"], F.cross_entropy(logits, soft))


# --- the loop


def test_a_killed_run_goes_on_bit_for_bit_and_parts_change_only_rounding(tmp_path: Path) -> None:
    """Of SODA's encoder, whose batch norms have running averages."""
    soda, options = {"kind": "modulated_unet"} | toy_soda.NETWORK, replace(OPTIONS, optimizer="adamw", lr=1e-2)

    def trained(folder: str, **stop: Any) -> Any:
        task = tuned(tmp_path, soda, "stage_2", CLEAN.sigma, mixup=0.2)
        return run_once(slice_of(tmp_path / folder, 1, 0, 6), task, images(), options, **stop)[0]

    with pytest.raises(KilledError):
        trained("killed", die_at=3, autosave=0.0)
    assert equal(trained("killed"), trained("whole"))
    states = []
    for device_batch in (None, 4):
        task = tuned(tmp_path, UNET | {"dropout": 0.0}, "mid", mixup=0.2, crop={"pad": 1})
        states.append(fresh(task, options := replace(OPTIONS, device_batch=device_batch)))
        train(task, images(), options, states[-1], 3, lambda _: None)
    for a, b in zip(*(state.module.state_dict().values() for state in states), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


# --- scores


def test_scores_are_scikit_learns_of_mean_probabilities(digits_store: Path, tmp_path: Path) -> None:
    task = tuned(tmp_path, UNET, "mid")
    task.module.head.weight.data.normal_()
    task.module.eval()
    classifier = Classifier(task.module, task.sight, None, seed=3, device=CPU, bf16=False)
    data = open_inputs(digits_store, ["select"], CPU, None)["select"]
    labels = torch.arange(len(data.rows)) % 10
    p, rows = [], torch.from_numpy(data.rows)
    for draw in (4, 5):
        x = data.read(slice(0, len(rows)), Key(0, ""), draw, False)
        noise = normal(Key(3, "finetuned/0.3"), rows, (1, 8, 8), draw)
        p.append(task.sight.logits(task.module, x, noise).softmax(1).detach())
    one = score(classifier, data, labels, [4, 5], True, batch=77)
    mean = torch.stack(p).mean(0)
    assert one.accuracy.item() == pytest.approx(accuracy_score(labels, mean.argmax(1)))
    assert one.nll.item() == pytest.approx(log_loss(labels, mean.double()), rel=1e-5)
    each = score(classifier, data, labels, [4, 5], False, batch=50)
    assert each.accuracy.flatten().tolist() == pytest.approx([accuracy_score(labels, q.argmax(1)) for q in p])
    assert joined([one, one], "seeds").accuracy.shape == (2, 1, 1, 1)
    assert joined([one, one], "settings").accuracy.shape == (1, 1, 1, 2)
    assert joined([one, one], "seeds").confusion.sum() == 2 * len(labels)


def job(script: str, config: dict[str, Any], inputs: dict[str, Path], outputs: dict[str, Path], **options: Any) -> None:
    log = next(iter(outputs.values())).parent / "logs" / script / "log.log"
    argv = [json.dumps(config), "--log", str(log), "--threads", "1"]
    for flag, group in (("--in", inputs), ("--out", outputs), ("--with", options)):
        argv += [flag, *(f"{name}={value}" for name, value in group.items())]
    run(runpy.run_path(str(SCRIPTS / f"{script}.py"))["main"], argv)


def test_jobs_from_a_choice_to_a_row(digits_store: Path, untrained: Path, tmp_path: Path) -> None:
    """Digits of an untrained network that is trained far enough to know some of them."""
    config = parse(raw({"kimg": 3, "lr": [3e-3], "batch": 32}, network=UNET | {"dropout": 0.0}))
    toy, row = config.experiments["toy"], {"experiment": "toy", "dataset": "digits"}
    choice = tmp_path / "choice.json"
    cell = {"tap": "mid", "level": "0.1", "sigma": 0.1, "kimg": 1, "scorer": "linear", "setting": {"lr": 0.1}}
    choice.write_text(json.dumps(cell))
    folder = tmp_path / "run" / "checkpoints" / "3"
    outputs = {name: folder / f"{name}.safetensors" for name in ("ema", "raw")}
    outputs |= {"stats": folder / "stats.jsonl", "receipt": folder / "receipt.json"}
    inputs = {"images": digits_store, "choice": choice, "weights.0": untrained}
    argument = probe_job_arguments.finetuning(config, toy, "tuned", "seed_0")
    job("train", argument, inputs, outputs, kimg=3, start=0, stop=94, autosave=100, keep="last")
    inputs = {"images": digits_store, "choice": choice, "data": digits_store, "run.0": outputs["ema"]}
    outputs = {"rows": tmp_path / "tuned.json", "receipt": tmp_path / "tuned.receipt.json"}
    job("finetuned", probe_job_arguments.finetuned(toy, "tuned", row, False), inputs, outputs, batch=128, autosave=60)
    (result,) = json.loads(outputs["rows"].read_text())["rows"]
    assert result["split"] == "test" and result["tap"] == "mid" and result["setting"] == "lr=0.003"
    assert result["value"] > 0.3


# --- the config


@pytest.mark.parametrize(
    ("evaluator", "changes", "line"),
    [
        ({"combine": [{"level": 0.5}]}, {}, "tuned.combine"),
        ({"tokens": True}, {}, "tuned.tokens: true is refused; allowed: false"),
        ({"normalise": "l2"}, {}, "tuned.normalise: 'l2' is refused; allowed: null"),
        ({"lr": [1e-3, 1e-3]}, {}, "each learning rate once"),
        (
            {"batch": 33, "mixup": 0.2},
            {},
            "tuned.batch: 33 is refused; allowed: a multiple of 2, since mixup takes pairs",
        ),
        ({"mixup": 0.2}, {"train": {"checkpoints": [1], "device_batch": 5}}, "toy.train.device_batch: 5"),
        ({"batch": 2}, {"train": {"checkpoints": [1], "devices": 4}}, "tuned.batch: 2 is refused; allowed: at least"),
        ({"at": {"tap": "out_9"}}, {}, "tuned.at.tap: 'out_9'"),
    ],
)
def test_wrong_combinations_are_refused(evaluator: dict[str, Any], changes: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError) as caught:
        parse(raw(evaluator, **changes))
    assert line in str(caught.value) and "\n" not in str(caught.value)


def test_the_argument_of_a_run_holds_its_own_rate_alone() -> None:
    """So that another rate, seed or evaluator trains none of them again."""
    config = parse(raw({"lr": [1e-3, 1e-2]}))
    toy = config.experiments["toy"]
    rate, seed = (probe_job_arguments.finetuning(config, toy, "tuned", name) for name in ("lr_0.01", "seed_1"))
    assert rate["train"]["lr"] == 1e-2 and rate["train"]["splits"] == ["train"]
    assert "lr" not in seed["train"] and seed["train"]["splits"] == ["train", "select"] and seed["train"]["seed"] == 1
    assert json.dumps(rate).count("0.001") == 0
    assert "tuned" not in probe_job_arguments.grid(toy, {"experiment": "toy", "dataset": "digits"})["evaluators"]
