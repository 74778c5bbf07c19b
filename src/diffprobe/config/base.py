"""What every model of the config is made of: strict models, and types that take what a config may hold."""

import os
import re
from typing import Annotated, Any, Final

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
)
from pydantic_core import PydanticCustomError


def no_switch(value: Any) -> Any:
    """pydantic alone would read `true` as 1."""
    if isinstance(value, bool):
        raise ValueError("expected a number")
    return value


def expanded(path: str) -> str:
    """`~` and `$VARIABLE` as in a shell; a variable that is not set is an error."""
    path = os.path.expanduser(os.path.expandvars(path))  # noqa: PTH111 (may be a URL)
    if unset := re.search(r"\$\w+|\$\{\w+\}", path):
        raise PydanticCustomError("unset_variable", "the environment variable {name} is not set", {"name": unset[0]})
    return path


Integer = Annotated[int, BeforeValidator(no_switch)]
Number = Annotated[float, BeforeValidator(no_switch)]
Positive = Annotated[Integer, Field(gt=0)]
NotNegative = Annotated[Integer, Field(ge=0)]
Above0 = Annotated[Number, Field(gt=0)]
Path = Annotated[str, AfterValidator(expanded), Field(min_length=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]

LATER: Final = "later"
"""Marks a key that came after results had been made without it: `decode: Annotated[..., LATER] = Field("once", ...)`.

Its default means "as before", so while it has its default it is left out of the arguments of jobs, the identities of
runs and the headers of checkpoints: a new key retrains and remeasures nobody's project.
"""


class Strict(BaseModel):
    """Unknown keys are errors, and a config never changes once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def without_later_defaults(self, data: dict[str, Any]) -> dict[str, Any]:
        """Dumped fields without those that came later and have their default (see LATER)."""
        fields = type(self).model_fields
        later = [name for name in data if name in fields and LATER in fields[name].metadata]
        idle = {name for name in later if getattr(self, name) == fields[name].get_default(call_default_factory=True)}
        return {name: value for name, value in data.items() if name not in idle}

    @model_serializer(mode="wrap")
    def _serialised(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return self.without_later_defaults(handler(self))
