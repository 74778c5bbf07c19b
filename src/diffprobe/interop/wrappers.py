"""State dicts as PyTorch's wrappers and training scripts save them: taken out of checkpoints, prefixes stripped."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from diffprobe.interop.names import State
from diffprobe.runtime.errors import UserError

# Keys under which training checkpoints keep the weights, beside an optimizer's state and more; averages come first.
CONTAINERS = ("ema_state_dict", "model_ema", "ema", "state_dict", "model_state_dict", "model", "module")
DEPTH = 8  # of containers in containers
# Levels that wrappers of modules insert, anywhere in a name: torch.compile, FSDP, activation checkpointing.
INSERTED = re.compile(r"(?:(?<=\.)|^)(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
# Levels around a whole model: DDP, DataParallel and AveragedModel; Lightning's; a pipeline's name of the model.
OUTER = ("module.", "model.", "unet.", "vae.")
COUNTER = "n_averaged"  # AveragedModel's number of updates, beside the weights


def weights_of(content: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """The state dict in a training checkpoint; a state dict itself is returned as it is."""
    for _ in range(DEPTH):  # a pickle may hold itself
        inside = [content[key] for key in CONTAINERS if isinstance(content.get(key), Mapping)]
        if not inside or any(isinstance(value, Tensor) for value in content.values()):
            break
        content = inside[0]
    return content


def unwrapped(state: Any, where: str) -> State:
    """The tensors of a state dict without the prefixes of wrappers. `where` names the file.

    Raises UserError where there is anything but tensors by name, or two tensors with the same name but for a prefix.
    """
    if not isinstance(state, Mapping):
        raise UserError(f"{where}: expected tensors by name, not {type(state).__name__}")
    tensors: State = {}
    for name, value in state.items():
        if name == COUNTER:
            continue
        if not isinstance(name, str) or not name.isprintable() or not isinstance(value, Tensor):
            shown = str(name) if str(name).isprintable() else ascii(name)
            raise UserError(f"{where}: {shown} is no tensor by name; save the network's state dict")
        if value.is_meta or value.is_nested:
            raise UserError(f"{where}: {name} has no values of its own shape; save plain tensors")
        if (bare := INSERTED.sub("", name)) in tensors:
            raise UserError(f"{where}: holds {bare} twice, as {name} too; save one state dict alone")
        tensors[bare] = value
    if not tensors:
        raise UserError(f"{where}: holds no tensors by name; save the network's state dict")
    while prefix := next((one for one in OUTER if tensors and all(name.startswith(one) for name in tensors)), None):
        tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return tensors
