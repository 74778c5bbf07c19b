"""The GPUs that this process may use, and how they are named.

Nothing here looks at a GPU in this process: one that has looked sees all that it saw then, whatever it is told later.
"""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from diffprobe.runtime.errors import UserError, one_line

STATED = "DIFFPROBE_GPUS"  # names of devices, in place of those that are found
NAME = re.compile(r"[\w:-][\w.:-]*")


class GPU(NamedTuple):
    """A device: its name on this machine, by which it is leased, and its name in `variable()`."""

    name: str
    token: str


def variable() -> str:
    """The environment variable that says which GPUs CUDA, or ROCm, shows to a process."""
    return "HIP_VISIBLE_DEVICES" if "HIP_VISIBLE_DEVICES" in os.environ else "CUDA_VISIBLE_DEVICES"


def tokens() -> list[str] | None:
    """The devices in `variable()`, up to the first that is none, as CUDA reads it; None where it is not set."""
    text = os.environ.get(variable())
    if text is None:
        return None
    listed = [token.strip() for token in text.split(",")]
    end = next((i for i, token in enumerate(listed) if token in ("", "-1")), len(listed))
    return listed[:end]


def stated() -> list[GPU] | None:
    """The devices in DIFFPROBE_GPUS, of those the ones in `variable()` where that is set; None where there is no list.

    Raises UserError for names that cannot be names of files, and for one that stands twice.
    """
    if not (text := os.environ.get(STATED)):
        return None
    names, shown = [name.strip() for name in text.split(",")], tokens()
    if len({*names}) < len(names) or not all(map(NAME.fullmatch, names)):
        raise UserError(f"{STATED}={text}: expected different names of devices, separated by commas, such as 0,1")
    return [GPU(name, name) for name in names if shown is None or name in shown]


def local_gpus(devices: Path = Path("/dev")) -> int:
    """How many GPUs jobs of this machine may use: those that are stated, or that torch would see, without loading it
    here: NVIDIA's by their device files, AMD's by torch itself, in a process of its own.
    """
    if (listed := stated()) is not None:
        return len(listed)
    nvidia = [path for path in devices.glob("nvidia*") if path.name.removeprefix("nvidia").isdigit()]
    if not nvidia and (devices / "kfd").exists():  # ROCm's, one for all devices, and integrated ones have it too
        count = [sys.executable, "-c", "import torch; print(torch.cuda.device_count())"]
        return int(subprocess.run(count, capture_output=True, text=True, check=True).stdout)
    shown = tokens()
    return len(nvidia) if shown is None else min(len(nvidia), len(shown))


def visible_gpus() -> list[GPU]:
    """The GPUs that a job may lease. Raises UserError where the system cannot say."""
    if (listed := stated()) is not None:
        return listed
    import torch

    shown = tokens()
    if shown == [] or not torch.backends.cuda.is_built():
        return []
    names = asked_of_torch()
    return [GPU(name, token) for name, token in zip(names, shown or map(str, range(len(names))), strict=False)]


def asked_of_torch() -> Sequence[str]:
    """A name for each GPU that torch sees, asked in a process of its own. UUIDs, since to two jobs of a cluster
    different devices may both be 0; numbers where devices have none, as some of AMD's.
    """
    import torch

    reading, writing = os.pipe()
    answer = "error: interrupted"
    if (child := os.fork()) == 0:
        try:
            count = torch.cuda.device_count() if torch.cuda.is_available() else 0
            properties = map(torch.cuda.get_device_properties, range(count))
            answer = "\n".join(str(getattr(device, "uuid", i)) for i, device in enumerate(properties))
        except Exception as error:
            answer = f"error: {one_line(error)}"
        finally:
            os.write(writing, answer.encode())
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    if answer.startswith("error: "):
        raise UserError(f"the GPUs cannot be used ({answer[7:]}); mend that, or hide them by {variable()}=-1")
    return answer.split()
