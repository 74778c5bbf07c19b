"""The attentive probe against a plain module for each head, and against its published counts and schedule."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from pydantic import ValidationError
from sklearn.datasets import load_digits
from torch import Tensor, nn

from diffprobe.config.evaluators import Evaluator
from diffprobe.config.evaluators.attentive import Attentive
from diffprobe.config.evaluators.knn import KNN
from diffprobe.config.evaluators.linear import Linear
from diffprobe.config.load import parse
from diffprobe.evaluation.representation.attentive import fit, new_heads
from diffprobe.evaluation.representation.descent import row_stream, steps
from diffprobe.evaluation.representation.evaluators import fit as fit_any
from diffprobe.evaluation.representation.evaluators import score
from diffprobe.evaluation.representation.table import Table, table_of
from diffprobe.runtime.errors import UserError

CPU = torch.device("cpu")
T, D, Q = 16, 12, 4  # tokens, channels, queries
SMALL = {"queries": Q, "epochs": 3, "batch": 100, "norm_batch": 50, "weight_decay": 1e-3}


class Plain(nn.Module):
    """The head as the paper's code has it: values of all tokens, one query after another."""

    def __init__(self, queries: Tensor, values: Tensor, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.queries = nn.Parameter(queries[None].clone())  # (1, Q, D)
        self.values = nn.Linear(D, D, bias=False)
        self.norm = nn.BatchNorm1d(D, affine=False, eps=1e-6)
        self.classifier = nn.Linear(D, 10)
        self.values.weight.data, self.classifier.weight.data = values.clone(), weight.clone()
        self.classifier.bias.data = bias[:, 0].clone()

    def forward(self, x: Tensor) -> Tensor:  # (B, T, D)
        values = self.values(x).split(D // Q, dim=2)
        shares = []
        for query, group in zip(self.queries[0], values, strict=True):
            attention = (x @ (query * D**-0.5)).softmax(1)  # (B, T)
            shares.append((attention[..., None] * group).sum(1))
        return self.classifier(self.norm(torch.cat(shares, 1)))


class PlainLARS(torch.optim.SGD):
    """Algorithm 1 of You et al. (2017), in the published code's form: a ratio for each tensor that is not a vector."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if p.ndim > 1:
                    p.grad += 1e-3 * p
                    ratio = 1e-3 * p.norm() / p.grad.norm()
                    p.grad *= ratio if p.norm() and p.grad.norm() else 1.0
        super().step()


def attentive(**changes: Any) -> Attentive:
    return Attentive(kind="attentive", **SMALL | changes)


def tokens_of_digits() -> tuple[Tensor, Tensor]:
    """(N, T D) random maps of the 2 x 2 patches of 400 digits, and labels."""
    images, labels = load_digits().images[:400] / 8 - 1, load_digits().target[:400]
    patches = torch.from_numpy(images).float().unfold(1, 2, 2).unfold(2, 2, 2).flatten(3).flatten(1, 2)  # (N, 16, 4)
    place = torch.randn(T, D, generator=torch.Generator().manual_seed(1))
    tokens = patches @ torch.randn(4, D, generator=torch.Generator().manual_seed(0)) + place
    return tokens.flatten(1), torch.from_numpy(labels)


def table(x: Tensor, y: Tensor) -> Table:
    made = table_of(x[None], y)
    made.channels = D
    return made


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "lars"])
def test_each_head_is_the_plain_modules(optimizer: str) -> None:
    """Two seeds and two learning rates at once against four modules alone, batch norm over parts of a batch."""
    x, y = tokens_of_digits()
    rates = {"adam": [0.003, 0.03], "sgd": [0.1, 0.3], "lars": [1.0, 8.0]}[optimizer]
    settings, seeds = attentive(optimizer=optimizer, lr=rates), [0, 5]
    initial = new_heads(settings, seeds, 10, D, CPU)
    heads = fit(settings, [table(x, y)] * 2, seeds, 10, 2**30, CPU)
    p = heads.probabilities(x[:50].expand(2, -1, -1))  # (S, 1, H, n, K)
    for s, seed in enumerate(seeds):
        for h, lr in enumerate(rates):
            plain = Plain(*(parameter[s, h] for parameter in initial.parameters))
            decayed = [{"params": [w for w in plain.parameters() if w.ndim > 1], "weight_decay": 1e-3}]
            decayed.append({"params": [plain.classifier.bias]})
            step = {
                "adam": lambda groups, lr: torch.optim.Adam(groups, lr=lr),
                "sgd": lambda groups, lr: torch.optim.SGD(groups, lr=lr, momentum=0.9),
                "lars": lambda groups, lr: PlainLARS([w for g in groups for w in g["params"]], lr=lr, momentum=0.9),
            }[optimizer](decayed, lr)
            stream = row_stream(table(x, y), seed, 2**30, CPU).read
            for start, stop, factor in steps(settings, 400):
                step.zero_grad()
                for part in range(start, stop, 50):
                    features, labels = stream(part, part + 50)
                    logits = plain(features.unflatten(1, (T, D)).float())
                    (nn.functional.cross_entropy(logits, labels) / 2).backward()
                for group in step.param_groups:
                    group["lr"] = lr * factor
                step.step()
            expected = plain.eval()(x[:50].unflatten(1, (T, D))).softmax(1)
            torch.testing.assert_close(p[s, 0, h], expected, rtol=1e-3, atol=1e-4)
    assert (p[0] - p[1]).abs().max() > 0.01 and (p[:, 0, 0] - p[:, 0, 1]).abs().max() > 0.01


def test_attention_reads_what_the_mean_hides() -> None:
    """The class is which of the tokens, all equally present, has the cue beside it: the mean is the same for all."""
    random = torch.Generator().manual_seed(0)
    y = torch.arange(2000) % 2
    x = 0.1 * torch.randn(2000, T, D, generator=random)
    cue = torch.randint(0, T, (2000,), generator=random)
    x[torch.arange(2000), cue, 0] += 6  # marks the token that counts
    sign = 2.0 * y - 1
    x[torch.arange(2000), cue, 1] += sign
    x[torch.arange(2000), (cue + 1) % T, 1] -= sign
    train, test = table(x[:1500].flatten(1), y[:1500]), table(x[1500:].flatten(1), y[1500:])
    fitted = fit(attentive(optimizer="adam", lr=[0.01], epochs=20, weight_decay=0), [train], [0], 2, 2**30, CPU)
    assert score(fitted, [test], 2, True, CPU).accuracy.item() > 0.95
    rows = table_of(x[:1500].mean(1)[None], y[:1500]), table_of(x[1500:].mean(1)[None], y[1500:])
    linear = fit_any(Linear(kind="linear", epochs=20), [rows[0]], [0], 2, 2**30, CPU)
    assert score(linear, [rows[1]], 2, True, CPU).accuracy.item() < 0.65


@pytest.mark.parametrize(
    ("width", "queries", "count"),
    [(1152, 128, 2_627_560), (1152, 32, 2_516_968), (1024, 32, 2_106_344), (768, 32, 1_383_400), (384, 32, 544_744)],
)
def test_the_published_numbers_of_parameters(width: int, queries: int, count: int) -> None:
    heads = new_heads(attentive(queries=queries, lr=[1.0]), [0], 1000, width, CPU)
    assert sum(parameter.numel() for parameter in heads.parameters) == count
    assert heads.queries.std().item() == pytest.approx(0.02, rel=0.02)
    for layer in (heads.values, heads.weight):
        assert layer.abs().max().item() == pytest.approx(width**-0.5, rel=1e-3)


def test_the_published_schedule() -> None:
    """ImageNet: 312 whole batches an epoch, 28,080 in all; the rate 1.6 after ten epochs, half of it in the middle."""
    settings = Attentive(kind="attentive", protocol="ep")
    assert (settings.lr, settings.optimizer, settings.queries) == ([1.6], "lars", 32)
    plan = list(steps(settings, 1_281_167))
    assert len(plan) == 28_080 and plan[312].start == 1_281_167 and {step.stop - step.start for step in plan} == {4096}
    assert [plan[i].factor for i in (0, 1560, 3120, 3120 + 12480)] == pytest.approx([0, 0.5, 1, 0.5])
    linear = Linear(kind="linear", protocol="ep", batch=512, epochs=20, warmup=2)
    assert (linear.lr, linear.standardise, linear.initial, linear.epochs) == ([0.2], "batch_norm", "uniform", 20)
    assert "protocol" not in Evaluator.member(linear.model_dump()).model_dump()


def test_neighbours_as_published() -> None:
    """Seven k by three temperatures, each as that setting alone, by the sum of exp(cosine / T) over a class."""
    x, y = tokens_of_digits()
    published = KNN(kind="knn", protocol="ep")
    fitted = fit_any(published, [table(x[:350], y[:350])], [0], 10, 2**30, CPU)
    assert len(fitted.settings) == 21 and fitted.settings[4] == {"k": 10, "temperature": 0.1}
    p = fitted.probabilities(x[None, 350:])[0, 0]  # (H, n, K)
    cosine = nn.functional.normalize(x[350:]) @ nn.functional.normalize(x[:350]).T
    for h, setting in enumerate(fitted.settings):
        similarity, nearest = cosine.topk(int(setting["k"]))
        votes = nn.functional.one_hot(y[nearest], 10) * (similarity / setting["temperature"]).exp()[..., None]
        expected = votes.sum(1) / votes.sum((1, 2))[:, None]
        torch.testing.assert_close(p[h], expected, rtol=1e-4, atol=1e-5)
    chosen = published.model_copy(update={"k": [10], "temperature": [0.1]})
    assert chosen.only_setting == {"k": 10, "temperature": 0.1} and published.only_setting is None
    assert KNN(kind="knn").only_setting == {"k": 10}


def test_a_store_larger_than_the_memory_is_seen_whole(tmp_path: Any) -> None:
    """Rows of 2 MB: chunks of 16 images, and windows within the memory."""
    wide = 2**20
    y = torch.arange(40) % 2
    x = torch.zeros(40, wide, dtype=torch.float16)
    x[:, 0] = y
    large = table_of(x[None], y)
    assert large.sizes == [16, 16, 8]
    rows, labels = row_stream(large.within(2**20), 0, 2**26, CPU).read(0, 40)
    assert torch.equal(rows[:, 0].long(), labels) and labels.sum() == 20 and not torch.equal(labels, y)


@pytest.mark.parametrize(
    ("settings", "refused"),
    [
        ({"tokens": False}, "tokens: false is refused; allowed: true, since attention pools tokens"),
        ({"queries": 7}, "queries: 7 is refused; allowed: a divisor of 160, the width of the taps"),
        (
            {"combine": [{"level": 0.12}]},
            "combine: 1 is refused; allowed: none, since attention sees one tap",
        ),
        ({"protocol": "ep"}, "batch: 4096 is refused; allowed: at most the number of train images"),
        ({"warmup": 30}, "warmup: 30 is refused; allowed: fewer than epochs = 30"),
    ],
)
def test_contradictions_are_refused_in_a_line(settings: dict[str, Any], refused: str) -> None:
    raw = yaml.safe_load((Path(__file__).parents[1] / "config" / "config.yaml").read_text())
    evaluators = {"a": {"kind": "attentive", "queries": 16} | settings, "b": {"kind": "ridge"}}
    raw["experiments"]["digits_dit"]["probe"]["evaluators"] = evaluators
    with pytest.raises(UserError, match=rf"evaluators\.a\.{re.escape(refused)}"):
        parse(raw)


def test_vectors_and_queries_that_do_not_divide_the_width_are_refused() -> None:
    x, y = tokens_of_digits()
    with pytest.raises(UserError, match="needs a tap with positions, but the chosen one is a vector"):
        fit(attentive(), [table(x[:, :D], y)], [0], 10, 2**30, CPU)
    with pytest.raises(UserError, match="queries: 5 do not divide 12"):
        fit(attentive(queries=5), [table(x, y)], [0], 10, 2**30, CPU)
    with pytest.raises(UserError, match="only 400 images; use a smaller batch"):
        fit(attentive(batch=4096, drop_last=True), [table(x, y)], [0], 10, 2**30, CPU)
    with pytest.raises(ValidationError, match="protocol"):
        Attentive(kind="attentive", protocol="lp")
