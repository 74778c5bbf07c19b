"""What every model of the config is made of: strict models, and types that take what a config may hold."""

import os
import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError


def no_switch(value: Any) -> Any:
    """pydantic alone would read `true` as 1."""
    if isinstance(value, bool):
        raise ValueError("a number is due")
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
Path = Annotated[str, AfterValidator(expanded), Field(min_length=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]


class Strict(BaseModel):
    """Unknown keys are errors, and a config never changes once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
