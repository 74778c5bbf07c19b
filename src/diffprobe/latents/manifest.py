"""The attributes of a finished latent store, parsed once; paths and memory follow from them.

Without pydantic, so that training runs without it.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, cast

from diffprobe.data.splits import SPLITS
from diffprobe.data.views import StoredView
from diffprobe.latents.shards import CHUNK

T = TypeVar("T")

FORMAT = "diffprobe latents 2"
MOST_PARTS = 10**6  # ten views of ImageNet are 50,000 shards of one chunk; a manifest that says more is not believed
MOST_VALUES = 2**28  # of a latent; those of 1024 x 1024 images have 2**16


@dataclass(frozen=True)
class LatentManifest:
    identity: dict[str, Any]  # what the store was made from, seed and views among it
    seed: int
    views: dict[str, list[StoredView]]
    counts: dict[str, int]  # rows of each split
    shape: tuple[int, int, int]  # (C, h, w) of a latent
    shard_chunks: int
    holds: Literal["moments", "latents"]
    scale: list[float]  # per channel
    shift: list[float]
    content: str  # a sha256

    @classmethod
    def parse(cls, attributes: Any) -> "LatentManifest":
        """Raises ValueError, which names the key, for anything that the attributes of a store cannot be."""
        if not isinstance(attributes, Mapping) or attributes.get("format") != FORMAT:
            raise ValueError(f"format is not {FORMAT}")
        identity = of_type(attributes, "identity", dict)
        views, counts = of_type(identity, "views", dict), of_type(attributes, "counts", dict)
        for split, n in counts.items():
            if split not in SPLITS or not is_positive(n):
                raise ValueError(f"counts.{split} is {n!r}, expected numbers of images by split")
        if not counts or counts.keys() != views.keys():
            raise ValueError("counts and views are of different splits")
        for split, expanded in views.items():
            if not isinstance(expanded, list) or not all(
                isinstance(view, dict) and "kind" in view for view in expanded
            ):
                raise ValueError(f"identity.views.{split} is not a list of views")
        shape = of_type(attributes, "shape", list)
        if len(shape) != 3 or not all(map(is_positive, shape)) or math.prod(shape) > MOST_VALUES:
            raise ValueError(f"shape is {shape}, expected (C, h, w) of a latent")
        shard_chunks = of_type(attributes, "shard_chunks", int)
        if not is_positive(shard_chunks) or shard_chunks > MOST_PARTS:
            raise ValueError(f"shard_chunks is {shard_chunks}")
        if sum(-(-n // (shard_chunks * CHUNK)) * len(views[split]) for split, n in counts.items()) > MOST_PARTS:
            raise ValueError("it has too many parts")
        content, holds = of_type(attributes, "content", str), attributes.get("holds")
        if not re.fullmatch("[0-9a-f]{64}", content):
            raise ValueError("content is not a sha256")
        if holds not in ("moments", "latents"):
            raise ValueError(f"holds is {holds!r}, expected moments or latents")
        return cls(
            identity=identity,
            seed=of_type(identity, "seed", int),
            views=cast(dict[str, list[StoredView]], views),
            counts=counts,
            shape=(shape[0], shape[1], shape[2]),
            shard_chunks=shard_chunks,
            holds=holds,
            scale=per_channel(attributes, "scale", shape[0]),
            shift=per_channel(attributes, "shift", shape[0]),
            content=content,
        )


def of_type(values: Mapping[str, Any], key: str, kind: type[T]) -> T:
    value = values.get(key)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"{key} is {type(value).__name__}, expected {kind.__name__}")
    return value


def is_positive(value: object) -> bool:
    return type(value) is int and value > 0


def per_channel(attributes: Mapping[str, Any], key: str, channels: int) -> list[float]:
    values = of_type(attributes, key, list)
    finite = all(type(value) in (int, float) and math.isfinite(value) for value in values)
    if len(values) != channels or not finite:
        raise ValueError(f"{key} is not one number for each of {channels} channels")
    return values
