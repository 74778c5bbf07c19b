"""The shipped recipes: what they say is what the spec says, and small files scale, move and choose among them."""

import math
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from toy_dit import write_published

from diffprobe.config.built import parse_network
from diffprobe.config.inferred import augment_label, conditional
from diffprobe.config.levels import grid_levels
from diffprobe.config.load import load, parse
from diffprobe.config.models import Config
from diffprobe.config.schedules import linear_abar, ratios
from diffprobe.config.training import checkpoint_steps
from diffprobe.diffusion.build import build_process, build_sampler
from diffprobe.evaluation.model import load as load_model
from diffprobe.evaluation.representation.features import FeatureModel
from diffprobe.evaluation.sampling import evaluations
from diffprobe.interop.importing import import_weights
from diffprobe.networks.build import build
from diffprobe.networks.condition import Condition
from diffprobe.networks.discriminator import Discriminator
from diffprobe.plan.job_arguments import autoencoder
from diffprobe.plan.training_argument import parse_argument
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.keyed import Key, normal
from diffprobe.training.ema import decay

ROOT = Path(__file__).parents[1]
DDAE, SMOKE, LOCAL = (ROOT / "config" / f"{name}.yaml" for name in ("ddae", "smoke", "local_cifar10"))
CELEBAHQ = ROOT / "config" / "celebahq.yaml"
EDM = ROOT / "config" / "edm.yaml"
DIT_GTA, DDAE_DIT, SMOKE_DIT = (ROOT / "config" / f"{name}.yaml" for name in ("dit_gta", "ddae_dit", "smoke_dit"))
RAW = yaml.safe_load(DDAE.read_text())
RECIPES = load(DDAE)
NAMES = list(RECIPES.experiments)
EPOCH = 50_000  # images

# Of DDAE's five config files: epochs, batch of all GPUs, learning rate, epochs of warm-up, decay, dropout.
PUBLISHED = {
    "DDPM_ddpm": (2000, 512, 4e-4, 13, 0.9999, 0.1),
    "DDPM_ddpmpp": (2000, 256, 4e-4, 13, 0.9999, 0.1),
    "EDM_ddpm": (2000, 512, 4e-4, 200, 0.9993, 0.13),
    "EDM_ddpmpp": (2000, 256, 4e-4, 200, 0.9993, 0.13),
    "EDM_ddpmpp_aug": (4000, 512, 8e-4, 200, 0.9993, 0.13),
}
PARAMETERS = {
    "DDPM_ddpm": 35_746_307,
    "DDPM_ddpmpp": 56_524_291,
    "EDM_ddpm": 35_746_307,
    "EDM_ddpmpp": 56_524_291,
    "EDM_ddpmpp_aug": 56_525_443,
    "tiny_EDM_ddpmpp": 56_524_291,
}


@pytest.fixture(autouse=True)
def zips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIFAR10_A", "~/a.zip")
    monkeypatch.setenv("CIFAR10_B", "~/b.zip")
    monkeypatch.setenv("CELEBAHQ", "~/CelebAMask-HQ")
    monkeypatch.setenv("IMAGENET", "~/imagenet")


def refusal(**more: Any) -> list[str]:
    with pytest.raises(UserError) as caught:
        parse(RAW | more)
    return str(caught.value).splitlines()


# --- what they say ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_settings(name: str) -> None:
    epochs, batch, lr, warmup, decay, dropout = PUBLISHED[name]
    experiment = RECIPES.experiments[name]
    train = experiment.train
    assert [1000 * kimg for kimg in train.checkpoints] == list(range(400 * EPOCH, epochs * EPOCH + 1, 400 * EPOCH))
    assert (train.batch, train.lr, 1000 * train.warmup_kimg) == (batch, lr, warmup * EPOCH)
    assert train.averages["ema"].model_dump() == {"kind": "ddae", "decay": decay}
    assert (train.optimizer, train.beta1, train.beta2, train.weight_decay, train.clip) == ("adam", 0.9, 0.999, 0, 1)
    assert experiment.network.dropout == dropout
    assert experiment.process.kind == name[:4].strip("_").lower()
    assert [train.flip, train.augment and train.augment.p] == ([False, 0.12] if name.endswith("aug") else [True, None])


@pytest.mark.parametrize("name", NAMES)
def test_networks_have_the_published_size(name: str, described: Callable) -> None:
    assert described(RECIPES, name)["network"]["parameters"] == PARAMETERS[name]


EDMS = {"EDM_uncond": (55_733_891, 1.97), "EDM_cond": (55_735_299, 1.79)}  # parameters and FID of Karras et al. 2022


@pytest.mark.parametrize(("path", "name"), [*((DDAE, name) for name in NAMES), *((EDM, name) for name in EDMS)])
def test_headers_tell_the_cost(path: Path, name: str, described: Callable) -> None:
    """In the comment above each recipe."""
    text = header(path, name)
    training = described(load(path), name)["training"]
    assert f"{training['images'] / 1e6:.0f} M images, {training['flops'] / 1e18:.3g} EFLOP" in text
    for card, peak in {"H100": 989, "A100": 312, "RTX 4090": 165, "RTX 3090": 71}.items():
        hours = training["flops"] / (0.25 * peak * 1e12) / 3600
        assert int(re.search(rf"{card} (\d+)[,.]", text)[1]) == pytest.approx(hours, abs=0.6, rel=5e-3)


def header(path: Path, name: str) -> str:
    """The comment above a recipe."""
    before = re.split(rf"\n  {name}:(?: &\w+)?\n", path.read_text())[0]
    return re.split(r"\n\n|\nexperiments:\n", before)[-1]


@pytest.mark.parametrize("name", EDMS)
def test_edms_own_recipes_are_the_published_ones(name: str, described: Callable) -> None:
    """Karras et al. 2022, their code's defaults for CIFAR-10: parameters, loss, optimiser, length, average, sampler."""
    count, fid = EDMS[name]
    config = load(EDM)
    experiment = config.experiments[name]
    assert described(config, name)["network"]["parameters"] == count
    assert f"({count:,} parameters). Published: FID {fid} at NFE 35." in header(EDM, name)
    train = experiment.train
    assert (train.optimizer, train.lr, train.beta1, train.beta2, train.clip) == ("adam", 1e-3, 0.9, 0.999, None)
    assert (train.batch, train.checkpoints[-1], train.warmup_kimg) == (512, 200_000, 10_000)
    assert (train.flip, train.augment.p, experiment.network.dropout) == (False, 0.12, 0.13)
    assert train.averages["ema"].model_dump() == {"kind": "half_life", "kimg": 500, "ramp": 0.05}
    assert experiment.process.reduction == "sum"
    assert experiment.network.conditional == (name == "EDM_cond") and experiment.network.label_dropout == 0
    sampler = build_sampler(experiment.sample.samplers["published"], experiment.process)
    assert evaluations(sampler) == 35 and not sampler.settings.clip and sampler.settings.churn == 0


def test_ddpm_probes_at_the_published_steps() -> None:
    table = ratios(linear_abar(1000, 1e-4, 0.02))
    for name in ("DDPM_ddpm", "DDPM_ddpmpp"):
        experiment = RECIPES.experiments[name]
        levels = grid_levels(experiment)
        assert levels == pytest.approx([table[t] for t in (1, 11, 21)], rel=1e-12)
        process = build_process(experiment.process)
        assert [process.level(level).c_noise for level in levels] == [0.001, 0.011, 0.021]


@pytest.mark.parametrize("name", ["EDM_ddpm", "EDM_ddpmpp", "EDM_ddpmpp_aug", "tiny_EDM_ddpmpp"])
def test_edm_probes_at_the_published_indices(name: str) -> None:
    """Karras et al. 2022, eq. 5, with 18 steps; DDAE counts from the lowest, which is 1."""
    high, low = 80 ** (1 / 7), 0.002 ** (1 / 7)
    sigmas = [(high + i / 17 * (low - high)) ** 7 for i in range(18)][::-1]
    levels = grid_levels(RECIPES.experiments[name])
    assert levels == pytest.approx(sigmas[2 : 2 + len(levels)], rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_samplers_are_the_published_ones_and_exact_ones(name: str) -> None:
    samplers = RECIPES.experiments[name].sample.samplers
    assert list(samplers) == ["published", "exact"]
    settings = {key: value.model_dump() for key, value in samplers.items()}
    differ = {key for key in settings["exact"] if settings["exact"][key] != settings["published"][key]}
    if name.startswith("DDPM"):
        assert differ == {"table"} and samplers["published"].table == "ddae"
        assert (samplers["exact"].kind, samplers["exact"].steps, samplers["exact"].eta) == ("ddim", 100, 0)
    else:
        assert differ == {"clip"} and samplers["published"].clip
        assert (samplers["exact"].kind, samplers["exact"].steps, samplers["exact"].churn) == ("heun", 18, 0)


# --- scaled down and moved ----------------------------------------------------------------------------------


@pytest.mark.parametrize("files", [(SMOKE,), (LOCAL, SMOKE)], ids=["download", "zips"])
@pytest.mark.parametrize("name", NAMES)
def test_smoke_scales_every_recipe(name: str, files: tuple[Path, ...], described: Callable) -> None:
    config = load(DDAE, *files, only=name)
    assert list(config.datasets) == ["cifar10"] and config.results != RECIPES.results
    small, whole = config.experiments[name], RECIPES.experiments[name]
    assert small.process == whole.process and small.train.averages == whole.train.averages
    assert (small.network.attention, small.network.multipliers) == (whole.network.attention, whole.network.multipliers)
    assert small.train.checkpoints[-1] * 1000 <= 5000 and small.sample.images <= 100
    assert described(config, name)["training"]["flops"] < 2e13  # minutes
    assert config.extractors[small.generation.extractors[0]].kind == "classifier"


def test_local_zips_take_the_place_of_the_download() -> None:
    config = load(DDAE, LOCAL, only=["EDM_ddpm"])
    assert [path[-5:] for path in config.datasets["cifar10"].source.paths] == ["a.zip", "b.zip"]
    assert config.datasets["cifar10"].split.model_dump() == {"kind": "last", "select": 5000, "test": 5000}


# --- CelebA-HQ ----------------------------------------------------------------------------------------------


def parameters(network: dict[str, Any], **shape: int) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build(parse_network(network), **shape).parameters())


def test_faces_are_the_published_recipe() -> None:
    """22,500 steps of 4 images, the discriminator after 7,500; DiT-B/2's shape for 500 epochs."""
    config = load(CELEBAHQ)
    vae, faces = config.autoencoders["faces_vae"], config.experiments["faces_dit"]
    tree, train = autoencoder(vae), vae.train
    assert parameters(tree["network"]) == 17_760_359
    adversary = Discriminator(3, tree["losses"]["adversary"]["widths"], tree["losses"]["adversary"]["norm"])
    assert sum(parameter.numel() for parameter in adversary.parameters()) == 663_360
    assert (train.batch, 1000 * train.kimg / train.batch, 1000 * train.adversary.start_kimg / train.batch) == (
        4,
        22500,
        7500,
    )
    assert (train.lr, train.beta1, train.beta2, train.clip, train.reconstruction) == (1e-5, 0.5, 0.999, None, "mse")
    assert (train.kl_weight, train.perceptual.weight, train.adversary.weight) == (5e-6, 1.0, 0.5)
    assert decay(parse_argument(tree).train.averages["ema"], 1000, train.batch) < 1e-10  # the last weights
    assert vae.latent_space == (4, 32) and config.latents["faces_latents"].scale == 1.0
    assert parameters(faces.network.argument(), image_channels=4) == 129_927_952
    assert (faces.train.lr, faces.train.batch, faces.train.weight_decay) == (1e-5, 32, 0)
    assert faces.train.checkpoints[-1] * 1000 == 500 * 30_000
    assert faces.sample.samplers["published"].model_dump(include={"steps", "variance", "weights", "clip"}) == {
        "steps": None,
        "variance": "small",
        "weights": "raw",
        "clip": False,
    }


def test_faces_tell_their_cost(described: Callable) -> None:
    training = described(load(CELEBAHQ), "faces_dit")["training"]
    cost = f"{training['images'] / 1e6:.0f} M images, {training['flops'] / 1e18:.3g} EFLOP"
    hours = [training["flops"] / (0.25 * peak * 1e12) / 3600 for peak in (989, 312, 165, 71)]
    assert (
        f"{cost}; hours on H100 %.0f, A100 %.0f, RTX 4090 %.0f, RTX 3090 %.0f." % tuple(hours) in CELEBAHQ.read_text()
    )


# --- DiT in latents -----------------------------------------------------------------------------------------

# Parameters with the position table, trained ones, and FID at 200,000 and 2,500,000 steps where that is published.
ARMS: dict[str, tuple[int, int, tuple[float, ...]]] = {
    "abs": (130_512_416, 130_315_808, (31.93, 7.03)),
    "abs_qk_norm": (130_513_952, 130_317_344, ()),
    "rope": (130_315_808, 130_315_808, ()),
    "rope_qk_norm": (130_317_344, 130_317_344, (25.71, 6.26)),
    "gta": (130_315_808, 130_315_808, ()),
    "gta_qk_norm": (130_317_344, 130_317_344, (25.15, 5.87)),
}


@pytest.mark.parametrize("name", ARMS)
def test_position_codes_are_compared_as_published(name: str, described: Callable) -> None:
    """Miyato et al. 2024, branch DiT: DiT-B/2, 200,000 and 2,500,000 steps; samples as in DiT's code."""
    counted, trained, published = ARMS[name]
    config = load(DIT_GTA)
    experiment, train, text = config.experiments[name], config.experiments[name].train, header(DIT_GTA, name)
    told = described(config, name)
    assert (told["network"]["parameters"], told["network"]["trainable"]) == (counted, trained)
    assert f"{counted:,} parameters" in text and f"{trained:,}" in text
    assert [float(figure) for figure in re.findall(r"\d+\.\d\d", text)] == list(published)
    hours = [told["training"]["flops"] / (0.25 * peak * 1e12) / 3600 for peak in (989, 312)]
    cost = f"640 M images, {told['training']['flops'] / 1e18:.3g} EFLOP"
    assert f"{cost}; hours on H100 %.0f, A100 %.0f." % tuple(hours) in text
    position, _, norm = name.partition("_")
    assert (experiment.network.position, experiment.network.qk_norm) == (position, norm == "qk_norm")
    assert [checkpoint_steps(kimg, train.batch) for kimg in train.checkpoints] == [200_000, 2_500_000]
    assert (train.optimizer, train.batch, train.lr, train.weight_decay, train.clip) == ("adamw", 256, 1e-4, 0, None)
    for seen in (256, 10**6, 10**9):
        assert decay(train.averages["ema"], seen, 256) == pytest.approx(0.9999, abs=1e-9)
    assert (experiment.process.kind, experiment.process.time_input) == ("iddpm", "index")
    samplers = experiment.sample.samplers
    assert {key: sampler.weights for key, sampler in samplers.items()} == {"published": "ema", "last": "raw"}
    for sampler in samplers.values():
        assert (sampler.kind, sampler.steps, sampler.spacing, sampler.variance) == ("ddpm", 250, "dit", "learned")
        assert (sampler.guidance, sampler.guidance_channels, sampler.labels) == (1.5, 3, "random")
    assert experiment.sample.images == 50_000 and "fid50k" in experiment.generation.figures
    assert config.latents["imagenet_sd"].scale == "published" and not augment_label(config, experiment)


def test_the_published_dit_is_probed_at_the_published_cells(described: Callable) -> None:
    """DDAE's folder DiT: block 13 of 0..27, t counted from 0; and a grid that holds both cells."""
    config = load(DDAE_DIT)
    table = ratios(linear_abar(1000, 1e-4, 0.02))
    for name, t in (("cifar10_dit_xl2", 121), ("tiny_imagenet_dit_xl2", 81)):
        cell, grid = config.experiments[name], config.experiments[f"{name}_grid"]
        assert (cell.probed_taps, grid_levels(cell)) == (["block_13"], [pytest.approx(table[t + 1])])
        assert build_process(cell.process).level(grid_levels(cell)[0]).c_noise == t
        assert (len(grid.probed_taps), len(grid_levels(grid))) == (28, 10)
        assert "block_13" in grid.probed_taps and grid_levels(cell)[0] in grid_levels(grid)
        head = cell.probe.evaluators["published"]
        assert (head.lr, head.batch, head.epochs, head.weight_decay, cell.probe.augmented) == ([4e-3], 512, 30, 0, 30)
        for key, experiment in ((name, cell), (f"{name}_grid", grid)):
            assert not conditional(config, experiment) and experiment.probe.label is None
            assert parameters(experiment.network.argument(), image_channels=4, out_channels=8) == 673_681_568
            told = described(config, key)["bytes"]
            assert (told["checkpoints"], told["states"]) == (4 * 673_681_568, 0)
    # The label table's 1,001 rows and the position table are the rest of DiT-XL/2's 675,129,632.
    assert 673_681_568 + (1001 + 256) * 1152 == 675_129_632


def smoke_probe(tmp_path: Path) -> Config:
    imported = {"train": {"imported": str(tmp_path / "imported.safetensors")}}
    return load(DDAE_DIT, SMOKE_DIT, only="cifar10_dit_xl2", experiments={"cifar10_dit_xl2": imported})


def test_the_published_dit_is_given_no_label_and_the_true_time(tmp_path: Path) -> None:
    """Features of the import, which has no labels, are those of the published form with its null label, 1000."""
    config = smoke_probe(tmp_path)
    theirs = write_published(tmp_path / "theirs.pt")
    import_weights(config, "cifar10_dit_xl2", "dit", str(tmp_path / "theirs.pt"))
    model = load_model(tmp_path / "imported.safetensors", torch.device("cpu"))
    level = model.process.level(grid_levels(config.experiments["cifar10_dit_xl2"])[0])
    settings = {"network": model.network, "process": model.process, "seed": 0, "device": torch.device("cpu")}
    x = torch.randn(3, 4, 16, 16, generator=torch.manual_seed(0))
    ours = FeatureModel(**settings).pooled(x, torch.arange(3), level, {"b": ("block_13", "mean")}, Key(0, "test"), 0)
    noise = normal(Key(0, "test"), torch.arange(3), (4, 16, 16), 0)
    abar = linear_abar(1000, 1e-4, 0.02)[122]  # of t = 121 from 0
    noisy = math.sqrt(abar) * x + math.sqrt(1 - abar) * noise
    null = Condition(label=torch.full((3,), 1000))
    _, taps = theirs(noisy, torch.full((3,), 121.0), null, taps=["block_13"], features_only=True)
    torch.testing.assert_close(ours["b"], taps["block_13"].mean((2, 3)), rtol=1e-4, atol=1e-4)
    _, other = theirs(noisy, torch.full((3,), 122.0), null, taps=["block_13"], features_only=True)
    assert (ours["b"] - other["block_13"].mean((2, 3))).abs().max() > 1e-3


@pytest.mark.parametrize("recipe", [DIT_GTA, CELEBAHQ, DDAE_DIT], ids=lambda path: path.stem)
def test_smoke_scales_every_recipe_of_a_dit(recipe: Path, described: Callable, tmp_path: Path) -> None:
    recipes = load(recipe).experiments
    photographs = {"smoke": {"source": {"kind": "zip", "paths": [str(tmp_path / "a.zip")]}, "size": 32}}
    for more in ({}, {"datasets": photographs}):
        config = load(recipe, SMOKE_DIT, only=list(recipes), **more)
        assert list(config.datasets) == ["smoke"] and config.results == "results/smoke_dit"
        for name, whole in recipes.items():
            small = config.experiments[name]
            assert small.process == whole.process and small.train.imported == whole.train.imported
            same = ("position", "qk_norm", "time_embedding", "conditional", "augment", "patch")
            assert all(getattr(small.network, key) == getattr(whole.network, key) for key in same)
            assert set(small.sample.samplers) >= set(whole.sample.samplers)
            assert small.probe == whole.probe
    assert described(config, name)["training"]["flops"] < 1e13


def test_a_dry_run_of_a_dit_recipe_needs_no_photographs(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--cores", "1", "-n"]
    command += ["--directory", str(tmp_path), "--configfile", str(DIT_GTA), str(SMOKE_DIT), "--config"]
    ran = subprocess.run([*command, "only=gta_qk_norm"], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert "results/smoke_dit/runs/gta_qk_norm/" in ran.stdout and "imagenet" not in ran.stdout


# --- the key `only` -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("only", ["DDPM_ddpm", ["DDPM_ddpm"]])
def test_only_takes_experiments_and_what_they_need(only: Any) -> None:
    config = parse(RAW | {"only": only})
    assert list(config.experiments) == ["DDPM_ddpm"]
    assert list(config.datasets) == ["cifar10"]  # Tiny-ImageNet is not downloaded
    assert config.experiments["DDPM_ddpm"] == RECIPES.experiments["DDPM_ddpm"]


def test_others_are_as_if_they_were_not_there() -> None:
    raw = RAW | {"experiments": RAW["experiments"] | {"broken": {"trian": 3}}}
    assert list(parse(raw | {"only": ["EDM_ddpm", "DDPM_ddpm"]}).experiments) == ["DDPM_ddpm", "EDM_ddpm"]
    with pytest.raises(UserError, match="broken"):
        parse(raw)


def test_only_keeps_what_latents_need() -> None:
    raw = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())
    raw["datasets"]["other"] = raw["datasets"]["digits"]
    raw["autoencoders"]["digits_vae"]["dataset"] = "other"
    assert list(parse(raw | {"only": "digits_dit"}).datasets) == ["digits", "other"]
    assert list(parse(raw | {"only": "digits_edm"}).datasets) == ["digits"]


@pytest.mark.parametrize(("only", "said"), [("DDPM", "'DDPM'"), (["DDPM_ddpm", "x"], "'x'"), ([], "[]")])
def test_unknown_names_are_refused_in_one_line(only: Any, said: str) -> None:
    assert refusal(only=only) == [f"config: only: {said} is refused; allowed: {', '.join(NAMES)}"]


@pytest.mark.parametrize("only", [3, {"a": 1}, True, ["EDM_ddpm", 3]])
def test_what_is_no_name_is_refused(only: Any) -> None:
    assert all(line.startswith("config: only") and "name" in line for line in refusal(only=only))


def test_snakemake_takes_only_on_its_command_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--cores", "1", "-n"]
    command += ["--directory", str(tmp_path), "--configfile", str(DDAE), str(SMOKE), "--config"]
    ran = subprocess.run([*command, "only=EDM_ddpm"], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert "results/smoke/runs/EDM_ddpm/" in ran.stdout
    assert "DDPM_ddpm" not in ran.stdout and "tiny_imagenet" not in ran.stdout
    ran = subprocess.run([*command, "only=EDM"], capture_output=True, text=True)
    assert ran.returncode and "config: only: 'EDM' is refused" in ran.stderr and "Traceback" not in ran.stderr


# --- the key `each` -----------------------------------------------------------------------------------------


def test_each_is_merged_over_every_experiment() -> None:
    config: Config = parse(
        RAW | {"each": {"train": {"batch": 64}, "sample": {"samplers": {"published": {"steps": 5}}}}}
    )
    for name, experiment in config.experiments.items():
        assert experiment.train.batch == 64 and experiment.train.lr == RECIPES.experiments[name].train.lr
        assert (experiment.sample.samplers["published"].steps, len(experiment.sample.samplers)) == (5, 2)


EACH: dict[str, tuple[Any, str]] = {
    "unknown key": (
        {"train": {"bach": 3}},
        "each.train.bach: 3 is refused: unknown key (did you mean batch?)",
    ),
    "unknown part": ({"trian": {}}, "each.trian: {} is refused: unknown key (did you mean train?)"),
    "wrong type": ({"train": {"lr": "fast"}}, "each.train.lr: 'fast' is refused; allowed: positive number"),
    "wrong item": ({"train": {"checkpoints": [1, -2]}}, "each.train.checkpoints.1: -2 is refused; allowed: positive"),
    "what does not fit": (
        {"train": {"checkpoints": [2, 1]}},
        "each.train.checkpoints: [2, 1] is refused; allowed: increasing",
    ),
    "unknown dataset": ({"dataset": "mnist"}, "each.dataset: 'mnist' is refused; allowed: cifar10, tiny_imagenet"),
    "nothing": ({"network": None}, "each.network: null is refused; allowed: keys, among them kind: `diffusers`"),
    "no keys": ("train", "each: 'train' is refused; allowed: keys (those of an experiment)"),
}


@pytest.mark.parametrize(("each", "said"), EACH.values(), ids=EACH.keys())
def test_mistakes_in_each_are_named_there_and_once(each: Any, said: str) -> None:
    (line,) = refusal(each=each)
    assert line.startswith(f"config: {said}") and not line.endswith(")")


def test_a_mistake_of_some_experiments_says_of_which() -> None:
    (line,) = refusal(each={"process": {"sigma_data": 1.0}})
    assert line.startswith("config: each.process.sigma_data: 1.0 is refused: unknown key; allowed keys: kind")
    assert line.endswith(" (in DDPM_ddpm, DDPM_ddpmpp)")


def test_what_an_experiment_lacks_is_named_there() -> None:
    lines = refusal(each={"sample": {"samplers": {"third": {"steps": 3}}}}, only=["EDM_ddpm"])
    assert lines == [
        "config: experiments.EDM_ddpm.sample.samplers.third.kind: this key is missing; "
        "allowed: `ddpm` or `ddim` or `euler` or `euler_maruyama` or `heun`"
    ]


# --- benchmarks ---------------------------------------------------------------------------------------------


def test_throughput_runs_the_training_job_of_a_recipe(tmp_path: Path) -> None:
    """By a plan, as on a machine without pydantic; with a network that takes no time."""
    script = [sys.executable, "-m", "benchmarks.throughput"]
    plan = tmp_path / "plan.json"
    subprocess.run([*script, "--write-plan", str(plan)], check=True, cwd=ROOT)
    small = ["network.channels=8", "network.groups=8", "network.multipliers=[1,1]", "network.blocks=1", "image=[3,8,8]"]
    command = [*script, "EDM_ddpmpp_aug", "--plan", str(plan), "--batch", "250", "--seconds", "1", "--peer", "580"]
    ran = subprocess.run([*command, "--set", *small], capture_output=True, text=True, cwd=ROOT)
    assert ran.returncode == 0, ran.stderr
    head, _, row = ([cell.strip() for cell in line.split("|")] for line in ran.stdout.splitlines())
    cells = dict(zip(head, row, strict=True))
    assert cells["job"] == "EDM_ddpmpp_aug training" and float(cells["images/s"].replace(",", "")) > 0
