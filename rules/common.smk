# From rules to jobs. `job CONFIG SCRIPT ...` runs workflow/scripts/SCRIPT.py with one JSON argument, which with the
# inputs decides on a rerun, and with its named inputs, outputs and options. Nothing here imports torch.
import os
import re
import sys
import tempfile
from pathlib import Path
from shlex import quote

from snakemake.resources import Resource

ROOT = Path(
    workflow.current_basedir.get_path_or_uri(secret_free=True)
).parent  # also where another workflow imports this
SOURCES_OF_CLONE = ROOT / "src"  # not there where the package is installed, which Python finds by itself
if SOURCES_OF_CLONE.exists():
    sys.path.insert(0, str(SOURCES_OF_CLONE))

from diffprobe.config.autoencoders import PRETRAINED
from diffprobe.config.inferred import keys_that_need_labels
from diffprobe.config.load import parse as parse_config
from diffprobe.config.load import read as read_config
from diffprobe.config.plugins import PLUGINS
from diffprobe.config.sources import downloaded_kinds
from diffprobe.config.training import checkpoint_steps
from diffprobe.plan import job_arguments, memory, preflight, probe_job_arguments
from diffprobe.plan.figures import LISTED, alike, figure_rule, figures
from diffprobe.plan.uses import finetune_of, measured_at_once, parted, used_latents
from diffprobe.plan.inputs import Inputs
from diffprobe.plan.layout import Layout, receipt, store_receipt
from diffprobe.plan.own_files import remote_files
from diffprobe.plan.repeats import repeats
from diffprobe.plan.sources import Sources
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import canonical
from diffprobe.runtime.job_call import call_words, pairs
from diffprobe.runtime.gpus import local_gpus
from diffprobe.runtime.preload import listen

# Another workflow may import this one with `prefix:`. Snakemake then moves inputs, outputs, logs and benchmarks; what it
# does not know of is moved here.
MODULE = workflow.modifier.path_modifier


def moved(path):
    return MODULE.replace_prefix(str(path))


def outside(path):
    """A user's own file. Snakemake would look for a relative one below the prefix. The time of a fetched one says
    nothing: its folder names its content.
    """
    if path in REMOTE:
        return ancient(path)
    stays = moved(path) == path or Path(path).is_relative_to(CONFIG.results)
    return path if stays else os.path.abspath(path)


try:
    for file in workflow.configfiles if workflow.is_main_process else ():
        read_config(str(file))  # which refuses keys that stand twice; Snakemake takes the last of them
    CONFIG = parse_config(config)
    PLACED = CONFIG.model_copy(update={"results": moved(CONFIG.results)})  # where results lie in the end
    SOURCES = Sources(PLACED)
    if workflow.is_main_process:
        preflight.refuse(PLACED, SOURCES)
except UserError as error:
    sys.exit(str(error))  # only the message, without Snakemake's traceback

if workflow.is_main_process:
    for line in preflight.retraining(PLACED):
        print(line, file=sys.stderr)

REMOTE = remote_files(CONFIG)
AWAITED = [
    remote for path, remote in REMOTE.items() if not all(map(os.path.exists, (moved(path), moved(receipt(path)))))
]
L, FILES = Layout(CONFIG.results), Inputs(CONFIG, outside)
IMPORTED = {name for name, e in CONFIG.experiments.items() if e.train.imported}
AT_ONCE = {name for name, e in CONFIG.experiments.items() if measured_at_once(e)}  # samples measured while drawn
AUTOSAVE = {"autosave": CONFIG.state.autosave_seconds}
MEASURING = {"batch": CONFIG.metrics.batch, **AUTOSAVE}
FOREIGN = {name for name, latents in CONFIG.latents.items() if latents.imported}  # encoded by another system

# --- the shell of every rule

# Whether jobs go elsewhere: only then are there `--jobs` beside `--cores`. Which executor it is Snakemake says too late.
CLUSTER = workflow.nodes is not None
# This interpreter, or with conda the one of the activated environment.
CONDA = any(method.name == "CONDA" for method in workflow.deployment_settings.deployment_method)
PYTHON = "python" if CONDA else quote(sys.executable)
# Where this process itself runs the jobs, they start from one that has torch loaded (see runtime/preload.py).
PRELOAD = listen() if workflow.is_main_process and not CONDA and not CLUSTER else ""
if CONDA and not SOURCES_OF_CLONE.exists():
    sys.exit("--sdm conda needs a clone of diffprobe: its environments hold no installed package; leave it out")
PATH_OF_CLONE = f" PYTHONPATH={quote(str(SOURCES_OF_CLONE))}" if SOURCES_OF_CLONE.exists() else ""
shell.prefix(
    f"set -euo pipefail; export PYTHONSAFEPATH=1{PATH_OF_CLONE}; "
    f"export {PLUGINS}={quote(':'.join(CONFIG.plugins))}; "
    f'job() {{{{ {PYTHON} {PRELOAD} {quote(str(ROOT / "workflow" / "scripts"))}/"$2".py "$1" "${{{{@:3}}}}"; }}}}; '
)
JOB = "job {params.config:q} {params.call} --log {log:q} --threads {threads}"


def call(script, progress=None, **options):
    """A params function that returns the script and its inputs, outputs and options by name.

    Snakemake ignores params that depend on `input` and `output` when it decides on reruns, as wanted for options, which
    change no result. Options that are functions are called with the wildcards; None is left out.
    """

    def arguments(wildcards, input, output):
        values = {name: value(wildcards) if callable(value) else value for name, value in options.items()}
        words = call_words(dict(by_name(input)), dict(by_name(output)), values)
        where = [f"--progress {quote(moved(progress.format(**wildcards)))}"] if progress else []
        return " ".join([script, words, *where])

    return arguments


def by_name(files):
    """The files of a job by name; those of a list as name.0, name.1, ..."""
    for name, (first, last) in files._get_names():
        if last is None:
            yield name, files[first]
        else:
            yield from ((f"{name}.{i}", file) for i, file in enumerate(files[first:last]))


def arriving(remote):
    """A remote file as an input, which Snakemake's storage plugin brings; its time says nothing about its content."""
    return ancient(getattr(storage, remote.plugin)(remote.url))


def reference_files(wildcards):
    """Paths of references and extractor weights. A param, so that other paths trigger a rerun, as they always did."""
    files = FILES.measuring(wildcards.experiment)
    kinds = ("reference.", "weights.")
    return " ".join(pairs({name: files[name] for name in files if name.startswith(kind)}) for kind in kinds)


def no_argument(wildcards, input):
    """The argument of a job that depends only on its inputs."""
    return "{}"


def argument(part, *names):
    """A params function that returns a job's JSON argument: `part` of the wildcards `names`, by default of all."""

    made = {}

    def text(wildcards):
        key = tuple(map(wildcards.get, names)) if names else tuple(wildcards.items())
        if key not in made:
            made[key] = canonical(part(wildcards))
        return made[key]

    return text


def of_experiment(part, *names):
    """Like `argument`, for a `part` that also takes the experiment."""
    return argument(lambda wildcards: part(experiment(wildcards), wildcards), *names)


def experiment(wildcards):
    return CONFIG.experiments[wildcards.experiment]


def row(wildcards):
    """Columns that identify an experiment, checkpoint and sampler in rows of results."""
    columns = {"kimg": int, "sampler": str}
    more = {name: convert(wildcards[name]) for name, convert in columns.items() if name in wildcards.keys()}
    return job_arguments.row(experiment(wildcards), wildcards.experiment, **more)


# --- training

SAVING = {
    "keep": CONFIG.state.keep,
    **AUTOSAVE,
    "tensorboard": CONFIG.state.tensorboard,
    "trackers": canonical(job_arguments.dump(CONFIG.state)["trackers"]) if CONFIG.state.trackers else None,
    "run_name": lambda w: (
        "-".join(value for key, value in w.items() if key != "kimg") if CONFIG.state.trackers else None
    ),
}


# Jobs of this very process are on this machine. Those of a cluster read this file again, each in a process of its own.
HERE_ALONE = workflow.is_main_process and not CLUSTER


def nodes(wildcards):
    return experiment(wildcards).train.nodes


# How an experiment's network is trained on its devices.
ON_DEVICES = {
    "processes": lambda w: experiment(w).train.devices,
    "nodes": lambda w: nodes(w) if nodes(w) > 1 and not HERE_ALONE else None,
    "device_batch": lambda w: experiment(w).train.device_batch,
    "compile": lambda w: experiment(w).train.compile,
    "recompute": lambda w: experiment(w).train.recompute or None,
    "memory": f"{CONFIG.memory_budget.device_gib:g}/{CONFIG.memory_budget.host_gib:g}",
    "mapped": None if CONFIG.memory_budget.mapped == "checked" else CONFIG.memory_budget.mapped,
}


def steps(batch):
    """A params function that returns the step of a checkpoint."""
    return lambda wildcards: checkpoint_steps(int(wildcards.kimg), batch(wildcards))


def outputs(run):
    """The outputs of a slice of training."""
    files = {"ema": "ema.safetensors", "raw": "raw.safetensors", "stats": "stats.jsonl", "receipt": "receipt.json"}
    return {name: L.checkpoint(run, "{kimg}", file) for name, file in files.items()}


def kimg(wildcards):
    return wildcards.kimg


CLASSIFIER_STOP = steps(lambda w: CONFIG.extractors[w.extractor].batch)
AUTOENCODER_STOP = steps(lambda w: CONFIG.autoencoders[w.autoencoder].train.batch)
FINETUNING_STOP = steps(lambda w: finetune_of(experiment(w), w.evaluator).batch)
PRETRAIN_STOP = steps(lambda w: experiment(w).train.batch)


def pretrain_start(wildcards):
    earlier = FILES.earlier(wildcards.experiment, int(wildcards.kimg))
    return checkpoint_steps(earlier, experiment(wildcards).train.batch)


# --- wildcards and resources


def any_of(names) -> str:
    """A regular expression that matches only these names, so that unknown targets are refused."""
    return "|".join(map(re.escape, names)) or "(?!)"


def named_evaluators(rule) -> set[str]:
    """The names of the evaluators that a rule evaluates."""
    probes = [e.probe for e in CONFIG.experiments.values() if e.probe]
    return {name for probe in probes for name, evaluator in probe.evaluators.items() if evaluator.rule == rule}


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
    trial=r"(lr|seed)_[\w.+-]+",
    job=r"\d+",
    subset=r"(train|select)\d+",
    evaluator=any_of({name for e in CONFIG.experiments.values() if e.probe for name in e.probe.evaluators}),


LOCAL_GPUS = local_gpus()

# Run at most as many GPU jobs as there are GPUs, unless --resources gpu=N is set. A cluster's scheduler limits its own.
if LOCAL_GPUS and not CLUSTER and "gpu" not in workflow.global_resources:
    workflow.global_resources["gpu"] = Resource("gpu", LOCAL_GPUS)

# Snakemake evaluates this default as an expression for every job, a twentieth of a dry run. It is the same for all jobs
# of a process; jobs of a cluster get their own, since this file is read there too.
DEFAULTS = getattr(workflow.resource_settings, "_parsed_default_resources", {})  # not part of its interface
if "tmpdir" in DEFAULTS and DEFAULTS["tmpdir"].raw == "system_tmpdir":
    DEFAULTS["tmpdir"] = Resource("tmpdir", tempfile.gettempdir(), raw="system_tmpdir")


# One GPU per computing job; none if jobs run on this machine and it has no GPU.
GPU = 1 if LOCAL_GPUS or CLUSTER else 0


def computing(mem_mb=4000, minutes=240, gpu=GPU):
    """Resources of a job that uses a device."""
    return {"gpu": gpu, **handling(mem_mb, minutes)}


def handling(mem_mb=1000, minutes=10):
    """Resources of a job that uses no device. On a cluster an attempt after a failure gets more of both."""
    amounts = {"mem_mb": mem_mb, "runtime": minutes}
    return {name: growing(amount) for name, amount in amounts.items()} if CLUSTER else amounts


def growing(amount):
    return lambda wildcards, attempt: attempt * (amount(wildcards) if callable(amount) else amount)


def probing_memory(wildcards) -> int:
    return memory.probing(CONFIG, experiment(wildcards))


# What a training on several nodes asks Slurm for: a task on each, which srun starts from within the job (so `mpi`), with
# its share of the GPUs. None stands for nothing.
ON_NODES = (
    {
        "nodes": nodes,
        "tasks": lambda w: nodes(w) if nodes(w) > 1 else None,
        "tasks_per_gpu": lambda w: 0 if nodes(w) > 1 else None,  # or the plugin asks for `tasks` of each GPU
        "gres": lambda w: f"gpu:{experiment(w).train.devices // nodes(w)}" if nodes(w) > 1 else None,
        "mpi": lambda w: "srun" if nodes(w) > 1 else None,
    }
    if CLUSTER
    else {}
)


def listed(figure):
    """A figure as an output that the report lists."""
    subcategory, _ = LISTED[figure.kind]
    return report(
        L.plot("{experiment}", figure.name),
        caption=f"../workflow/report/{figure.kind}.rst",
        category="{experiment}",
        subcategory=subcategory,
        labels=figure.labels,
    )


def functions(step):
    """The functions that make a rule's inputs and params."""
    items = [getattr(item, "callable", item) for item in (*step.input, *step.params)]
    return filter(callable, items)  # other items are files and values


include: "recovery.smk"
