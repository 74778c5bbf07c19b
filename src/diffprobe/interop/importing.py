"""Weights from elsewhere as a checkpoint of an experiment: checked key by key and tensor by tensor, then written."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from diffprobe.config.built import parse_model
from diffprobe.config.inferred import augment_label, conditional, model_space
from diffprobe.config.models import Config, Experiment
from diffprobe.config.networks.diffusers import Diffusers
from diffprobe.config.networks.diffusers_dit import DiffusersDiT
from diffprobe.config.problems import Problem, one_of
from diffprobe.data.filenames import display
from diffprobe.interop import diffusers_dit, diffusers_unet, dit, forms
from diffprobe.interop.diffusers_unet import differing
from diffprobe.interop.names import NameMap, State, misfits, table, to_ours
from diffprobe.interop.source import SourceWeights
from diffprobe.networks.build import build
from diffprobe.networks.dit import DiT
from diffprobe.plan import job_arguments
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import digest, sha256
from diffprobe.training import checkpoints

Say = Callable[[str], object]


class Written(NamedTuple):
    path: Path
    sets: list[str]
    parameters: int
    source: str  # the file that was read, and which of several weights it holds


def import_weights(
    config: Config, name: str, format: str, origin: str, out: Path | None = None, say: Say = print
) -> Written:
    """Write a checkpoint of the experiment `name` from the weights at `origin`. Raises UserError, a line.

    Without `out` it is written to the experiment's `train.imported`, or into the folder `imported`. Where several
    tensors do not fit, `say` is given a table of them first.
    """
    if name not in config.experiments:
        raise UserError(f"--experiment {display(name)}: no such experiment; there are {one_of(config.experiments)}")
    experiment = config.experiments[name]
    path = out or Path(experiment.train.imported or f"imported/{name}.safetensors")
    if path.suffix != ".safetensors":
        raise UserError(f"--out {path}: allowed: a name that ends in .safetensors")
    if path.exists() and not was_imported(path):
        raise UserError(f"--out {path}: exists and holds no imported weights; choose another name")
    refuse(f"experiments.{name}", forms.refused_experiment(config, experiment, format))
    weights = forms.read(format, origin, config, experiment)
    refuse_other_settings(name, experiment, weights)
    model = job_arguments.imported(experiment)
    channels, size = model_space(config, experiment)
    shape = network_shape(config, experiment, format, weights)
    with torch.device("meta"):  # for names and shapes alone
        module = build(parse_model(model), **shape)
    tables = fixed_tables(module, size) if format != "diffusers" else {}
    tensors = module.state_dict() | tables
    shapes = {name: x for name, x in tensors.items() if x.is_floating_point()}
    # Batch norms count their batches, which nothing reads: the counts begin anew.
    counters = {name: torch.zeros_like(x, device="cpu") for name, x in tensors.items() if name not in shapes}
    names, remedy = forms.name_map(module, list(shapes), format, size), forms.FORMS[format].remedy.format(name)
    sets, notes = {}, [weights.note]
    for key, state in weights.sets.items():
        if isinstance(module, DiT):
            state, note = dit.with_labels(state, shape.get("classes", 0), weights.file, forms.label_names(format))
            notes.append(note)
        sets[key] = named_as_ours(state, names, shapes, f"weights of {weights.file}", remedy, say) | counters
        for fixed in tables:
            dit.refuse_other_positions(sets[key].pop(fixed), tables[fixed], state[fixed].dtype, weights.file)
    # The identity is the source's, so that importing again changes nothing downstream.
    origins: dict[str, Any] = {"path": str(weights.file), "sha256": sha256(weights.file)}
    if weights.files:
        origins["files"] = {path.name: sha256(path) for path in weights.files}
    header = {
        **model,
        "shape": shape,
        "image": [channels, size, size],
        "images": 0,  # the file does not say how many it was trained on
        "identity": digest(origins),
        "format": format,
        "source": origins,
    }
    checkpoints.write(path, sets, header)
    said = "; ".join(filter(None, notes))
    read = f"{weights.file} ({said})" if said else str(weights.file)
    return Written(path, list(sets), sum(value.numel() for value in module.parameters()), read)


def network_shape(config: Config, experiment: Experiment, format: str, weights: SourceWeights) -> dict[str, int]:
    """What follows from the data for the network, as in training."""
    channels, _ = model_space(config, experiment)
    classes = config.datasets[experiment.dataset].facts.classes if conditional(config, experiment) else 0
    if classes is None:  # only reading the dataset shows it: the label table's rows, but that for no label
        labels, _ = forms.label_names(format)
        classes = max(0, dit.rows(weights.sets["ema"], labels) - 1)
    counts = {"classes": classes, "augment": augment_label(config, experiment)}
    present = {key: count for key, count in counts.items() if count}
    return {"image_channels": channels, **present, **experiment.process.output_shape(channels)}


def refuse_other_settings(name: str, experiment: Experiment, weights: SourceWeights) -> None:
    """Raise UserError for the first setting of network and process that is not as the weights were trained.

    Values are compared before tensors: most of them (eps, padding, scales) change no tensor's shape.
    """
    whence, network = f", as {weights.file} has it", experiment.network
    where, mine = f"experiments.{name}.network", network.options
    if isinstance(network, Diffusers):
        where, mine = f"{where}.path: config.json", diffusers_unet.whole(network.config)
    elif isinstance(network, DiffusersDiT):
        where, mine = f"{where}.path: config.json", diffusers_dit.whole(network.config)
    refuse(where, differing(mine, weights.network), whence)
    process = {"kind": experiment.process.kind, **experiment.process.options}
    refuse(f"experiments.{name}.process", [*weights.problems, *differing(process, weights.process)], whence)


def fixed_tables(module: nn.Module, size: int | None) -> State:
    """What published files hold beside our tensors, for images of height and width `size`."""
    if not isinstance(module, DiT):
        return {}
    assert size is not None  # else refused
    return dit.expected_positions(module, (size, size))


def named_as_ours(state: State, names: NameMap, shapes: State, what: str, remedy: str, say: Say) -> State:
    """`to_ours`, which refuses the first tensor that does not fit; of several, `say` is given a table first."""
    if len(rows := misfits(state, names, shapes)) > 1:
        say(table(rows))
    return to_ours(state, names, shapes, what, remedy)


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
