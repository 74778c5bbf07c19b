"""Names in files, plots and configs, as plain functions of plain data: taps, noise levels, checkpoints."""

import json
import re
from pathlib import Path
from typing import Any

VIEW_LABEL, AUGMENT_LABEL = 3, 9  # numbers that tell a network what a view, or EDM's augmentation, has done to an image


def unet_taps(levels: int, blocks: int) -> list[str]:
    """The taps of a U-Net in the order of computation: encoder blocks, the middle, decoder blocks."""
    encoder = [f"in_{i}" for i in range(1, levels * blocks + 1)]
    decoder = [f"out_{i}" for i in range(1, levels * (blocks + 1) + 1)]
    return [*encoder, "mid", *decoder]


def diffusers_config(folder: str) -> dict[str, Any]:
    """What a folder of a diffusers model says of the model. Raises OSError or ValueError where there is none."""
    return json.loads((Path(folder) / "config.json").read_text())


def diffusers_taps(config: dict[str, Any]) -> list[str]:
    """The taps of a diffusers UNet2DModel, from its config."""
    return unet_taps(len(config["block_out_channels"]), config.get("layers_per_block", 2))


def dit_taps(depth: int) -> list[str]:
    """The taps of a DiT: its blocks, counted from 0 as in the published checkpoints."""
    return [f"block_{i}" for i in range(depth)]


def level_name(sigma: float) -> str:
    """The name of a noise level: sigma/alpha to six significant digits (`0.14`, `1e-05`)."""
    return f"{sigma:.6g}"


def script_name(stem: str) -> str:
    """The name of a TorchScript extractor, after its file."""
    return "script_" + re.sub(r"[^A-Za-z0-9]", "_", stem)


# --- figures of generation: what was measured, over how many images, by which network's features

FIGURES = ("fd", "fid", "sfid", "kid", "is", "precision", "recall", "density", "coverage")
OF_SUBSET = ("kid", "precision", "recall", "density", "coverage")  # those that compare images one by one
NEAREST = ("memorised", "nearest_ratio")  # of pixels
FIGURE = re.compile(rf"({'|'.join((*FIGURES, *NEAREST))})(\d+k?)_(.+)")
PROMISE = re.compile(rf"({'|'.join(FIGURES)})(?:(\d+)(k?))?")


def count_name(n: int) -> str:
    """A number of images in a name: `50k` for whole thousands, else `359`."""
    return f"{n // 1000}k" if n and n % 1000 == 0 else str(n)


def figure_name(figure: str, n: int, extractor: str) -> str:
    """The name of a figure over n generated images: `fid50k_inception_2048`. It always says how many."""
    return f"{figure}{count_name(n)}_{extractor}"


def figure_of(evaluator: str) -> str | None:
    """The figure that such a name begins with; None for another name."""
    match = FIGURE.fullmatch(evaluator)
    return match and match[1]


def extractor_of(evaluator: str) -> str | None:
    """The extractor that such a name ends with; None for another name."""
    match = FIGURE.fullmatch(evaluator)
    return match and match[3]


def promised_figure(text: str) -> tuple[str, int | None] | None:
    """A figure as a config asks for it, `fid` or `fid50k`: the figure, and over how many images; None for no figure."""
    match = PROMISE.fullmatch(text)
    return match and (match[1], int(match[2]) * (1000 if match[3] else 1) if match[2] else None)
