"""Parameters and FLOPs of a network and of each of its taps, counted on the meta device.

There tensors have shapes but no memory, so any network is counted in a second; one multiply-add is 2 FLOPs. torch is
imported inside functions, so that the command line starts fast.
"""

from contextlib import suppress
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, cast

from diffprobe.config.built import parse_model
from diffprobe.runtime.files import digest, recorded, sha256, user_cache, write_json

if TYPE_CHECKING:
    from torch import Tensor, nn

    from diffprobe.networks.flops import Inputs

PACKAGE = Path(__file__).parents[1]


class TapCost(TypedDict):
    tap: str
    shape: list[int]  # C, H, W
    flops: int  # forward, up to this tap


class NetworkSize(TypedDict):
    parameters: int  # with fixed tables that published checkpoints hold
    trainable: int
    forward_flops: int  # of one image
    training_flops: int  # forward and backward, of one image


class NetworkCost(NetworkSize):
    taps: list[TapCost]


def remembered_cost(model: dict[str, Any], image: tuple[int, int, int], **labels: int) -> NetworkCost:
    """`cost`, from this user's cache if it was counted there before: torch takes seconds to load.

    Entries are by settings, torch's version and the code of our networks and of this count. A plugin's are always
    counted, since its code may be in any file.
    """
    if any("plugin" in part for part in model.values()):
        return cost(model, image, **labels)
    entry = cache_folder() / f"{digest([model, image, labels, code()])}.json"
    remembered = recorded(entry, "cost")
    if isinstance(remembered, dict) and recorded(entry, "digest") == digest(remembered):
        return cast(NetworkCost, remembered)
    counted = cost(model, image, **labels)
    with suppress(OSError):  # no folder, or a full disk: it is counted again
        entry.parent.mkdir(parents=True, exist_ok=True)
        write_json(entry, {"cost": counted, "digest": digest(counted)})
    return counted


def cache_folder() -> Path:
    return user_cache() / "costs"


@cache
def code() -> dict[str, str]:
    """What the counts, and their form in the cache, depend on besides the settings."""
    rooms = ("networks", "config/networks", "config/tasks")
    files = [*(file for room in rooms for file in PACKAGE.glob(f"{room}/*.py")), Path(__file__)]
    return {"torch": version("torch")} | {str(file.relative_to(PACKAGE)): sha256(file) for file in sorted(files)}


def cost(model: dict[str, Any], image: tuple[int, int, int], **labels: int) -> NetworkCost:
    """Size and FLOPs of a model on an image (C, H, W); shape and cost of each tap.

    `model` as in a checkpoint's header: its `network`, and its `task` if the model is more than that.

    `labels` has the number of `classes`, the length of the `augment` label and `out_channels`, each only where the
    network has one.
    """
    from diffprobe.networks.flops import on_meta
    from diffprobe.networks.uncompiled import uncompiled

    with uncompiled():
        module, inputs = on_meta(parse_model(model), image, **labels)
        return {**whole_cost(module, inputs), "taps": tap_costs(module, inputs)}


def whole_cost(module: "nn.Module", inputs: "Inputs") -> NetworkSize:
    from diffprobe.networks.flops import pass_flops

    forward_flops, training_flops = pass_flops(module, inputs)
    # After the pass, in which a table follows the grid.
    fixed = sum(getattr(part, "fixed_parameters", 0) for part in module.modules())
    return {
        "parameters": sum(p.numel() for p in module.parameters()) + fixed,
        "trainable": sum(p.numel() for p in module.parameters() if p.requires_grad),
        "forward_flops": forward_flops,
        "training_flops": training_flops,
    }


def tap_costs(module: Any, inputs: "Inputs") -> list[TapCost]:
    """Each tap's shape (C, H, W), and the FLOPs when nothing after it is computed."""
    from diffprobe.networks.flops import flops

    def alone(tap: str) -> int:
        return flops(partial(module, *inputs, taps=[tap], features_only=True))

    names = getattr(module, "named_taps", module.taps)
    counts, features = counted(module, inputs, names)
    # A pass for each tap would take minutes for a network of hundreds of blocks.
    if any(counts.get(tap) != alone(tap) for tap in {*names[:1], *names[-1:]}):
        counts = {tap: alone(tap) for tap in names}  # of a network that computes more than a tap needs before it
    return [{"tap": tap, "shape": list(features[tap].shape[1:]), "flops": counts[tap]} for tap in names]


def counted(module: Any, inputs: "Inputs", taps: list[str]) -> "tuple[dict[str, int], dict[str, Tensor]]":
    """The FLOPs at the moment when each tap is there, in one pass; and the features."""
    from diffprobe.networks.flops import CreationCounter

    with CreationCounter() as counter:
        features = module(*inputs, taps=taps)[1]
    return {
        tap: counter.created[id(feature)] for tap, feature in features.items() if id(feature) in counter.created
    }, features
