"""The text of docs/SCALING.md, from the figures of benchmarks/scaling.py."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling_tables import Row, hours, measured, needed, table

from diffprobe.config.inferred import latent_bytes
from diffprobe.config.models import Config
from diffprobe.latents.shards import CHECKSUM, CHUNK
from diffprobe.reporting.describe import Description, si

if TYPE_CHECKING:
    from scaling import Machine

IMAGES = 1_281_167  # of ImageNet's train
PROSE = Path(__file__).with_name("scaling.md")
BATCHES = (256, 1024, 4096)


@dataclass(frozen=True)
class Case:
    """What the product says of a config."""

    config: Config
    costs: Mapping[str, Description]
    jobs: Mapping[str, int]  # by rule
    files: int  # that are declared as outputs


def page(
    machine: "Machine", imagenet: Case, runs: Case, autoencoder: tuple[int, int], rows: Sequence[Mapping[str, Any]]
) -> str:
    """The prose of scaling.md with its tables."""
    what = ("what", "figure", "formula or command")
    tables = {
        "assumptions": table(("assumed", "figure"), assumptions(machine)),
        "latents": table(what, latents(machine, imagenet, autoencoder[0])),
        "reads": table(("reading", "rows/s", "chunks/s", "each row once", "as streamed"), reads(machine, imagenet)),
        "one_run": table(what, one_run(machine, imagenet, autoencoder[1])),
        "steps": table(
            ("batch", "GPUs", "computing", "adding gradients", "images/s", "of the peak rate", "102.4M images"),
            steps(machine, imagenet),
        ),
        "hundred": table(what, hundred(machine, runs)),
        "needed": table(
            ("latency", "a connection", "a request", "in flight, at least", "requests at once", "window"),
            needed(machine.gpus * rate(machine, imagenet, "dit_b2"), CHUNK * row_bytes(imagenet)),
        ),
        "measured": measured(rows),
    }
    text = PROSE.read_text()
    for name, filled in tables.items():
        text = text.replace(f"{{{{{name}}}}}\n", filled)
    return text


def assumptions(machine: "Machine") -> Iterator[Row]:
    yield "dense bf16 rate of an H200, large matrix products", f"{machine.peak / 1e12:.0f} TFLOP/s (measured)"
    yield "of it in training, sampling and encoding", f"{machine.share:.0%}, {machine.rate / 1e12:.1f} TFLOP/s"
    yield "GPUs of a node, nodes", f"{machine.gpus}, {machine.nodes}"
    yield "a GPU to the others of its node, each way", f"{machine.nvlink / 1e9:.0f} GB/s"
    yield "a GPU to other nodes", f"{machine.network / 1e9:.0f} GB/s"
    yield "a node's disk, sequential", f"{machine.disk / 1e9:.0f} GB/s"
    yield "JPEGs a core decodes, 500x375 cropped to 256", f"{machine.decode:.0f}/s (docs/BENCHMARKS.md)"


# --- the latents --------------------------------------------------------------------------------------------


def latents(machine: "Machine", case: Case, encode: int) -> Iterator[Row]:
    cost = case.costs["dit_xl2"]
    rows = cost["dataset"]["rows"] or {}
    store = case.config.latents["imagenet_sd"]
    total = store.versions * rows["train"] + rows["select"] + rows["test"]
    bytes_ = latent_bytes(case.config, "imagenet_sd", rows) or 0
    row, shard = row_bytes(case), store.shard_chunks * CHUNK
    shards = store.versions * math.ceil(rows["train"] / shard) + math.ceil(rows["select"] / shard)
    shards += math.ceil(rows["test"] / shard)
    whole, jobs = 10 * IMAGES, case.jobs["encode"]
    yield "a row", f"{row:,} B", "mean and log-variance of 4 x 32 x 32 in float16: 2 · 2 · 4,096"
    yield "every image of train ten times", f"{whole:,} rows, {si(whole * row)}B", f"10 · {IMAGES:,} · row"
    yield (
        "this config's store",
        f"{total:,} rows, **{si(bytes_)}B**",
        "`describe`: ten views of the nine tenths that are train, one each of `select` and `test`",
    )
    yield "checksums and indices", f"{si(total / CHUNK * (CHECKSUM + 16))}B", f"20 B for a chunk of {CHUNK} rows"
    yield "files", f"{shards:,} of {si(shard * row)}B", f"rows / {shard:,}, rounded up view by view; as many receipts"
    yield "images kept", f"{si(cost['bytes']['images'])}B", "`decode: when_read`; once: 1,331,167 · 3 · 256², 262 GB"
    yield "jobs that encode", jobs, "`jobs: 64`; any number gives the same bytes"
    yield "encoding an image", f"{si(encode)}FLOP", "counted on the meta device"
    rate = machine.rate / encode
    yield (
        "encoding all rows",
        f"{hours(total / rate)} of one GPU, {hours(total / rate / jobs)} of {jobs}",
        "rows · FLOP",
    )
    yield (
        "cores that decode, for each GPU that encodes",
        f"{rate / machine.decode:.1f}",
        f"{rate:,.0f} images/s; every view decodes its image again",
    )
    yield "reading the store once", hours(bytes_ / machine.disk), "bytes / disk"


def row_bytes(case: Case) -> int:
    channels, size = case.config.autoencoders["sd"].latent_space
    return 2 * 2 * channels * size**2


def rate(machine: "Machine", case: Case, experiment: str) -> float:
    """Rows/s that one GPU trains on."""
    return machine.rate / case.costs[experiment]["network"]["training_flops"]


def reads(machine: "Machine", case: Case) -> Iterator[Row]:
    row = row_bytes(case)
    for name, model in (("dit_b2", "DiT-B/2"), ("dit_xl2", "DiT-XL/2")):
        for gpus in (machine.gpus, machine.gpus * machine.nodes):
            rows = gpus * rate(machine, case, name)
            once = rows * row
            yield (
                f"{model} on {gpus} GPUs", f"{rows:,.0f}", f"{rows / CHUNK:,.1f}", f"{si(once)}B/s",
                f"{si(gpus * once)}B/s, {si(machine.gpus * once)}B/s a node",
            )  # fmt: skip


# --- one large run ------------------------------------------------------------------------------------------


def one_run(machine: "Machine", case: Case, decode: int) -> Iterator[Row]:
    cost = case.costs["dit_xl2"]
    network, sizes = cost["network"], cost["bytes"]
    experiment = case.config.experiments["dit_xl2"]
    n, count = network["trainable"], len(experiment.train.checkpoints)
    images = experiment.sample.images
    yield "trained parameters", f"{n:,}", "`describe dit_xl2`"
    yield "a step of one image", f"{si(network['training_flops'])}FLOP", "`describe`: forward and backward"
    flops = cost["training"]["flops"]
    yield "training, 400,000 steps of 256", f"{si(flops)}FLOP", f"{cost['training']['images']:,} images"
    yield "computing alone", f"{hours(flops / machine.rate)} of one GPU, {hours(flops / machine.rate / 8)} of 8", "FLOP"
    yield (
        "memory of a GPU before activations",
        f"{24 * n / 1e9:.1f} GB",
        "4 B each for weight, gradient, two moments, average, and the message that adds gradients: 24 · parameters",
    )
    yield f"checkpoints, {count}", f"{si(sizes['checkpoints'])}B", "raw and one average, 4 B a parameter each"
    yield "training state", f"{si(sizes['states'])}B", "weights, average, two moments; one is kept"
    guided = experiment.sample.samplers["guided"]
    sampling = images * (2 * 250 * network["forward_flops"] + decode)
    yield (
        f"sampling {images:,} images of a checkpoint",
        f"{hours(sampling / machine.rate)} of one GPU",
        f"250 steps, twice each at guidance {guided.guidance:g}, and decoding: {si(sampling)}FLOP; one job, one GPU",
    )
    passes, tap = grid_passes(cost), network["taps"][13]["flops"]
    yield (
        "features of a checkpoint's grid",
        f"{hours(passes * tap / machine.rate)} of one GPU",
        f"{passes:,} passes to block_13 of {si(tap)}FLOP: two levels, two draws, `train` and `select`",
    )
    yield "features", f"{si(sizes['features'])}B, {si(sizes['features_peak'])}B at their peak", "`describe`"
    yield (
        "jobs of both experiments",
        f"{sum(case.jobs.values())}, {case.files} files",
        "`snakemake -n`, less the target",
    )


def grid_passes(cost: Description) -> int:
    """Passes through the network for one checkpoint's grid: of its features' bytes, float16 and pooled to the mean."""
    grid = cost["bytes"]["features_peak"] - cost["bytes"]["features"]
    channels = sum(tap["shape"][0] for tap in cost["network"]["taps"] if tap["tap"] in cost["probed"])
    return grid // (2 * channels)


def steps(machine: "Machine", case: Case) -> Iterator[Row]:
    network = case.costs["dit_xl2"]["network"]
    images = case.costs["dit_xl2"]["training"]["images"]
    for batch in BATCHES:
        for gpus in (machine.gpus, machine.gpus * machine.nodes):
            bandwidth = machine.nvlink if gpus == machine.gpus else machine.network
            computing = batch / gpus * network["training_flops"] / machine.rate
            adding = 2 * (gpus - 1) / gpus * 4 * network["trainable"] / bandwidth
            rate = batch / (computing + adding)
            share = computing / (computing + adding)
            yield (
                batch, gpus, f"{1e3 * computing:.1f} ms", f"{1e3 * adding:.1f} ms", f"{rate:,.0f}", f"{share:.0%}",
                hours(images / rate),
            )  # fmt: skip


# --- many runs ----------------------------------------------------------------------------------------------


def hundred(machine: "Machine", case: Case) -> Iterator[Row]:
    cost = case.costs["run_000"]
    experiment = case.config.experiments["run_000"]
    count, network, sizes = len(case.config.experiments), cost["network"], cost["bytes"]
    checkpoints, images = len(experiment.train.checkpoints), experiment.sample.images
    shared = sizes["images"]
    stored = shared + count * (sizes["total"] - shared)
    rules = ", ".join(f"{rule} {n:,}" for rule, n in case.jobs.items() if n >= count)
    yield (
        "jobs",
        f"**{sum(case.jobs.values()):,}**",
        f"{rules}, {sum(n for n in case.jobs.values() if n < count)} others",
    )
    yield "files declared", f"{case.files:,}", "outputs and receipts; logs and progress come beside them"
    yield "bytes of an experiment", f"{si(sizes['total'] - shared)}B", store_list(sizes)
    yield "bytes of all", f"**{si(stored)}B**", f"{count} · experiment, and the images once"
    at_work = sizes["features_peak"] - sizes["features"]
    yield "features of a grid at work", f"{si(at_work)}B", "for each experiment whose grid is being scored"
    training = count * cost["training"]["flops"]
    evaluations = sum(getattr(sampler, "steps", 0) for sampler in experiment.sample.samplers.values())
    sampling = count * checkpoints * images * evaluations * network["forward_flops"]
    last = next(tap["flops"] for tap in reversed(network["taps"]) if tap["tap"] in cost["probed"])
    features = count * checkpoints * grid_passes(cost) * last
    yield "training", f"{hours(training / machine.rate)} of GPUs", f"{count} · {si(training / count)}FLOP"
    yield (
        "sampling",
        f"{hours(sampling / machine.rate)} of GPUs",
        f"{count} · {checkpoints} checkpoints · {images:,} images · {evaluations} evaluations of "
        f"{si(network['forward_flops'])}FLOP",
    )
    yield (
        "features of grids",
        f"{hours(features / machine.rate)} of GPUs",
        f"{count} · {checkpoints} · {grid_passes(cost):,} passes of {si(last)}FLOP",
    )
    everything, gpus = (training + sampling + features) / machine.rate, machine.gpus * machine.nodes
    yield "one run's training", hours(training / count / machine.rate), "its checkpoints follow one another"
    yield f"all three on {gpus} GPUs, at best", f"**{hours(everything / gpus)}**", "Inception, heads, copies left out"


def store_list(sizes: Mapping[str, int]) -> str:
    names = ("checkpoints", "states", "samples", "features")
    return "`describe run_000`: " + ", ".join(f"{name} {si(sizes[name])}B" for name in names)
