"""A dataset as its config wants it, before any image is decoded: which images, with which labels, in which splits."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from diffprobe.config.datasets import Dataset, Official, Split, Stratified
from diffprobe.data import sources, splits
from diffprobe.data.listing import Listing
from diffprobe.runtime.located import located


class Prepared(NamedTuple):
    """`split` holds indices into SPLITS, uint8 (N,), by the rule `rule`."""

    listing: Listing
    rule: Split
    split: np.ndarray


def prepare(dataset: Dataset, archives: Mapping[str, Path]) -> Prepared:
    """List the images and divide them. `archives` are the downloaded files by name.

    Raises UserError where the source or the rule of the split does not allow it.
    """
    return divide(dataset, list_images(dataset, archives))


def divide(dataset: Dataset, listing: Listing) -> Prepared:
    """The splits of a listing. Raises UserError where the rule does not suit it."""
    rule = dataset.split or default_split(listing)
    return Prepared(listing, rule, splits.assign(rule, listing.labels, listing.official, listing.classes))


def list_images(dataset: Dataset, archives: Mapping[str, Path]) -> Listing:
    """The images of a dataset and their masks, of one split and no more than `per_class` of each class if so asked.

    Raises UserError where the source has no such split.
    """
    listing = sources.find(dataset.source, archives)
    if dataset.only:
        listing = splits.only(listing, dataset.only)
    if dataset.masks:
        listing = replace(listing, masks=located(dataset.masks.build)(dataset.masks, listing))
    return listing.take(splits.limit(listing, dataset.per_class)) if dataset.per_class else listing


def default_split(listing: Listing) -> Split:
    """The source's official splits if it has any, else a stratified split."""
    return Stratified(kind="stratified") if listing.official is None else Official(kind="official")


def default_channels(listing: Listing) -> int:
    """The channels of a source of arrays; 3 for files, which may differ from each other."""
    return listing.images.shape[3] if isinstance(listing.images, np.ndarray) else 3
