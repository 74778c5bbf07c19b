"""The weights that a run begins with, where they are another run's and not fresh."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from diffprobe.runtime.errors import UserError, one_line
from diffprobe.training import checkpoints


def begin_with(path: Path, module: nn.Module, described: Mapping[str, Any]) -> None:
    """Load a checkpoint's first set of weights (an average) into a model, in place.

    `described` are the parts of the checkpoint's header that must be the model's own: `network`, and `task` where the
    model is more. Raises UserError where they differ, where a tensor does not fit, and where the file is damaged.
    """
    header = checkpoints.header(path)
    for part in ("network", "task"):
        if header.get(part) != described.get(part):
            raise UserError(
                f"train.initial: {path}: its {part} differs from the config's; name weights of the same {part}"
            )
    state = checkpoints.state_dict(path, header["weights"], None)
    checkpoints.refuse_non_finite(state, path)
    try:
        module.load_state_dict(state)
    except RuntimeError as error:  # of other channels or classes, which are not among the settings
        raise UserError(
            f"train.initial: {path}: its weights do not fit these images ({one_line(error)}); name weights for images "
            "with the same channels and classes"
        ) from None
