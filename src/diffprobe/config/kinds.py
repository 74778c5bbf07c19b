"""Kinds: the alternatives that a `kind` key selects. Subclassing a family adds one, in this package or in a plugin.

A family is a typed model whose members have different keys. Each member carries its own facts (what it refuses, what
it needs, what it costs) and names the code that implements it, so no other code refers to it by name.
"""

from collections.abc import Sequence
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, ClassVar, Literal, TypeGuard, get_args, get_origin

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, SerializerFunctionWrapHandler, model_serializer
from pydantic_core import CoreSchema, PydanticKnownError, core_schema

from diffprobe.config.base import Strict


def is_family(cls: object) -> "TypeGuard[type[Kind]]":
    """Whether a class is the base of a family."""
    return isinstance(cls, type) and "members" in vars(cls)


class Kind(Strict):
    """A member of a family. `class Network(Kind, family=True)` starts one; each subclass with a Literal `kind` joins
    it.

    A field annotated with the family accepts any member by its `kind`, including members defined later.
    """

    kind: str

    build: ClassVar[str] = ""
    """Where its code is: "package.module:name"; in a plugin also "file.py:name", relative to the plugin's folder."""
    members: ClassVar[dict[str, type["Kind"]]]
    plugin: ClassVar[str | None] = None
    """Hash of the plugin code that defines the kind, part of every job argument that contains it; None for built-in
    kinds.
    """

    def __init_subclass__(cls, family: bool = False) -> None:
        super().__init_subclass__()
        if family:  # must be set before pydantic builds the schema of the class
            cls.members = {}

    @classmethod
    def __pydantic_init_subclass__(cls, family: bool = False, **options: object) -> None:
        for name in names_of(cls):
            if name in cls.members:
                raise ValueError(
                    f"{cls.__module__}.{cls.__name__}: there is a {family_of(cls).__name__} {name} already"
                )
            cls.members[name] = cls

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        # Members are looked up at validation time, since plugins register after this schema is built.
        return core_schema.no_info_plain_validator_function(cls.member) if is_family(cls) else handler(source)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        if not is_family(cls):
            return handler(schema)
        choices = [handler(model.__pydantic_core_schema__) for model in models_of(cls)]
        return {"oneOf": choices, "discriminator": {"propertyName": "kind"}}

    @property
    def options(self) -> dict[str, Any]:
        """Its settings as keyword arguments for the code that `build` names."""
        return {name: getattr(self, name) for name in type(self).model_fields if name != "kind"}

    @classmethod
    def kind_of(cls, tag: object) -> "type[Kind] | None":
        """The member with this kind; None if neither this package nor the workflow's plugins define it."""
        if isinstance(tag, str) and tag not in cls.members:
            import_module("diffprobe.config.plugins").load_for_job()  # a local import: that module imports this one
        return cls.members.get(tag) if isinstance(tag, str) else None

    @classmethod
    def member(cls, value: object) -> Any:
        """Parse plain data as the member its `kind` names. Raises the same pydantic errors as a tagged union."""
        if isinstance(value, cls):
            return value
        if not isinstance(value, dict):
            raise PydanticKnownError("model_type", {"class_name": cls.__name__})
        if "kind" not in value:
            raise PydanticKnownError("union_tag_not_found", {"discriminator": "'kind'"})
        model = cls.kind_of(tag := value["kind"])
        if model is None:
            tags = {"discriminator": "'kind'", "tag": str(tag), "expected_tags": ", ".join(cls.members)}
            raise PydanticKnownError("union_tag_invalid", tags)
        if model.plugin:  # job arguments carry the plugin's hash, which is not a field
            value = {key: part for key, part in value.items() if key != "plugin"}
        return model.model_validate(value)

    @model_serializer(mode="wrap")
    def _serialised(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return self.without_later_defaults(handler(self)) | ({"plugin": self.plugin} if self.plugin else {})


def family_of(cls: type[Kind]) -> type[Kind]:
    """The family that a kind belongs to."""
    return next(base for base in cls.__mro__ if is_family(base))


def names_of(cls: type[Kind]) -> tuple[str, ...]:
    """The values of `kind` that select a model; none for an abstract model."""
    annotation = cls.model_fields["kind"].annotation
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def models_of(family: type[Kind]) -> list[type[Kind]]:
    """The members of a family, each once (a model may serve several kinds)."""
    return list(dict.fromkeys(family.members.values()))


def import_members(package: str, path: Sequence[str]) -> None:
    """Import every module of a package, which registers the kinds they define."""
    for module in sorted(iter_modules(path), key=lambda module: module.name):
        import_module(f"{package}.{module.name}")
