"""What classifiers of pixels see: the features of a network at any pixel, read off the maps of its taps, or the raw
pixels around it. Neither is ever held for all pixels.

A pixel is a place int64, (image * S + row) * S + column, of n images of S x S.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from diffprobe.diffusion.levels import Level
from diffprobe.evaluation.representation.features import FeatureModel, refuse_non_finite
from diffprobe.evaluation.representation.inputs import ModelInputs
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.keyed import Key

PURPOSE = "dense"  # of noise and augmented copies


class Pixels(Protocol):
    """Vectors of all pixels of some images."""

    def at(self, places: Tensor) -> Tensor:
        """The vectors (..., D) of pixels (...)."""
        ...


@dataclass(frozen=True)
class FeatureMaps:
    """Maps (n, h, w, C) of some taps and levels, side by side, upsampled bilinearly to S x S."""

    maps: Sequence[Tensor]
    size: int

    def at(self, places: Tensor) -> Tensor:
        image, row, column = parts(places, self.size)
        return torch.cat([bilinear(grid, image, row, column, self.size) for grid in self.maps], dim=-1)


@dataclass(frozen=True)
class Neighbourhoods:
    """The k x k pixels around each, of images (n, C, S, S); those at the border are repeated."""

    images: Tensor
    width: int

    def at(self, places: Tensor) -> Tensor:
        size = self.images.shape[-1]
        image, row, column = parts(places, size)
        step = torch.arange(self.width, device=places.device) - self.width // 2
        rows = (row[..., None, None] + step[:, None]).clamp(0, size - 1)  # (..., k, 1)
        columns = (column[..., None, None] + step).clamp(0, size - 1)  # (..., 1, k)
        return self.images.movedim(1, 3)[image[..., None, None], rows, columns].flatten(-3)  # (..., k k C)


def parts(places: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Image, row and column of pixels."""
    return places // size**2, places // size % size, places % size


def bilinear(grid: Tensor, image: Tensor, row: Tensor, column: Tensor, size: int) -> Tensor:
    """Values (..., C) at pixels of images of size x size, of maps (n, h, w, C) as large as these: what
    `F.interpolate(mode="bilinear", align_corners=False)` has there.
    """
    _, h, w, _ = grid.shape
    top, bottom, down = between(row, h, size)
    left, right, across = between(column, w, size)
    cells = grid.flatten(0, 2)  # (n h w, C)

    def values(y: Tensor, x: Tensor) -> Tensor:
        return F.embedding((image * h + y) * w + x, cells)

    upper = torch.lerp(values(top, left), values(top, right), across)
    lower = torch.lerp(values(bottom, left), values(bottom, right), across)
    return torch.lerp(upper, lower, down)


def between(place: Tensor, cells: int, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """The two cells whose centres are on either side of a pixel's, and the share (..., 1) of the second."""
    at = ((place + 0.5) * (cells / size) - 0.5).clamp(min=0)  # beyond the first and last centre the border is repeated
    first = at.long().clamp(max=cells - 1)
    return first, (first + 1).clamp(max=cells - 1), (at - first)[..., None]


class Sight(Protocol):
    """How images are seen by classifiers of pixels."""

    def maps(self, split: str, part: slice, draw: int = 0, augmented: bool = False) -> list[Tensor]:
        """What is held of some images of a split, along the first dimension of each tensor."""
        ...

    def pixels(self, maps: Sequence[Tensor]) -> Pixels: ...


@dataclass(frozen=True)
class RawSight:
    """The raw pixels around each."""

    data: Mapping[str, ModelInputs]  # of images
    seed: int  # of augmented copies
    width: int

    def maps(self, split: str, part: slice, draw: int = 0, augmented: bool = False) -> list[Tensor]:
        return [self.data[split].read(part, Key(self.seed, PURPOSE), draw, augmented)]

    def pixels(self, maps: Sequence[Tensor]) -> Pixels:
        return Neighbourhoods(maps[0], self.width)


class MapCell(NamedTuple):
    """A tap at a noise level."""

    level: Level
    tap: str


@dataclass(frozen=True)
class FeatureSight:
    """The features of a network: of each copy of an image one draw of noise, whatever images are beside it."""

    data: Mapping[str, ModelInputs]  # in the network's space
    model: FeatureModel
    cells: Sequence[MapCell]
    size: int  # of masks

    def maps(self, split: str, part: slice, draw: int = 0, augmented: bool = False) -> list[Tensor]:
        """The maps (n, h, w, C) of each cell. Raises UserError for a tap that has none, and for maps that are not
        finite.
        """
        model, data = self.model, self.data[split]
        rows = torch.from_numpy(data.rows[part]).to(model.device)
        x = data.read(part, Key(model.seed, f"{PURPOSE}/posterior"), draw, augmented)  # (n, C, H, W)
        maps: list[Tensor] = []
        for level, taps in self.taps.items():
            specs, key = {tap: (tap, "map") for tap in taps}, Key(model.seed, f"{PURPOSE}/{level.name}")
            tapped = model.pooled(x, rows, level, specs, key, draw)
            for tap, each in tapped.items():
                if each.ndim != 4:
                    raise UserError(f"dense: the tap {tap} is a vector, without positions; set `at` to another")
            refuse_non_finite(tapped, data.rows[part], level, "hold NaN or infinite values")
            maps += [each.movedim(1, 3).contiguous() for each in tapped.values()]
        return maps

    def pixels(self, maps: Sequence[Tensor]) -> Pixels:
        return FeatureMaps(maps, self.size)

    @property
    def taps(self) -> dict[Level, list[str]]:
        """The taps of each level, for one pass over each."""
        taps: dict[Level, list[str]] = {}
        for level, tap in self.cells:
            taps.setdefault(level, []).append(tap)
        return taps
