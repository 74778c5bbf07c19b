"""Results as the board of Efficient Probing takes them (github.com/billpsomas/efficient-probing): a row of its
results.csv, 28 columns, and a log of each figure in the fields of its own logs.
"""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from diffprobe.config.evaluators.attentive import Attentive
from diffprobe.config.evaluators.knn import KNN
from diffprobe.config.evaluators.linear import Linear
from diffprobe.config.evaluators.trained import Trained
from diffprobe.config.kinds import names_of
from diffprobe.config.models import Config, Experiment
from diffprobe.config.names import level_name
from diffprobe.config.sources.imagenet import ImageNet
from diffprobe.evaluation.representation.chunks import CHANNELS, array
from diffprobe.plan.layout import Layout, receipt
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import atomic, refuse_existing
from diffprobe.runtime.receipts import read_receipt
from diffprobe.runtime.results import read_result

COLUMNS = ["family", "method", "arch", "pretrain", "eval", "image_size", "lp", "lp_gap", "ep", "ep_queries"]
COLUMNS += ["ep_variant", "model", "loader", "pretrain_tag", "finetune", "lp_variant", "lp_log", "ep_log", "notes"]
COLUMNS += ["verified", "amp", "waiting", "gap_reason", "knn", "knn_k", "knn_T", "knn_log", "extra_flags"]
KINDS: dict[str, type[Attentive | KNN | Linear]] = {"ep": Attentive, "lp": Linear, "knn": KNN}


@dataclass(frozen=True)
class Measured:
    """The figure of an evaluator on `test`."""

    evaluator: Attentive | KNN | Linear
    accuracy: float  # percent, the mean over seeds
    top5: float | None  # percent
    where: Mapping[str, Any]  # its row of results
    classes: int
    channels: int  # of a token, or of the pooled tap
    seconds: float

    @property
    def setting(self) -> dict[str, str]:
        """The chosen setting by name."""
        return dict(pair.split("=") for pair in self.where["setting"].split(", ") if pair)

    @property
    def parameters(self) -> int:
        """Of the trained head: queries, values, classifier (Psomas et al. 2026)."""
        attention = 0
        if isinstance(self.evaluator, Attentive):
            attention = self.channels * (self.channels + self.evaluator.queries)
        return attention + (self.channels + 1) * self.classes


def export(config: Config, name: str, folder: Path) -> list[str]:
    """Write row.csv and a log of each figure into a folder; returns lines that say what was written.

    Raises UserError where the experiment lacks a linear or an attentive probe of `protocol: ep`, or its results, and
    where the folder holds anything.
    """
    refuse_existing(folder)
    experiment, layout = config.experiments[name], Layout(config.results)
    figures = dict(measure(layout, name, experiment))
    logs = {figure: f"{name}_{figure}.txt" for figure in figures}
    folder.mkdir(parents=True, exist_ok=True)
    for figure, measured in figures.items():
        with atomic(folder / logs[figure]) as partial:
            partial.write_text("\n".join(log(config, name, figure, measured)) + "\n")
    row = board_row(config, name, figures, logs)
    text = StringIO()
    csv.DictWriter(text, COLUMNS, lineterminator="\n").writerows([dict(zip(COLUMNS, COLUMNS, strict=True)), row])
    with atomic(folder / "row.csv") as partial:
        partial.write_text(text.getvalue())
    lines = [f"{folder}: row.csv and {', '.join(logs.values())}"]
    if row["eval"] != ImageNet.board_name:
        lines.append(f"the board takes results on {ImageNet.board_name} alone; these are on {row['eval']}")
    return lines


def measure(layout: Layout, name: str, experiment: Experiment) -> Iterator[tuple[str, Measured]]:
    """The figures of the board that the experiment has; kNN may be missing."""
    evaluators = experiment.probe.evaluators if experiment.probe else {}
    for figure, kind in KINDS.items():
        of_kind = [key for key, each in evaluators.items() if isinstance(each, kind) and each.protocol == "ep"]
        if not of_kind and figure != "knn":
            wanted = f"{{kind: {names_of(kind)[0]}, protocol: ep}}"
            raise UserError(f"--experiment {name}: the board needs an evaluator {wanted}; add it and run again")
        for key in of_kind[:1]:
            yield figure, read(layout, name, key, evaluators[key])


def read(layout: Layout, name: str, key: str, evaluator: Any) -> Measured:
    """The results of an evaluator. Raises UserError where they are missing or damaged."""
    path = layout.test(name, key)
    if not Path(path).exists():
        raise UserError(f"{path}: no such file; run the experiment first")
    rows, classes = read_result(Path(path), lambda result: (result["rows"], len(result["classes"])))
    store, tap = Path(layout.chosen(name)).parent, rows[0]["tap"]
    stored = f"{tap}.tokens" if evaluator.tokens else tap
    features = array(store, level_name(rows[0]["sigma"]), "test", "identity", stored)
    top5 = next((row["value"] * 100 for row in rows if row["evaluator"] == f"{key}_top5"), None)
    seconds = float((read_receipt(receipt(path)) or {}).get("seconds", 0))
    channels = int(str(features.attrs[CHANNELS]))
    return Measured(evaluator, rows[0]["value"] * 100, top5, rows[0], classes, channels, seconds)


def board_row(config: Config, name: str, figures: Mapping[str, Measured], logs: Mapping[str, str]) -> dict[str, Any]:
    """The row of an experiment in the board's columns; `figures` and the names of their `logs` by figure."""
    experiment, ep, lp = config.experiments[name], figures["ep"], figures["lp"]
    assert isinstance(ep.evaluator, Attentive)
    dataset = config.datasets[experiment.dataset]
    image_size = (
        config.autoencoders[config.latents[experiment.latents].autoencoder].size if experiment.latents else None
    )
    row: dict[str, Any] = dict.fromkeys(COLUMNS, "")
    row |= {"family": "GEN", "method": experiment.network.kind, "arch": architecture(experiment), "model": name}
    row |= {"pretrain": data_name(config, name), "eval": data_name(config, name), "loader": "diffprobe"}
    row |= {"image_size": image_size or dataset.facts.size, "verified": "no", "notes": notes(figures)}
    row |= {"lp": f"{lp.accuracy:.2f}", "lp_variant": "pos", "lp_gap": "yes", "gap_reason": "no_cls"}
    row |= {"ep": f"{ep.accuracy:.2f}", "ep_queries": ep.evaluator.queries, "ep_variant": "ep"}
    row |= {f"{figure}_log": log for figure, log in logs.items()}
    if knn := figures.get("knn"):
        row |= {"knn": f"{knn.accuracy:.2f}", "knn_k": knn.setting["k"], "knn_T": temperature(knn)}
    return row


def temperature(knn: Measured) -> str:
    """By which votes were weighted; empty where they were equal."""
    assert isinstance(knn.evaluator, KNN)
    return knn.setting.get("temperature", f"{knn.evaluator.temperature}") if knn.evaluator.weighted else ""


def data_name(config: Config, name: str) -> str:
    """The experiment's dataset, by its name on the board if it has one."""
    dataset = config.experiments[name].dataset
    return config.datasets[dataset].source.board_name or dataset


def architecture(experiment: Experiment) -> str:
    network = experiment.network
    size = getattr(network, "size", None) or getattr(network, "width", "")
    return f"{network.kind} {size}".strip()


def notes(figures: Mapping[str, Measured]) -> str:
    """Where and how the figures were read, which the board has no columns for."""
    where = figures["ep"].where
    parts = [f"{where['tap']} at sigma/alpha {where['sigma']:g}", f"chosen on {where['selection']}"]
    if where.get("zeroed"):
        parts.append(f"zero embeddings: {where['zeroed']}")
    for figure, measured in figures.items():
        if measured.where["spread"] is not None:
            parts.append(f"{figure} spread {measured.where['spread'] * 100:.2f} over {measured.where['seeds']} seeds")
    return "; ".join([*parts, "heads after their last epoch, test read once"])


def log(config: Config, name: str, figure: str, measured: Measured) -> Iterator[str]:
    """The fields of the board's logs; of the epochs only the last is known, since the others were not tested."""
    experiment, evaluator, top5 = config.experiments[name], measured.evaluator, measured.top5
    tokens = "patch tokens" if evaluator.tokens else "mean over patch tokens"
    yield f"Model: {name}"
    yield f"Model Details: {architecture(experiment)}, {measured.where['tap']} at {measured.where['sigma']:g}"
    yield f"Dataset: {data_name(config, name)}"
    yield f"Representation: {tokens}"
    if isinstance(evaluator, Trained):
        accuracies = f"{measured.accuracy:.2f}, {'' if top5 is None else f'{top5:.2f}'}"
        yield f"Batch size per GPU: {evaluator.norm_batch or evaluator.batch}"
        yield f"Base learning rate: {float(measured.setting['lr']) * 256 / evaluator.batch:g}"
        yield f"Effective batch size: {evaluator.batch}"
        yield f"Trainable Parameters: {measured.parameters}"
        yield "epoch, train loss, train acc1, val loss, val acc1, val acc5"
        yield f"{evaluator.epochs - 1}, , , , {accuracies}"
        yield f"Max Accuracy: {measured.accuracy:.2f}"
        yield f"Final Val Acc1/Acc5: {accuracies}"
        yield f"Total Training Time: {measured.seconds:.0f} s"
    else:
        top5_text = "" if top5 is None else f"{top5:.2f}"
        best = [temperature(measured), measured.setting["k"], f"{measured.accuracy:.2f}", top5_text]
        yield "features, T, k, Top1, Top5"
        yield ", ".join(["raw", *best])
        yield f"Best: {measured.accuracy:.2f}"
