"""Weights from elsewhere as a checkpoint of an experiment: checked key by key and tensor by tensor, then written."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from diffprobe.config.built import parse_network
from diffprobe.config.diffusers_models import SchedulerConfig
from diffprobe.config.inferred import augment_label, conditional, model_space
from diffprobe.config.models import Config, Experiment
from diffprobe.config.networks.diffusers import Diffusers
from diffprobe.config.problems import Problem, one_of
from diffprobe.config.published import weights_files
from diffprobe.data.filenames import display
from diffprobe.interop import ddae, diffusers_unet, edm, source
from diffprobe.interop.diffusers_unet import differing
from diffprobe.interop.names import EDM_OPTIONS, NameMap, State, to_ours
from diffprobe.interop.wrappers import unwrapped, weights_of
from diffprobe.networks.build import build
from diffprobe.networks.unet import UNet
from diffprobe.plan import job_arguments
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import digest, sha256
from diffprobe.training import checkpoints


class SourceWeights(NamedTuple):
    """Weights as a source holds them, and what an experiment must be to have them."""

    file: Path
    sets: dict[str, State]  # sets of weights under their own names
    network: dict[str, Any]  # required values of keys of the experiment's network
    process: dict[str, Any]  # and of its process, as far as the source says
    problems: tuple[Problem, ...] = ()  # with the experiment's process, beyond single values
    files: tuple[Path, ...] = ()  # that `file` is the index of
    note: str = ""  # what the user should hear of it


class Written(NamedTuple):
    path: Path
    sets: list[str]
    parameters: int
    source: str  # the file that was read, and which of several weights it holds


def import_weights(config: Config, name: str, format: str, origin: str, out: Path | None = None) -> Written:
    """Write a checkpoint of the experiment `name` from the weights at `origin`. Raises UserError, a line.

    Without `out` it is written to the experiment's `train.imported`, or into the folder `imported`.
    """
    if name not in config.experiments:
        raise UserError(f"--experiment {display(name)}: no such experiment; there are {one_of(config.experiments)}")
    experiment = config.experiments[name]
    path = out or Path(experiment.train.imported or f"imported/{name}.safetensors")
    if path.suffix != ".safetensors":
        raise UserError(f"--out {path}: allowed: a name that ends in .safetensors")
    if path.exists() and not was_imported(path):
        raise UserError(f"--out {path}: exists and holds no imported weights; choose another name")
    refuse(f"experiments.{name}", refused_experiment(config, experiment, format))
    network, process = experiment.network.argument(), job_arguments.dump(experiment.process)
    channels, size = model_space(config, experiment)
    augment = augment_label(config, experiment)
    classes = config.datasets[experiment.dataset].facts.classes if conditional(config, experiment) else 0
    counts = {"classes": classes, "augment": augment}
    present = {key: count for key, count in counts.items() if count}
    shape = {"image_channels": channels, **present, **experiment.process.output_shape(channels)}  # as in training
    with torch.device("meta"):  # for names and shapes alone
        module = build(parse_network(network), **shape)
    weights = READERS[format](origin, experiment)
    # Values are compared before tensors: most of them (eps, padding, scales) change no tensor's shape.
    whence = f", as {weights.file} has it"
    where, mine = f"experiments.{name}.network", EDM_OPTIONS | network  # left out where they are as before
    if isinstance(experiment.network, Diffusers):
        where, mine = f"{where}.path: config.json", diffusers_unet.whole(network["config"])
    refuse(where, differing(mine, weights.network), whence)
    refuse(f"experiments.{name}.process", [*weights.problems, *differing(process, weights.process)], whence)
    names, shapes = name_map(module, format, size), module.state_dict()
    what = f"weights of {weights.file}"
    sets = {
        key: to_ours(state, names, shapes, what, REMEDIES[format].format(name)) for key, state in weights.sets.items()
    }
    # The identity is the source's, so that importing again changes nothing downstream.
    origins: dict[str, Any] = {"path": str(weights.file), "sha256": sha256(weights.file)}
    if weights.files:
        origins["files"] = {path.name: sha256(path) for path in weights.files}
    header = {
        "network": network,
        "process": process,
        "shape": shape,
        "image": [channels, size, size],
        "images": 0,  # the file does not say how many it was trained on
        "identity": digest(origins),
        "format": format,
        "source": origins,
    }
    checkpoints.write(path, sets, header)
    read = f"{weights.file} ({weights.note})" if weights.note else str(weights.file)
    return Written(path, list(sets), sum(value.numel() for value in module.parameters()), read)


def was_imported(path: Path) -> bool:
    """Whether a file is an earlier import, which a new one may replace."""
    try:
        return "source" in checkpoints.header(path)
    except UserError:
        return False


def refuse(key: str, problems: Iterable[Problem], whence: str = "") -> None:
    """Raise a UserError for the first problem, if there is one."""
    for below, value, allowed in problems:
        raise UserError(f"{key}.{below}: {value} is refused; allowed: {allowed}{whence}")


def refused_experiment(config: Config, experiment: Experiment, format: str) -> Iterator[Problem]:
    """Why no file of the format can hold weights of the experiment."""
    kinds = {"ddae": ("unet",), "edm": ("unet",), "diffusers": ("unet", "diffusers")}[format]
    if experiment.network.kind not in kinds:
        yield "network.kind", experiment.network.kind, f"{' or '.join(kinds)}, for --format {format}"
    if experiment.latents is not None:
        yield "latents", experiment.latents, "null, since these weights are of pixels"
    if format == "edm":
        yield from refused_for_edm(config, experiment)
    elif conditional(config, experiment):
        yield "network.conditional", True, "false, since these networks are not conditioned on labels"
    if format == "diffusers" and experiment.network.kind == "unet" and augment_label(config, experiment):
        yield "train.augment", "a value", "null, since these networks are not conditioned on the augmentation"


def refused_for_edm(config: Config, experiment: Experiment) -> Iterator[Problem]:
    network, facts = experiment.network, config.datasets[experiment.dataset].facts
    if (channels := getattr(network, "channels", edm.LEAST_CHANNELS)) < edm.LEAST_CHANNELS:
        yield "network.channels", channels, f"at least {edm.LEAST_CHANNELS}"
    if conditional(config, experiment) and getattr(network, "label_layer", "") != "scaled":
        yield "network.label_layer", getattr(network, "label_layer", None), "scaled, as in EDM"
    if (conditional(config, experiment) and facts.classes is None) or facts.size is None:
        yield "dataset", experiment.dataset, "one whose size and number of classes follow from the config"


def from_edm(origin: str, experiment: Experiment) -> SourceWeights:
    file = Path(origin)
    state = edm.renewed(unwrapped(weights_of(source.read(file)), str(file)))
    return SourceWeights(file, {"ema": state}, edm.NETWORK, {"kind": "edm"})


def from_ddae(origin: str, experiment: Experiment) -> SourceWeights:
    file = Path(origin)
    problems = tuple(ddae.refused_process(experiment.process))
    return SourceWeights(file, ddae.sets(source.read(file), str(file)), ddae.NETWORK, {}, problems)


def from_diffusers(origin: str, experiment: Experiment) -> SourceWeights:
    """The network `diffusers` must have the source's own config, the network `unet` the same in our keys."""
    folder = source.diffusers_folder(origin)
    config = diffusers_unet.whole(source.read_config(folder))
    if isinstance(experiment.network, Diffusers):
        # Neither the size of its images nor dropout changes a weight or an output.
        required = {key: value for key, value in config.items() if key not in ("sample_size", "dropout")}
    else:
        for key, value, allowed in diffusers_unet.refused_config(config):
            raise UserError(
                f"{folder}/config.json: {key}: {value} has no counterpart in the network `unet` (allowed: {allowed}); "
                f"use network: {{kind: diffusers, path: {folder}}}"
            )
        required = diffusers_unet.our_network(config)
    file = Path(origin) if Path(origin).is_file() else source.diffusers_weights(folder)
    state = diffusers_unet.renewed(source.read_model(file))
    process, note = diffusers_unet.our_process(scheduler(folder)), source.which_weights(file)
    files = () if (files := weights_files(file)) == [file] else tuple(files)
    return SourceWeights(file, {"ema": state}, required, process, files=files, note=note)


READERS = {"ddae": from_ddae, "edm": from_edm, "diffusers": from_diffusers}
REMEDIES = {  # where a tensor does not fit
    "ddae": "set experiments.{}.network (channels, multipliers, blocks, attention, resample) and train.augment as they "
    "were trained",
    "edm": "set experiments.{}.network (channels, multipliers, blocks, attention, conditional) and train.augment as in "
    "config/edm.yaml",
    "diffusers": "the file is not that of its config.json; download it again",
}


def scheduler(folder: Path) -> dict[str, Any]:
    """The config of the scheduler beside a model; empty where there is none."""
    for place in (folder, folder.parent / "scheduler"):  # beside the model, or as pipelines have it
        if (place / "scheduler_config.json").is_file():
            return source.read_settings(place / "scheduler_config.json", SchedulerConfig)
    return {}


def name_map(module: nn.Module, format: str, size: int | None) -> NameMap:
    if not isinstance(module, UNet):  # a wrapped model keeps its own names
        return {name: (name.removeprefix("unet."),) for name in module.state_dict()}
    if format == "edm":
        assert size is not None  # else refused
        return edm.unet_names(module, size)
    return ddae.unet_names(module) if format == "ddae" else diffusers_unet.unet_names(module)
