"""Checkpoints of SODA's re-implementation (names as in github.com/FutureXiang/soda: model/encoder.py, model/decoder.py,
train.py): files with MODEL and EMA, as DDAE's.

Its decoder has DDAE's names, with a layer for the code in each residual block. Its encoder is torchvision's ResNet as a
list of layers, which are counted with those that have no weights.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from diffprobe.config.models import Experiment
from diffprobe.config.problems import Problem
from diffprobe.interop import ddae
from diffprobe.interop.names import NameMap, State, unet_map
from diffprobe.networks.modulated_unet import ModulatedUNet
from diffprobe.networks.resnet import ResNet
from diffprobe.networks.soda import SODA

# Values there of keys of our network that it does not have as options, or has in this form alone.
NETWORK = {**ddae.NETWORK, "modulation": "direct", "parts": "all"}
PROCESS = {"kind": "ddpm", "time_input": "fraction"}
COUNTER = ".num_batches_tracked"  # of batch norms, which neither code reads


def sets(content: Mapping[str, Any], where: str) -> dict[str, State]:
    """The sets of weights in a file, as `ddae.sets`, without the counters of batch norms."""
    states = ddae.sets(content, where)
    return {key: {n: x for n, x in state.items() if not n.endswith(COUNTER)} for key, state in states.items()}


def names(model: SODA) -> NameMap:
    """Our names to theirs."""
    assert isinstance(model.decoder, ModulatedUNet)  # else refused
    return encoder_names(model.encoder) | decoder_names(model.decoder)


def decoder_names(decoder: ModulatedUNet) -> NameMap:
    plain = ddae.scheme(decoder.blocks)
    scheme = replace(plain, residual={**plain.residual, "code": "z_emb.1"})
    return {f"decoder.{ours}": (f"decoder.{theirs}",) for ours, (theirs,) in unet_map(decoder, scheme).items()}


def encoder_names(encoder: ResNet) -> NameMap:
    """By the place of each layer in their list."""
    order = ["conv1", "bn1", "relu", *["maxpool"] * encoder.large, *(f"layer{i}" for i in range(1, 5))]
    order += ["avgpool", "flatten", "fc"]
    layers = ((name, *name.split(".", 1)) for name in encoder.state_dict() if not name.endswith(COUNTER))
    return {f"encoder.{name}": (f"encoder.encoder.{order.index(layer)}.{rest}",) for name, layer, rest in layers}


def refused(experiment: Experiment) -> Iterator[Problem]:
    """Settings of the task that cannot be those of such weights, as far as this can be said without the file."""
    encoder = getattr(experiment.task, "encoder", None)
    for key in ("mean", "std"):
        if encoder is not None and getattr(encoder, key) is None:
            yield f"task.encoder.{key}", None, "that of the images it was trained on, which its encoder was given"
