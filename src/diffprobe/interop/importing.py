"""Weights from elsewhere as a checkpoint of an experiment: checked key by key and tensor by tensor, then written."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError

from diffprobe.config.inferred import conditional, model_space
from diffprobe.config.models import Config, Experiment
from diffprobe.config.problems import Problem, one_of
from diffprobe.data.augment import LABEL
from diffprobe.interop import ddae, diffusers_unet, source
from diffprobe.interop.names import Map, State, to_ours
from diffprobe.networks.build import build
from diffprobe.plan import job_arguments
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import digest, sha256
from diffprobe.training import checkpoints


class Found(NamedTuple):
    """What a source holds."""

    file: Path
    sets: dict[str, State]  # sets of weights under their own names
    network: dict[str, Any]  # what keys of the experiment's network must be
    process: dict[str, Any]  # and of its process, as far as the source tells
    wrong: tuple[Problem, ...] = ()  # what of the experiment's process cannot be at all


class Written(NamedTuple):
    path: Path
    sets: list[str]
    parameters: int


def import_weights(config: Config, name: str, format: str, origin: str, out: Path | None = None) -> Written:
    """Write a checkpoint of the experiment `name` from the weights at `origin`. Raises UserError, a line.

    Without `out` it lies where the experiment's `train.imported` says, or in `imported`.
    """
    if name not in config.experiments:
        raise UserError(f"--experiment {name}: no such experiment; there are {one_of(config.experiments)}")
    experiment = config.experiments[name]
    path = out or Path(experiment.train.imported or f"imported/{name}.safetensors")
    if path.suffix != ".safetensors":
        raise UserError(f"--out {path}: allowed: a name that ends in .safetensors")
    if path.exists() and not was_imported(path):
        raise UserError(f"--out {path}: exists and holds no imported weights; choose another name")
    refuse(f"experiments.{name}", refused_experiment(config, experiment, format), "")
    network, shape = job_arguments.network(experiment), network_shape(config, experiment)
    process = job_arguments.dump(experiment.process)
    with torch.device("meta"):
        module = build(network, **shape)
    found = READERS[format](origin, network, process)
    whence = f", as {found.file} has it"
    where, mine = f"experiments.{name}.network", network
    if network["kind"] == "diffusers":
        where, mine = f"{where}.path: config.json", diffusers_unet.whole(network["config"])
    refuse(where, differing(mine, found.network), whence)
    refuse(f"experiments.{name}.process", [*found.wrong, *differing(process, found.process)], whence)
    names, remedy = name_map(module, format), remedies(name, format)
    shapes, what = module.state_dict(), f"weights of {found.file}"
    sets = {key: to_ours(state, names, shapes, what, remedy) for key, state in found.sets.items()}
    origins = {"path": str(found.file), "sha256": sha256(found.file)}
    checkpoints.write(
        path,
        sets,
        {
            "network": network,
            "process": process,
            "shape": shape,
            "image": image(config, experiment),
            "images": 0,  # nobody knows how many
            "identity": digest(origins),
            "format": format,
            "source": origins,
        },
    )
    return Written(path, list(sets), sum(value.numel() for value in module.parameters()))


def was_imported(path: Path) -> bool:
    """Whether a file is an earlier import, which a new one may replace."""
    try:
        return "source" in checkpoints.header(path)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return False


def refuse(key: str, problems: Iterable[Problem], whence: str) -> None:
    """Raise a UserError for the first problem, if there is one."""
    for below, value, allowed in problems:
        raise UserError(f"{key}.{below}: {value} is refused; allowed: {allowed}{whence}")


def refused_experiment(config: Config, experiment: Experiment, format: str) -> Iterator[Problem]:
    """What no file of the format can be weights of."""
    kinds = {"ddae": ("unet",), "diffusers": ("unet", "diffusers")}[format]
    if experiment.network.kind not in kinds:
        yield "network.kind", experiment.network.kind, f"{' or '.join(kinds)}, for --format {format}"
    if experiment.latents is not None:
        yield "latents", experiment.latents, "null, since these weights are of pixels"
    if conditional(config, experiment):
        yield "network.conditional", True, "false, since these weights are told no labels"
    if format == "diffusers" and experiment.network.kind == "unet" and told_augment(experiment):
        yield "train.augment", "a value", "null, since these weights are not told of it"


def told_augment(experiment: Experiment) -> bool:
    return bool(experiment.train.augment and getattr(experiment.network, "augment", False))


def network_shape(config: Config, experiment: Experiment) -> dict[str, int]:
    """What of the network follows from the data, as in training."""
    augment = {"augment": LABEL} if told_augment(experiment) else {}
    return {"image_channels": image(config, experiment)[0], **augment}


def image(config: Config, experiment: Experiment) -> list[int]:
    """[C, H, W] of what the network sees."""
    channels, size = model_space(config, experiment)
    return [channels, size, size]


def from_ddae(origin: str, network: dict[str, Any], process: dict[str, Any]) -> Found:
    file = Path(origin)
    return Found(file, ddae.sets(source.read(file)), ddae.NETWORK, {}, tuple(ddae.refused_process(process)))


def from_diffusers(origin: str, network: dict[str, Any], process: dict[str, Any]) -> Found:
    """The network `diffusers` must have the source's own config, the network `unet` what that means in our keys."""
    folder = source.diffusers_folder(origin)
    config = diffusers_unet.whole(source.read_config(folder))
    if network["kind"] == "diffusers":
        wanted = {key: value for key, value in config.items() if key not in ("sample_size", "dropout")}
    else:
        for key, value, allowed in diffusers_unet.refused_config(config):
            raise UserError(
                f"{folder}/config.json: {key}: {value} has no counterpart in the network `unet` (allowed: {allowed}); "
                f"use network: {{kind: diffusers, path: {folder}}}"
            )
        wanted = diffusers_unet.our_network(config)
    file = source.diffusers_weights(folder)
    state = diffusers_unet.renewed(source.read(file))
    return Found(file, {"ema": state}, wanted, diffusers_unet.our_process(scheduler(folder)))


READERS = {"ddae": from_ddae, "diffusers": from_diffusers}


def scheduler(folder: Path) -> dict[str, Any]:
    """The config of the scheduler that lies beside a model; empty where there is none."""
    for place in (folder, folder.parent / "scheduler"):
        if (place / "scheduler_config.json").is_file():
            return source.read_settings(place / "scheduler_config.json")
    return {}


def differing(mine: dict[str, Any], theirs: dict[str, Any]) -> Iterator[Problem]:
    """The keys that are not as they must be."""
    for key, value in theirs.items():
        if key not in mine or plain(mine[key]) != plain(value):
            yield key, mine.get(key), str(value)


def plain(value: Any) -> Any:
    """Lists and tuples alike."""
    return list(value) if isinstance(value, list | tuple) else value


def name_map(module: Any, format: str) -> Map:
    if format == "ddae":
        return ddae.unet_names(module)
    if hasattr(module, "unet"):
        return {name: (name.removeprefix("unet."),) for name in module.state_dict()}
    return diffusers_unet.unet_names(module)


def remedies(name: str, format: str) -> str:
    """What to do where a tensor does not fit."""
    if format == "diffusers":
        return "the file is not that of its config.json; download it again"
    keys = "channels, multipliers, blocks, attention, resample"
    return f"set experiments.{name}.network ({keys}) and train.augment as they were trained"
