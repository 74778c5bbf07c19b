"""Kinds: what a `kind` key chooses among. Defining a subclass of a family adds a kind, here and in a plugin alike.

A family is a typed model whose members differ in their keys; each member carries its own facts (what it refuses, what
it needs, what it costs) and names the code that does the work, so that nobody else has to know it by name.
"""

from collections.abc import Sequence
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, ClassVar, Literal, get_args, get_origin

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, SerializerFunctionWrapHandler, model_serializer
from pydantic_core import CoreSchema, PydanticKnownError, core_schema

from diffprobe.config.base import Strict


def is_family(cls: Any) -> bool:
    """Whether a class founds a family of kinds."""
    return isinstance(cls, type) and "members" in vars(cls)


class Kind(Strict):
    """A member of a family. `class Network(Kind, family=True)` founds one; each subclass with a Literal `kind` joins.

    A field annotated with the family takes any of its members by their `kind`, those that are defined later too.
    """

    kind: str

    build: ClassVar[str] = ""
    """Where its code lives: "package.module:name"; of a plugin also "file.py:name", beside the plugin's own file."""
    members: ClassVar[dict[str, type["Kind"]]]
    plugin: ClassVar[str | None] = None
    """A hash of the code of a kind that a plugin adds: a part of every job's argument that holds the kind."""

    def __init_subclass__(cls, family: bool = False, **options: Any) -> None:
        super().__init_subclass__(**options)
        if family:  # here already, before pydantic makes the schema of the class
            cls.members = {}

    @classmethod
    def __pydantic_init_subclass__(cls, family: bool = False, **options: Any) -> None:
        for name in names_of(cls):
            if name in cls.members:
                raise ValueError(
                    f"{cls.__module__}.{cls.__name__}: there is a {family_of(cls).__name__} {name} already"
                )
            cls.members[name] = cls

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        # The members are looked up when a value is validated, not when this schema is made: plugins come in between.
        return core_schema.no_info_plain_validator_function(cls.member) if is_family(cls) else handler(source)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        if not is_family(cls):
            return handler(schema)
        choices = [handler(model.__pydantic_core_schema__) for model in models_of(cls)]
        return {"oneOf": choices, "discriminator": {"propertyName": "kind"}}

    @property
    def options(self) -> dict[str, Any]:
        """Its settings, as keywords for the code that `build` names."""
        return {name: getattr(self, name) for name in type(self).model_fields if name != "kind"}

    @classmethod
    def kind_of(cls, tag: Any) -> "type[Kind] | None":
        """The member of a kind; None where there is none, in the plugins of this job's workflow neither."""
        if isinstance(tag, str) and tag not in cls.members:
            import_module("diffprobe.config.plugins").load_for_job()  # imported here, since it imports this module
        return cls.members.get(tag) if isinstance(tag, str) else None

    @classmethod
    def member(cls, value: Any) -> Any:
        """The family's member that plain data names by its `kind`. Raises pydantic's errors, as a tagged union does."""
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
        if model.plugin:  # which a job's argument holds
            value = {key: part for key, part in value.items() if key != "plugin"}
        return model.model_validate(value)

    @model_serializer(mode="wrap")
    def _serialised(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return self.without_later_defaults(handler(self)) | ({"plugin": self.plugin} if self.plugin else {})


def family_of(cls: type[Kind]) -> type[Kind]:
    """The family that a kind belongs to."""
    return next(base for base in cls.__mro__ if is_family(base))


def names_of(cls: type[Kind]) -> tuple[str, ...]:
    """The kinds that a model stands for; none of an abstract one."""
    annotation = cls.model_fields["kind"].annotation
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def models_of(family: type[Kind]) -> list[type[Kind]]:
    """The members of a family, each once (a model may stand for several kinds)."""
    return list(dict.fromkeys(family.members.values()))


def import_members(package: str, path: Sequence[str]) -> None:
    """Import every module of a package, so that each file in it adds its kinds."""
    for module in sorted(iter_modules(path), key=lambda module: module.name):
        import_module(f"{package}.{module.name}")
