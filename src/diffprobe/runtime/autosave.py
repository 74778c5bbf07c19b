"""Where a long computation stands, saved as it goes: a killed job resumes with the same result, bit for bit."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from diffprobe.runtime import tensors as files
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.tensors import AUTOSAVE


class Autosave:
    """A file for the tensors of one computation, whose name is `identity`.

    A file of another computation is ignored, as is a damaged one: the work then begins anew, with the same result.
    """

    def __init__(self, path: Path, identity: str, seconds: float) -> None:
        self.path, self.identity, self.seconds = path, identity, seconds
        self.last_saved = time.monotonic()

    def read(self) -> dict[str, Tensor]:
        """The tensors of the last autosave, by name; none without one."""
        try:
            if files.read_header(self.path, AUTOSAVE).text == self.identity:
                return dict(files.each(self.path, AUTOSAVE))
        except UserError:
            pass
        return {}

    def offer(self, tensors: Callable[[], Mapping[str, Tensor]]) -> None:
        """Save if the last time is long enough ago; cheap to call after every step."""
        if time.monotonic() >= self.last_saved + self.seconds:
            self.save(tensors())

    def save(self, tensors: Mapping[str, Tensor]) -> None:
        files.write(self.path, tensors, AUTOSAVE, self.identity)
        self.last_saved = time.monotonic()

    def clear(self) -> None:
        """Remove the file of a computation that is finished."""
        self.path.unlink(missing_ok=True)
