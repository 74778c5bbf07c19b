"""Classifiers over the noise level: a head for all levels on stored features, and what its results are called."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from toy_probing import EXPERIMENT, PROBE, chain, experiment

from diffprobe.config.evaluators.noise_classifier import NoiseClassifier
from diffprobe.config.levels import by_level
from diffprobe.config.load import load, parse
from diffprobe.config.processes import Process
from diffprobe.diffusion.build import build_process
from diffprobe.evaluation.representation.descent import row_streams, steps
from diffprobe.evaluation.representation.noise_classifier import NoiseClassifiers, fit, new_heads
from diffprobe.evaluation.representation.table import table_of
from diffprobe.reporting.noise_plots import accuracy_over_noise
from diffprobe.reporting.repeats import repeats
from diffprobe.reporting.tables import results, summary
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.keyed import Draws, Key, uniform

CPU = torch.device("cpu")
MEMORY = 1e8
LEVELS = [0.1, 0.5, 2.0]
CONFIGS = [
    Path(__file__).parents[1] / f"config/{name}.yaml"
    for name in ("ddae", "noise_classifiers", "smoke_noise_classifiers")
]
RECIPE = ["DDPM_ddpm", "EDM_ddpmpp", "wrn_vp", "wrn_ve"]


def test_scores_by_level_go_through_all_jobs_to_the_tables(tmp_path: Path, digits_store: Path, untrained: Path) -> None:
    evaluators = {
        "ridge": {"kind": "ridge"},
        "by_level": {"kind": "ridge", "levels": [2.0, 0.1]},
        "one": {"kind": "ridge", "at": {"level": 2.0}},
        "mlp": {"kind": "noise_classifier", "epochs": 10, "lr": [1e-3, 1e-2], "at": {"tap": "out_1"}},
    }
    settings = experiment(levels=LEVELS, taps=["out_1", "mid"], evaluators=evaluators)
    run = chain(tmp_path, digits_store, untrained, settings)
    rows = [*run.rows, *(row for test in run.test.values() for row in test["rows"])]
    table = summary(rows)
    tested = table[table["split"] == "test"].set_index(["evaluator", "sigma"])["value"]
    assert sorted(tested["mlp"].index) == LEVELS and tested["mlp"].is_monotonic_decreasing
    assert tested["mlp", 0.1] > 0.6  # of ten classes
    assert tested["mlp_mean"].item() == pytest.approx(tested["mlp"].mean())
    # A probe at each level is the probe at that level.
    assert sorted(tested["by_level"].index) == [0.1, 2.0] and tested["by_level", 2.0] == tested["one"].item()
    assert "mlp_mean test" in (shown := results(rows, {"toy": run.choice})) and "mlp test" not in shown
    # Repeats are compared level by level, and at the chosen level whichever it was.
    other = [{**row, "experiment": "again", **({"sigma": 9.0} if row["evaluator"] == "ridge" else {})} for row in rows]
    compared = repeats([*rows, *other], {"both": {"toy": (0, 0), "again": (1, 1)}}).set_index(["evaluator", "split"])
    assert compared.loc["mlp", "test"]["level"].tolist() == ["0.1", "0.5", "2"]
    assert compared.loc["ridge", "test"]["seeds"].item() == compared.loc["mlp", "test"]["seeds"].min() == 2
    lines = accuracy_over_noise([row for name in ("mlp", "by_level") for row in run.test[name]["rows"]]).axes[0].lines
    curves = {line.get_label(): line for line in lines}
    assert curves["toy, mlp"].get_xdata() == pytest.approx([-2 * math.log(sigma) for sigma in LEVELS])


def test_heads_of_all_seeds_and_rates_are_those_of_torch() -> None:
    """PyTorch's modules, one head at a time, from the same weights, batches and levels, by gradient descent."""
    features, labels = torch.randn(2, 40, 3 * 8).half(), torch.arange(40) % 4
    table = table_of(features, labels, widths=[8, 8, 8])
    tables, seeds = [table.some(0, 1), table.some(1, 1)], [0, 1]
    settings = NoiseClassifier(kind="noise_classifier", levels=LEVELS, shares=[1, 0, 2], lr=[0.1, 0.3], width=16)
    settings = settings.model_copy(
        update={"optimizer": "sgd", "momentum": 0.0, "epochs": 2, "batch": 16, "weight_decay": 0.1}
    )
    together = fit(settings, tables, seeds, 4, MEMORY, CPU)
    p = together.probabilities(features[:, None].flatten(1, 2).float())  # (S, L, H, n, K)
    for s, seed in enumerate(seeds):
        for h, lr in enumerate(settings.lr):
            start = new_heads(settings, tables, seeds, 4, CPU)
            layers = [torch.nn.Linear(*layer.weight.shape[:1:-1]) for layer in start.layers]
            for layer, own in zip(layers, start.layers, strict=True):
                layer.weight.data, layer.bias.data = own.weight[s, h].clone(), own.bias[s, h, :, 0].clone()
            stream = row_streams(tables, seeds, MEMORY, CPU)[s]
            for begin, stop, factor in steps(settings, 40):
                x, y = stream.read(begin, stop)
                level = 2 * (uniform(Key(seed, "probe-level"), torch.arange(begin, stop)) >= 1 / 3).long()  # 0 or 2
                F.cross_entropy(plain(layers, x, level, start, s), y).backward()
                for parameter in (each for layer in layers for each in layer.parameters()):
                    decay = 0.1 * parameter.data if parameter.ndim == 2 else 0  # biases do not decay
                    parameter.data -= lr * factor * (parameter.grad + decay)
                    parameter.grad = None
            for level in range(3):
                expected = plain(layers, features[s], torch.full((40,), level), start, s).softmax(1)
                torch.testing.assert_close(p[s, level, h], expected, rtol=1e-3, atol=1e-4)


def plain(
    layers: list[torch.nn.Linear], x: torch.Tensor, level: torch.Tensor, heads: NoiseClassifiers, seed: int
) -> torch.Tensor:
    own = x.float().view(len(x), 3, 8)[torch.arange(len(x)), level]
    own = (own - heads.mean[seed, level]) / heads.std[seed, level]
    embedding = layers[1](F.silu(layers[0](heads.levels[level])))
    return layers[3](F.silu(layers[2](own + embedding)))


@pytest.mark.parametrize(
    "process",
    [
        {"kind": "edm"},
        {"kind": "ddpm", "steps": 200},
        {"kind": "flow"},
        {"kind": "flow", "t": "logit_normal", "t_mean": -0.5},
    ],
)
def test_levels_are_drawn_as_often_as_training_draws_levels_near_them(process: dict[str, Any]) -> None:
    settings = Process.member(process)
    levels = [0.02, 0.1, 0.3, 0.7, 1.5, 8.0]
    shares = NoiseClassifier(kind="noise_classifier").at_levels(levels, settings)["shares"]
    images = torch.zeros(20_000, 1, 1, 1)
    drawn = build_process(settings).draw_levels(images, Draws(0, torch.arange(len(images))))
    distances = ((drawn.sigma / drawn.alpha).log()[:, None] - torch.tensor(levels).log()).abs()
    assert shares == pytest.approx((distances.argmin(1).bincount(minlength=6) / len(images)).tolist(), abs=0.01)


@pytest.mark.parametrize(
    ("evaluator", "probe", "problem"),
    [
        ({"levels": [0.5, 90.0]}, {}, "0.002 to 80 (the process's sigma_min to sigma_max)"),
        ({"levels": [0.5, 3.0]}, {}, "levels: '3' is refused; allowed: levels of the grid"),
        ({"levels": [0.5, 0.5]}, {}, "allowed: at least one level with noise, each once"),
        ({"shares": [1.0]}, {}, "shares: [1.0] is refused; allowed: 2 shares, one of each level, not all of them 0"),
        ({"combine": [{"tap": "mid"}]}, {}, "allowed: null, or no combine and no other level in at"),
        ({"tokens": True}, {}, "tokens: true is refused; allowed: false, since it sees pooled features"),
        ({}, {"levels": [], "search": {"low": 0.1, "high": 1.0}}, "allowed: null, since the levels come from a search"),
    ],
)
def test_levels_that_cannot_be_scored_are_refused(evaluator: dict, probe: dict, problem: str) -> None:
    evaluators = {"linear": {"kind": "linear"}, "mlp": {"kind": "noise_classifier", **evaluator}}
    whole = EXPERIMENT | {"probe": PROBE | {"evaluators": evaluators} | probe}
    with pytest.raises(UserError) as caught:
        parse({"datasets": {"digits": {"source": {"kind": "digits"}}}, "experiments": {"toy": whole}})
    lines = [line for line in str(caught.value).splitlines() if "evaluators.mlp" in line]
    assert len(lines) == 1 and problem in lines[0]


def test_the_recipe_has_the_published_levels_and_baseline() -> None:
    config = load(*CONFIGS[:2], only=RECIPE)
    levels = {name: by_level(list(e.probe.evaluators.values())[-1], e) for name, e in config.experiments.items()}
    assert levels["DDPM_ddpm"] == levels["wrn_vp"] and levels["EDM_ddpmpp"] == levels["wrn_ve"]
    assert [f"{levels['wrn_vp'][i]:.3g}" for i in (0, 1, 10)] == ["0.01", "0.176", "3.44"]  # t = 1, 51, 501
    assert len(levels["wrn_vp"]) == 20 and len(levels["wrn_ve"]) == 18
    assert [f"{sigma:.4g}" for sigma in levels["wrn_ve"][:5]] == ["0.002", "0.007528", "0.02293", "0.05995", "0.1395"]
    train = config.experiments["wrn_ve"].train
    assert (train.optimizer, train.lr, train.momentum, train.weight_decay) == ("sgd", 0.1, 0.9, 5e-4)
    assert (train.batch, train.checkpoints, train.warmup_kimg, train.cosine_kimg) == (128, [10_000], 250, 10_000)
    small = load(*CONFIGS, only=RECIPE)
    assert small.experiments["wrn_ve"].train.checkpoints == [10] and list(small.datasets) == ["smoke"]
