"""What the config says of a store, as its jobs and its readers receive it in their JSON arguments."""

from typing import Any, Literal

from pydantic import Field, TypeAdapter

from diffprobe.config.base import Number, Strict
from diffprobe.config.latents import View

Scale = Literal["measured", "published"] | Number


class EncodingSettings(Strict):
    """The argument of a job that encodes."""

    views: list[View]
    seed: int
    precision: Literal["auto", "fp32", "bf16"]
    shard_chunks: int
    normalise: Literal["imagenet"] | None = None


class EncodedSettings(Strict):
    """What decides the content of a store that the workflow encodes, besides images and autoencoder."""

    views: list[View]
    seed: int
    scale: Scale
    normalise: Literal["imagenet"] | None = None
    imported: None = None


class PeerFormat(Strict):
    """How another system's latents are read; not where they lie, since their bytes speak for themselves."""

    kind: str
    scaled: Number


class ImportedSettings(Strict):
    """What decides the content of a store of another system's latents, besides the images and the files."""

    imported: PeerFormat
    scale: Scale
    of: dict[str, Any] | None = Field(None, description="The autoencoder's entry, where it publishes the scale.")


class ImportSettings(ImportedSettings):
    """The argument of the job that imports them."""

    shard_chunks: int
    state: str | None = Field(description="A fingerprint of the files.")
    shape: tuple[int, int, int] = Field(description="(C, h, w) of a latent.")
    probing: bool = Field(description="Whether a probe needs latents of test.")


SourceSettings = EncodedSettings | ImportedSettings


def source_settings(argument: dict[str, Any]) -> SourceSettings:
    """The part of a reader's JSON argument that is about the store (see `plan.job_arguments.latents`)."""
    return TypeAdapter(SourceSettings).validate_python(argument)
