"""The published forms of weights that `diffprobe import` reads: how each is read, and which experiments it is for."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from diffprobe.config.diffusers_models import SchedulerConfig
from diffprobe.config.inferred import augment_label, conditional, model_space
from diffprobe.config.models import Config, Experiment
from diffprobe.config.networks.diffusers import Diffusers
from diffprobe.config.networks.diffusers_dit import DiffusersDiT
from diffprobe.config.networks.dit import DiT as DiTSettings
from diffprobe.config.problems import Problem
from diffprobe.config.published import weights_files
from diffprobe.interop import ddae, diffusers_dit, diffusers_unet, dit, edm, soda, source
from diffprobe.interop.names import NameMap, State
from diffprobe.interop.source import SourceWeights
from diffprobe.interop.wrappers import unwrapped, weights_of
from diffprobe.networks.dit import DiT
from diffprobe.networks.soda import SODA
from diffprobe.networks.unet import UNet
from diffprobe.runtime.errors import UserError


@dataclass(frozen=True)
class Form:
    """A form: its networks and task here, and what to do where a tensor does not fit (`{}`: the experiment)."""

    kinds: tuple[str, ...]
    remedy: str
    task: str = "diffusion"  # or any other whose model is its network alone


TRANSFORMER = (
    "set experiments.{}.network (size, position, qk_norm, discard_variance) as they were trained, and where the label "
    "table is another's `conditional: false`, which takes its row for no label"
)
FORMS = {
    "ddae": Form(
        ("unet",),
        "set experiments.{}.network (channels, multipliers, blocks, attention, resample) and train.augment as they "
        "were trained",
    ),
    "edm": Form(
        ("unet",),
        "set experiments.{}.network (channels, multipliers, blocks, attention, conditional) and train.augment as in "
        "config/edm.yaml",
    ),
    "soda": Form(
        ("modulated_unet",),
        "set experiments.{}.network (channels, multipliers, blocks, attention, resample) and its task (z; depth, stem "
        "and width of the encoder) as they were trained",
        "soda",
    ),
    "dit": Form(("dit",), TRANSFORMER),
    "gta": Form(("dit",), TRANSFORMER),
    "sit": Form(("dit",), TRANSFORMER),
    "diffusers": Form(
        ("unet", "dit", "diffusers", "diffusers_dit"), "the file is not that of its config.json; download it again"
    ),
}


def read(format: str, origin: str, config: Config, experiment: Experiment) -> SourceWeights:
    """The weights at `origin`. Raises UserError for a file that is not of this form."""
    network = experiment.network
    match format:
        case "dit" | "gta" | "sit":
            assert isinstance(network, DiTSettings)  # else refused
            return {"dit": dit.from_dit, "gta": dit.from_gta, "sit": dit.from_sit}[format](origin, network)
        case "ddae":
            return from_ddae(origin, experiment)
        case "edm":
            return from_edm(origin)
        case "soda":
            return from_soda(origin)
        case _ if isinstance(network, DiffusersDiT):
            return from_wrapped_dit(origin)
        case _ if isinstance(network, DiTSettings):
            return from_diffusers_dit(origin, *model_space(config, experiment))
        case _:
            return from_diffusers(origin, experiment)


# --- experiments


def refused_experiment(config: Config, experiment: Experiment, format: str) -> Iterator[Problem]:
    """Why no file of the format can hold weights of the experiment."""
    form, network, task = FORMS[format], experiment.network, experiment.task
    if network.kind not in form.kinds:
        yield "network.kind", network.kind, f"{' or '.join(form.kinds)}, for --format {format}"
    if form.task != (task.kind if task.model else "diffusion"):
        yield "task.kind", task.kind, f"{form.task}, for --format {format}"
    if network.kind in ("dit", "diffusers_dit"):
        yield from refused_transformer(config, experiment)
        return
    if experiment.latents is not None:
        yield "latents", experiment.latents, "null, since these weights are of pixels"
    if format == "soda":
        yield from soda.refused(experiment)
    if format == "edm":
        yield from refused_for_edm(config, experiment)
    elif conditional(config, experiment):
        yield "network.conditional", True, "false, since these networks are not conditioned on labels"
    if format == "diffusers" and network.kind == "unet" and augment_label(config, experiment):
        yield "train.augment", "a value", "null, since these networks are not conditioned on the augmentation"


def refused_transformer(config: Config, experiment: Experiment) -> Iterator[Problem]:
    if augment_label(config, experiment):
        yield "network.augment", True, "false, since these networks are not conditioned on the augmentation"
    if model_space(config, experiment)[1] is None:
        yield "dataset", experiment.dataset, "one whose image size follows from the config"
    if experiment.latents and config.latents[experiment.latents].scale == "measured":
        allowed = "a store whose `scale` is `published` or the number of these weights' training, as 0.18215"
        yield "latents", f"{experiment.latents}, scaled as measured,", allowed


def refused_for_edm(config: Config, experiment: Experiment) -> Iterator[Problem]:
    network, facts = experiment.network, config.datasets[experiment.dataset].facts
    if (channels := getattr(network, "channels", edm.LEAST_CHANNELS)) < edm.LEAST_CHANNELS:
        yield "network.channels", channels, f"at least {edm.LEAST_CHANNELS}"
    if conditional(config, experiment) and getattr(network, "label_layer", "") != "scaled":
        yield "network.label_layer", getattr(network, "label_layer", None), "scaled, as in EDM"
    if (conditional(config, experiment) and facts.classes is None) or facts.size is None:
        yield "dataset", experiment.dataset, "one whose size and number of classes follow from the config"


# --- sources


def from_edm(origin: str) -> SourceWeights:
    file = Path(origin)
    state = edm.renewed(unwrapped(weights_of(source.read(file)), str(file)))
    return SourceWeights(file, {"ema": state}, edm.NETWORK, {"kind": "edm"})


def from_ddae(origin: str, experiment: Experiment) -> SourceWeights:
    file = Path(origin)
    problems = tuple(ddae.refused_process(experiment.process))
    return SourceWeights(file, ddae.sets(source.read(file), str(file)), ddae.NETWORK, {}, problems)


def from_soda(origin: str) -> SourceWeights:
    file = Path(origin)
    return SourceWeights(file, soda.sets(source.read(file), str(file)), soda.NETWORK, soda.PROCESS)


def from_diffusers(origin: str, experiment: Experiment) -> SourceWeights:
    """The network `diffusers` must have the source's own config, the network `unet` the same in our keys."""
    folder = source.diffusers_folder(origin)
    theirs = source.read_config(folder)
    refuse_class(theirs, ("UNet2DModel",), folder)
    config = diffusers_unet.whole(theirs)
    if isinstance(experiment.network, Diffusers):
        # Neither the size of its images nor dropout changes a weight or an output.
        required = {key: value for key, value in config.items() if key not in ("sample_size", "dropout")}
    else:
        refuse_counterparts(diffusers_unet.refused_config(config), "unet", folder)
        required = diffusers_unet.our_network(config)
    process = diffusers_unet.our_process(scheduler(folder))
    return from_folder(origin, folder, required, process, diffusers_unet.renewed)


def from_diffusers_dit(origin: str, channels: int, size: int | None) -> SourceWeights:
    """A DiTTransformer2DModel for the network `dit`, whose inputs have so many channels and height and width `size`."""
    folder = source.diffusers_folder(origin)
    theirs = source.read_config(folder)
    refuse_class(theirs, diffusers_dit.KINDS, folder)
    config = diffusers_dit.whole(theirs)
    refuse_counterparts(diffusers_dit.refused_config(config), "dit", folder)
    for key, value in (("in_channels", channels), ("sample_size", size)):
        if config[key] != value:  # of another size it would have its positions stretched over the same grid
            allowed = f"{value}, as the network's inputs have"
            raise UserError(f"{folder}/config.json: {key}: {config[key]} is refused; allowed: {allowed}")
    process = diffusers_dit.our_process(diffusers_unet.our_process(scheduler(folder)), config)
    renewed = partial(diffusers_dit.without_copies, file=folder)
    return from_folder(origin, folder, diffusers_dit.our_network(config), process, renewed)


def from_wrapped_dit(origin: str) -> SourceWeights:
    """A DiTTransformer2DModel for a network that must have its own config."""
    folder = source.diffusers_folder(origin)
    theirs = source.read_config(folder)
    refuse_class(theirs, diffusers_dit.KINDS, folder)
    config = diffusers_dit.whole(theirs)
    required = {key: value for key, value in config.items() if key != "dropout"}  # which changes no output
    process = diffusers_dit.our_process(diffusers_unet.our_process(scheduler(folder)), config)
    return from_folder(origin, folder, required, process, lambda state: state)


def from_folder(
    origin: str, folder: Path, required: dict[str, Any], process: dict[str, Any], renewed: Callable[[State], State]
) -> SourceWeights:
    file = Path(origin) if Path(origin).is_file() else source.diffusers_weights(folder)
    state = renewed(source.read_model(file))
    files = () if (files := weights_files(file)) == [file] else tuple(files)
    return SourceWeights(file, {"ema": state}, required, process, files=files, note=source.which_weights(file))


def refuse_class(config: Mapping[str, Any], kinds: Sequence[str], folder: Path) -> None:
    """Raise UserError for a model of another class."""
    if config["_class_name"] not in kinds:
        raise UserError(f"{folder}/config.json: describes a {config['_class_name']}; expected a {kinds[0]}")


def refuse_counterparts(problems: Iterable[Problem], kind: str, folder: Path) -> None:
    """Raise UserError for the first option of a model that our network does not have."""
    wrapper = "diffusers" if kind == "unet" else "diffusers_dit"
    for key, value, allowed in problems:
        raise UserError(
            f"{folder}/config.json: {key}: {value} has no counterpart in the network `{kind}` (allowed: {allowed}); "
            f"use network: {{kind: {wrapper}, path: {folder}}}"
        )


def scheduler(folder: Path) -> dict[str, Any]:
    """The config of the scheduler beside a model; empty where there is none."""
    pipelines = (path.parent / "scheduler" for path in (folder.absolute(), folder.resolve()))  # by a link, too
    for place in (folder, *pipelines):  # beside the model, or as pipelines have it
        if (place / "scheduler_config.json").is_file():
            return source.read_settings(place / "scheduler_config.json", SchedulerConfig)
    return {}


# --- names


def name_map(module: nn.Module, ours: Iterable[str], format: str, size: int | None) -> NameMap:
    """Our names to those of the form, for images of height and width `size`."""
    if isinstance(module, SODA):
        return soda.names(module)
    if isinstance(module, UNet) and format == "edm":
        assert size is not None  # else refused
        return edm.unet_names(module, size)
    if isinstance(module, UNet):
        return ddae.unet_names(module) if format == "ddae" else diffusers_unet.unet_names(module)
    if isinstance(module, DiT) and format == "diffusers":
        return diffusers_dit.names(ours)
    # A wrapped model keeps its own names, a transformer has those of the published files.
    return {name: (name.removeprefix("unet.").removeprefix("transformer."),) for name in ours}


def label_names(format: str) -> tuple[str, str]:
    """The form's names of a transformer's label table and of the last bias of its noise level's embedding."""
    if format != "diffusers":
        return dit.TABLE, dit.TIME_BIAS
    [table], [bias] = (diffusers_dit.theirs(name) for name in (dit.TABLE, dit.TIME_BIAS))
    return table, bias
