"""Pictures of a model's features."""

from typing import Annotated

from pydantic import Field

from diffprobe.config.base import Images, Number, Positive, Strict


class Pictures(Strict):
    """Pictures of features of `test` images by the chosen checkpoint at the chosen noise level: maps of the first
    principal components at every position, of the chosen layer and of others; and a plane of images by t-SNE.
    """

    images: Annotated[Positive, Field(le=64)] = Field(8, description="Images in the maps, of each class in turn.")
    points: Images = Field(
        1000, ge=32, le=20_000, description="Images in the plane, in a fixed random order; all, if there are fewer."
    )
    perplexity: Number = Field(
        30,
        ge=2,
        le=1000,
        description="Of t-SNE: about how many neighbours an image has; at most a third of `points`.",
    )
