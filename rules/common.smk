# How an experiment becomes paths, params and resources. Nothing here imports torch.
import re
import sys
from functools import cache
from pathlib import Path
from shlex import quote

from snakemake.resources import Resource

ROOT = Path(workflow.basedir)
sys.path.insert(0, str(ROOT / "src"))

from diffprobe.plan import job_arguments
from diffprobe.config.checks import checkpoint_steps
from diffprobe.config.autoencoders import PRETRAINED
from diffprobe.config.inferred import keys_that_need_labels, latent_bytes
from diffprobe.config.sources import downloaded_kinds
from diffprobe.plan.layout import Layout, receipt, store_receipt
from diffprobe.config.levels import parts
from diffprobe.config.load import parse as parse_config
from diffprobe.config.models import Experiment
from diffprobe.config.published import is_local, local_files
from diffprobe.plan.graph import (
    measured,
    measured_at_once,
    reconstructing,
    references,
    stages,
    used_latents,
    autoencoder_weights,
)
from diffprobe.data.fingerprint import fingerprint, fingerprint_arrays
from diffprobe.data.labels import refuse_unlabelled
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import canonical, read_json
from diffprobe.runtime.leases import local_gpus

# `job NAME ...` in a rule's shell runs workflow/scripts/NAME.py, with this interpreter and its packages or with those
# of the environment that conda puts in front.
CONDA = any(method.name == "CONDA" for method in workflow.deployment_settings.deployment_method)
PYTHON = "python" if CONDA else quote(sys.executable)
# `PROCESSES=N job NAME ...` starts N of them by torchrun, which finds a free port for them.
TORCHRUN = "${{PROCESSES:+-m torch.distributed.run --standalone --nproc-per-node=$PROCESSES --}}"
# glibc would give the memory of each activation back and fault its pages in again: a third of a U-Net's time on a CPU.
MALLOC = " ".join(
    f"{name}=${{{{{name}:-1073741824}}}}" for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")
)
shell.prefix(
    f"set -euo pipefail; export {MALLOC}; export PYTHONSAFEPATH=1 PYTHONPATH={quote(str(ROOT / 'src'))}; "
    f'job() {{{{ {PYTHON} {TORCHRUN} {quote(str(ROOT / "workflow" / "scripts"))}/"$1".py "${{{{@:2}}}}"; }}}}; '
)

try:
    CONFIG = parse_config(config)
except UserError as error:
    sys.exit(str(error))  # the lines alone, without Snakemake's trace

L = Layout(CONFIG.results)
# Not params: how a run is saved changes no result, so it must rerun nothing.
SAVING = {"keep": CONFIG.state.keep, "autosave": str(CONFIG.state.autosave_seconds)}
SAVING["tensorboard"] = str(CONFIG.state.tensorboard)


def any_of(names) -> str:
    """A regular expression for these names alone, so that a target of another name is simply not known."""
    return "|".join(map(re.escape, names)) or "(?!)"


wildcard_constraints:
    dataset=any_of(CONFIG.datasets),
    archives=any_of(downloaded_kinds()),
    autoencoder=any_of(CONFIG.autoencoders),
    latents=any_of(CONFIG.latents),
    extractor=any_of(CONFIG.extractors),
    experiment=any_of(CONFIG.experiments),
    sampler=r"[\w-]+",
    kimg=r"\d+",
    part=r"\d+",
    job=r"\d+",
    evaluator=any_of({name for e in CONFIG.experiments.values() if e.probe for name in e.probe.evaluators}),


# --- resources: no GPU where this machine runs the jobs and has none; on a cluster the nodes' GPUs are asked for

LOCAL_GPUS = local_gpus()


# Here no more GPU jobs run at a time than there are GPUs, unless --resources gpu=N says how many. A cluster, to which
# jobs are submitted (--jobs) and which has no cores of its own, sees to that itself.
if LOCAL_GPUS and workflow.nodes is None and "gpu" not in workflow.global_resources:
    workflow.global_resources["gpu"] = Resource("gpu", LOCAL_GPUS)


def gpu(wildcards) -> int:
    """One GPU per computing job, none where this machine runs the jobs and has none."""
    return 1 if LOCAL_GPUS or workflow.non_local_exec else 0


def training_gpus(wildcards) -> int:
    """As many as its devices."""
    return gpu(wildcards) * experiment(wildcards).train.devices


def training_memory(wildcards) -> int:
    """MB: the images that are held, or two windows of those that are streamed, beside all else, of each process; or
    the latents that are held for all.
    """
    known, train = CONFIG.datasets[experiment(wildcards).dataset].facts, experiment(wildcards).train
    if experiment(wildcards).latents:
        size, budget = latent_bytes(CONFIG, experiment(wildcards).latents), CONFIG.memory_budget.host_gib * 2**30
        held = budget if size is None else size if size <= budget else 0
        return train.devices * (4000 + round(2 * train.window_mib)) + round(held / 1e6)
    images = (known.images or 0) * (known.size or 0) ** 2 * known.channels
    held = images if images <= train.resident_gib * 2**30 else 2**32
    return train.devices * (4000 + round(held / 1e6))


def probing_memory(wildcards) -> int:
    """MB: the features that are held, beside all else."""
    return 3000 + round(experiment(wildcards).probe.memory_gib * 2**30 / 1e6)


def launch(wildcards) -> str:
    """Before the command of a training by several processes."""
    devices = experiment(wildcards).train.devices
    return f"PROCESSES={devices} " if devices > 1 else ""


# For --sdm conda. Its packages run without a GPU too; a login node must not choose for the nodes behind it.
ENVIRONMENT = str(ROOT / "envs" / "cuda.yaml")

# --- datasets and latents


def recorded(dataset: str) -> dict:
    """The receipt of the images as they were read last, {} where they were not."""
    path = Path(receipt(L.images(dataset)))
    return read_json(path) if path.exists() else {}


def source_paths(source: dict) -> list[str]:
    return [source["path"]] if "path" in source else source.get("paths", [])


@cache
def source_state(name: str) -> str | None:
    """What tells that a local source has changed; of one that is gone now, what was recorded when it was read."""
    paths = source_paths(job_arguments.dump(CONFIG.datasets[name].source))
    if all(Path(path).exists() for path in paths) or not recorded(name):
        return fingerprint(paths)
    return recorded(name)["config"].get("state")


def refuse_lost_sources() -> None:
    """Another path that leads nowhere would cost the images that were read from the one before."""
    for name, dataset in CONFIG.datasets.items():
        paths = source_paths(job_arguments.dump(dataset.source))
        before = recorded(name).get("config", {}).get("source", {})
        for path in paths:
            if before and paths != source_paths(before) and not Path(path).exists():
                raise UserError(f"datasets.{name}.source: {path}: no such file or folder; the images read before stay")


def refuse_missing_files() -> None:
    """Snakemake would say it in many lines."""
    named = {
        f"extractors.{name}.weights": getattr(CONFIG.extractors[name], "weights", None)
        for _, name in references(CONFIG)
    }
    named |= {f"experiments.{name}.train.imported": e.train.imported for name, e in CONFIG.experiments.items()}
    for name in {latents.autoencoder for latents in used_latents(CONFIG).values()}:
        named |= {f"autoencoders.{name}.train.perceptual.vgg": file for file in vgg(name)}
    for name in {dataset for dataset, _ in references(CONFIG)}:
        named |= {f"datasets.{name}.references.{key}": path for key, path in CONFIG.datasets[name].references.items()}
    for key, path in named.items():
        if path and not Path(path).exists():
            remedy = "; diffprobe import writes it" if key.endswith(".imported") else ""
            raise UserError(f"{key}: {path}: no such file{remedy}")


def refuse_missing_autoencoders() -> None:
    """Folders of published ones; where one has been read, its folder may go."""
    for name in {latents.autoencoder for latents in used_latents(CONFIG).values()}:
        found = CONFIG.autoencoders[name]
        for key in ("source", "decoder") if found.kind == "pretrained" else ():
            path, before = getattr(found, key), read_before(name)
            if path and is_local(path) and not Path(path).exists() and before.get(key) != path:
                raise UserError(f"autoencoders.{name}.{key}: {path}: no such folder, and no name on the hub")


def refuse_missing_labels() -> None:
    """Of datasets whose images were read and stay; of others the job that reads them sees to it."""
    for name, dataset in CONFIG.datasets.items():
        if recorded(name).get("config") == job_arguments.images(dataset, source_state(name)):
            refuse_unlabelled(name, recorded(name)["store"]["classes"], keys_that_need_labels(CONFIG, name))


def archives(wildcards) -> list[str]:
    """What a downloaded dataset is read from."""
    kind = CONFIG.datasets[wildcards.dataset].source.kind
    return [L.archives(kind)] if kind in downloaded_kinds() else []


def mirror(wildcards) -> str | None:
    """The first that any dataset of this kind names."""
    sources = [dataset.source for dataset in CONFIG.datasets.values()]
    named = [source.mirror for source in sources if source.kind == wildcards.archives and source.mirror]
    return next(iter(named), None)


def latents_images(wildcards) -> str:
    return L.images(CONFIG.latents[wildcards.latents].dataset)


def vgg(autoencoder: str) -> list[str]:
    """The local weights for LPIPS that its training names."""
    found = CONFIG.autoencoders[autoencoder]
    asked = found.train.perceptual if found.kind == "trained" else None
    return [asked.vgg] if asked and asked.vgg else []


def latents_autoencoder(wildcards) -> str:
    return autoencoder_weights(CONFIG, CONFIG.latents[wildcards.latents].autoencoder)


def read_before(autoencoder: str) -> dict:
    """The entry of a published autoencoder as it was read last, {} where it was not."""
    path = Path(L.checkpoint(L.autoencoder(autoencoder), PRETRAINED, "receipt.json"))
    return read_json(path)["config"] if path.exists() else {}


def pretrained_state(name: str) -> str | None:
    """What tells that its local folders have changed; of one that is gone now, what was recorded when it was read."""
    asked, before = job_arguments.dump(CONFIG.autoencoders[name]), read_before(name)
    local = [asked[key] for key in ("source", "decoder") if asked[key] and is_local(asked[key])]
    if all(Path(path).exists() for path in local) or not before:
        return fingerprint(local_files(asked))
    return before.get("state")


@cache
def foreign_state(name: str) -> str | None:
    """What tells that latents from elsewhere have changed; of those gone now, what was recorded when they were read."""
    imported, made = CONFIG.latents[name].imported, Path(store_receipt(L.latents(name)))
    if all(Path(path).exists() for path in (imported.path, imported.test) if path) or not made.exists():
        return fingerprint_arrays(imported.folders)
    return read_json(made)["config"].get("state")


FOREIGN = {name for name, latents in CONFIG.latents.items() if latents.imported}  # encoded by another system


# --- an experiment's parts


def experiment(wildcards) -> Experiment:
    return CONFIG.experiments[wildcards.experiment]


def of_experiment(part):
    """A params function: what `part` makes of an experiment and its wildcards, as the one JSON argument of a job."""
    return lambda wildcards: canonical(part(experiment(wildcards), wildcards))


def params_of(part):
    """The same for what is no experiment's."""
    return lambda wildcards: canonical(part(wildcards))


def experiment_images(wildcards) -> str:
    return L.images(experiment(wildcards).dataset)


def experiment_latents(wildcards) -> list[str]:
    """The store that its network sees, where that is not pixels."""
    name = experiment(wildcards).latents
    return [] if name is None else [L.latents(name)]


def experiment_autoencoder(wildcards) -> list[str]:
    name = experiment(wildcards).latents
    return [] if name is None else [autoencoder_weights(CONFIG, CONFIG.latents[name].autoencoder)]


def experiment_data(wildcards) -> str:
    """What its features are computed from."""
    return next(iter(experiment_latents(wildcards)), experiment_images(wildcards))


def given(input, *names) -> str:
    """Those of the named inputs that there are, as name=path on a command line."""
    return " ".join(f"{name}={quote(str(input[name]))}" for name in names if input.get(name))


def row(wildcards) -> dict:
    """What every row of results about an experiment begins with."""
    known = {
        "experiment": wildcards.experiment,
        "dataset": experiment(wildcards).dataset,
    }
    for name, convert in (("kimg", int), ("sampler", str)):
        if name in wildcards.keys():
            known[name] = convert(wildcards[name])
    return known


def before(wildcards) -> int:
    """The checkpoint before one, 0 for the first."""
    earlier = [k for k in experiment(wildcards).train.checkpoints if k < int(wildcards.kimg)]
    return max(earlier, default=0)


def device_batch(wildcards) -> str:
    """Images that a device takes at once; 0 for all of its share."""
    return str(experiment(wildcards).train.device_batch or 0)


def say_what_retrains(name: str) -> None:
    """Where a checkpoint is to be remade whose predecessor's state was not kept: say from where it is trained."""
    kept = [int(state.stem) for state in Path(L.state(L.run(name), 0)).parent.glob("[0-9]*.safetensors")]
    earlier = 0
    for kimg in CONFIG.experiments[name].train.checkpoints:
        nearest = max((k for k in kept if k <= kimg), default=0)
        if not Path(L.ema(name, kimg)).exists() and nearest < earlier and Path(L.ema(name, earlier)).exists():
            print(
                f"{name}: checkpoint {kimg} is remade from {nearest} thousand images on, "
                "the nearest kept state (state.keep: all keeps every one)",
                file=sys.stderr,
            )
        earlier = kimg


def numbered(prefix: str, files) -> str:
    """Several files of one kind on a command line: prefix.0=path prefix.1=path ..."""
    return " ".join(f"{prefix}.{i}={quote(str(file))}" for i, file in enumerate(files))


# --- weights, samples and extractors

IMPORTED = {name for name, e in CONFIG.experiments.items() if e.train.imported}


def checkpoint_weights(name: str, kimg, weights: str) -> str:
    """The file of a checkpoint that holds these weights: all averages lie in one, as do weights that were imported."""
    file = "raw.safetensors" if weights == "raw" and name not in IMPORTED else "ema.safetensors"
    return L.checkpoint(L.run(name), kimg, file)


def drawing_weights(wildcards) -> str:
    weights = experiment(wildcards).sample.samplers[wildcards.sampler].weights
    return checkpoint_weights(wildcards.experiment, wildcards.kimg, weights)


def probed_weights(wildcards, kimg) -> str:
    return checkpoint_weights(wildcards.experiment, kimg, experiment(wildcards).probe.weights)


def feature_stores(wildcards) -> list[str]:
    """Those of all the levels of a checkpoint."""
    count = range(parts(experiment(wildcards)))
    return [L.features(wildcards.experiment, wildcards.kimg, part) for part in count]


AT_ONCE = {name for name, e in CONFIG.experiments.items() if measured_at_once(e)}  # samples drawn and measured in a job


def extractor_weights(name: str) -> list[str]:
    """The trained classifier's checkpoint, or the local file of another kind that has one."""
    extractor = CONFIG.extractors[name]
    if extractor.kind == "classifier":
        return [L.classifier(name, extractor.kimg)]
    return [extractor.weights] if extractor.weights else []


def asked_extractors(wildcards) -> list[str]:
    return experiment(wildcards).generation.extractors


def asked_references(wildcards) -> list[str]:
    return [L.reference(experiment(wildcards).dataset, name) for name in asked_extractors(wildcards)]


def asked_weights(wildcards) -> list[str]:
    return [file for name in asked_extractors(wildcards) for file in extractor_weights(name)]


def measuring(wildcards) -> str:
    """References and weights of the extractors asked for: reference.NAME=path weights.NAME=path ..."""
    files = dict(zip(asked_extractors(wildcards), asked_references(wildcards), strict=True))
    pairs = [f"reference.{name}={file}" for name, file in files.items()]
    return " ".join([*map(quote, pairs), weighing(files)])


def weighing(extractors) -> str:
    """Weights of extractors: weights.NAME=path ..."""
    return " ".join(quote(f"weights.{name}={file}") for name in extractors for file in extractor_weights(name))


def most_compared(dataset: str) -> int:
    """As many images of `test` are compared with those of training as any experiment compares of its own."""
    asked = [e.generation.nearest for e in CONFIG.experiments.values() if e.generation and e.dataset == dataset]
    return max(asked, default=0)


def brought(wildcards) -> list[str]:
    """Statistics of a dataset that were made elsewhere."""
    found = CONFIG.datasets[wildcards.dataset].references.get(wildcards.extractor)
    return [found] if found else []


def optional(*names):
    """A params function: `given` of these names."""
    return lambda wildcards, input: given(input, *names)


# --- reports

REPORT = job_arguments.dump(CONFIG.report)


def every(path, wildcards) -> list[str]:
    """A file of each checkpoint of an experiment."""
    return [path(wildcards.experiment, kimg) for kimg in experiment(wildcards).train.checkpoints]


def every_select(wildcards) -> list[str]:
    return every(L.select, wildcards) if experiment(wildcards).probe else []


def every_choice(wildcards) -> list[str]:
    return [L.choice(wildcards.experiment)] if experiment(wildcards).probe else []


def every_generation(wildcards) -> list[str]:
    e = experiment(wildcards)
    if not measured(e):
        return []
    return [L.generation(wildcards.experiment, k, s) for k in e.train.checkpoints for s in e.sample.samplers]


PROBED = [name for name, e in CONFIG.experiments.items() if e.probe]
FIGURES = (
    "baseline",
    "nearest_real",
    "reconstruct",
    "generation",
    "generate",
    "nearest",
    "grid",
    "evaluate",
)  # the rules whose rows come into the tables
SUMMARISED = {
    "results": [
        next(file for file in s.outputs if file.endswith(".json")) for s in stages(CONFIG) if s.rule in FIGURES
    ],
    "choice": [L.choice(name) for name in PROBED],
}


if workflow.is_main_process:
    try:
        refuse_lost_sources()
        refuse_missing_files()
        refuse_missing_autoencoders()
        refuse_missing_labels()
    except UserError as error:
        sys.exit(str(error))
    for name in set(CONFIG.experiments) - IMPORTED:
        say_what_retrains(name)


include: "recovery.smk"
