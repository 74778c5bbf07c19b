"""Building blocks of the config's models: the strict base class, and checked scalar types."""

import os
import re
from pathlib import PurePath
from typing import Annotated, Any, Final

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    model_serializer,
)
from pydantic_core import PydanticCustomError

from diffprobe.config import remote


def no_switch(value: object) -> object:
    """Refuse booleans, which pydantic reads as 0 and 1, and integers of more than 64 bits."""
    if isinstance(value, bool) or (isinstance(value, int) and abs(value) >= 2**63):
        raise ValueError("expected a number")
    return value


def expanded(path: str) -> str:
    """Expand `~` and `$VARIABLE` as a shell does. Raises PydanticCustomError for an unset variable."""
    path = os.path.expanduser(os.path.expandvars(path))  # noqa: PTH111 (may be a URL)
    if unset := re.search(r"\$\w+|\$\{\w+\}", path):
        raise PydanticCustomError("unset_variable", "the environment variable {name} is not set", {"name": unset[0]})
    return path


def possible(path: str) -> str:
    """Raises PydanticCustomError for a text that no path can be."""
    try:
        if b"\0" not in os.fsencode(path):
            return path
    except UnicodeEncodeError:  # half of a surrogate pair, by an escape in YAML
        pass
    raise PydanticCustomError("characters", "such characters occur in no path")


def plain(path: str) -> str:
    """Refuse what Snakemake would read as wildcards, and line breaks and the like, which its logs would show.

    Returns the path without `./` and slashes that say nothing: to Snakemake each spelling is another file.
    """
    if "{" in path or "}" in path:
        raise PydanticCustomError("braces", "braces stand for wildcards in Snakemake")
    if not path.isprintable():
        raise PydanticCustomError("characters", "line breaks and control characters make no good folder")
    return str(PurePath(path)) if path else path


Integer = Annotated[int, BeforeValidator(no_switch)]
Number = Annotated[float, BeforeValidator(no_switch)]
Positive = Annotated[Integer, Field(gt=0)]
NotNegative = Annotated[Integer, Field(ge=0)]
# What sizes a network, an array or a list is bounded far above any use, so that a mistyped number is refused at once.
Pixels = Annotated[Positive, Field(le=16_384)]
Width = Annotated[Positive, Field(le=32_768)]  # channels of a layer
Blocks = Annotated[Positive, Field(le=128)]
Batch = Annotated[Positive, Field(le=100_000)]
Images = Annotated[Positive, Field(le=10_000_000)]
Steps = Annotated[Integer, Field(le=100_000)]
Repeats = Annotated[Positive, Field(le=10_000)]
LEVELS: Final = 12  # of a network that halves the resolution from each to the next
Above0 = Annotated[Number, Field(gt=0)]
Place = Annotated[str, AfterValidator(expanded), AfterValidator(possible), Field(min_length=1)]  # or a name, or address
Path = Annotated[Place, AfterValidator(remote.local)]
# One file, here or elsewhere (see `remote`).
File = Annotated[Place, AfterValidator(remote.checked), PlainSerializer(remote.argument, return_type=str)]
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]*$"
Folder = Annotated[Path, AfterValidator(plain)]
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
ContentHash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]  # a sha256

LATER: Final = "later"
"""Marks a key added after projects had results without it: `decode: Annotated[..., LATER] = Field("once", ...)`.

Its default must mean "as before". While it keeps that default it is left out of job arguments, run identities and
checkpoint headers, so adding the key makes no existing project retrain or remeasure.
"""


class Strict(BaseModel):
    """A model that forbids unknown keys and is immutable once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)

    def without_later_defaults(self, data: dict[str, Any]) -> dict[str, Any]:
        """The dumped fields, except LATER ones that still have their default."""
        fields = type(self).model_fields
        # `data` can hold less than all fields, since dumps may include or exclude some.
        later = [name for name in data if name in fields and LATER in fields[name].metadata]
        idle = {name for name in later if getattr(self, name) == fields[name].get_default(call_default_factory=True)}
        return {name: value for name, value in data.items() if name not in idle}

    @model_serializer(mode="wrap")
    def _serialised(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return self.without_later_defaults(handler(self))
