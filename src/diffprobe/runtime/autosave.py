"""Where a long computation stands, saved as it goes: a killed job resumes with the same result, bit for bit."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from diffprobe.runtime import tensors as files
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.tensors import AUTOSAVE

Item = TypeVar("Item")
QUICK_SECONDS = 1.0  # what may as well be computed again


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

    def finish(self, tensors: Callable[[], Mapping[str, Tensor]]) -> None:
        """Save the end of a computation that took longer than to save it: a later one may be what is killed."""
        if time.monotonic() >= self.last_saved + min(self.seconds, QUICK_SECONDS):
            self.save(tensors())

    def save(self, tensors: Mapping[str, Tensor]) -> None:
        files.write(self.path, tensors, AUTOSAVE, self.identity)
        self.last_saved = time.monotonic()

    def clear(self) -> None:
        """Remove the file of a computation that is finished."""
        self.path.unlink(missing_ok=True)


class Autosaves:
    """Those of a job that makes several computations, the same ones in the same order each time: numbered from 0.

    They lie beside an output of the job, `rows.0.part.safetensors` for the first of one that makes `rows.json`.
    `identity` is asked for when a computation begins: its code, a part of that, is loaded then.
    """

    def __init__(
        self, output: Path, identity: Callable[[], str], seconds: float, note: Callable[[str], object]
    ) -> None:
        self.output, self.identity, self.seconds, self.note = output, identity, seconds, note
        self.count = 0

    def next(self) -> Autosave:
        place = self.output.with_suffix(f".{self.count}.part.safetensors")
        self.count += 1
        return Autosave(place, f"{self.identity()}.{self.count}", self.seconds)

    def clear(self) -> None:
        """Remove the files of all computations, those of an earlier job with more of them too."""
        for path in self.output.parent.glob(f"{self.output.stem}.*.part.safetensors"):
            path.unlink(missing_ok=True)


# Of the job that runs, if it saves its computations. They are many levels below it, behind an interface that plugins
# implement, which says what a computation needs and not how it survives.
CURRENT: ContextVar[Autosaves | None] = ContextVar("CURRENT", default=None)


@contextmanager
def autosaved(
    output: Path, identity: Callable[[], str], seconds: float, note: Callable[[str], object]
) -> Iterator[None]:
    """Within, computations that ask for their `own` autosave have one (`Autosaves`). The files go where no error is
    raised. `note` is called with where a computation stands.
    """
    saves = Autosaves(output, identity, seconds, note)
    token = CURRENT.set(saves)
    try:
        yield
    finally:
        CURRENT.reset(token)
    saves.clear()


def own() -> Autosave | None:
    """The autosave of a computation that begins; None outside `autosaved`."""
    saves = CURRENT.get()
    return saves.next() if saves else None


def each(items: Iterable[Item], compute: Callable[[Item], Mapping[str, Tensor]]) -> Iterator[Mapping[str, Tensor]]:
    """What is computed of each item, in turn, as tensors by name; what a killed job has computed comes from its
    autosave. They are on the CPU, computed or read back. All of it stays in memory within `autosaved`.
    """
    saved = own()
    before = saved.read() if saved else {}
    parts: list[Mapping[str, Tensor]] = [{} for _ in range(int(before.pop("parts", torch.tensor(0))))]
    for name, tensor in before.items():
        number, _, own_name = name.partition(".")
        parts[int(number)] = {**parts[int(number)], own_name: tensor}

    def state() -> dict[str, Tensor]:
        named = {f"{i}.{name}": tensor for i, part in enumerate(parts) for name, tensor in part.items()}
        return {"parts": torch.tensor(len(parts)), **named}

    for i, item in enumerate(items):
        if i < len(parts):
            yield parts[i]
            continue
        part = {name: tensor.cpu() for name, tensor in compute(item).items()}
        if saved:
            parts.append(part)
            saved.offer(state)
        yield part
    if saved:
        saved.finish(state)


def note(line: str) -> None:
    """Say where a computation stands, to whoever saves it."""
    if saves := CURRENT.get():
        saves.note(line)
