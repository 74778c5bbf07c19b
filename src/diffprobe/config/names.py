"""Names used in files, plots and configs, as functions of plain data: taps, noise levels, metrics."""

import re
from typing import Any, Literal

Pooling = Literal["mean", "mean_std", "quadrants"]  # of positions (`networks.pooling`)
PARTS: dict[Pooling, int] = {"mean": 1, "mean_std": 2, "quadrants": 4}  # numbers that it makes of a channel
VIEW_LABEL, AUGMENT_LABEL = 3, 9  # lengths of augmentation labels: of a view, of EDM's augmentation
# Version of EDM's augmentation, part of the identity of runs that use it. 1, without an entry: turned images about a
# point 0.25 pixels right of and below the paper's.
AUGMENTATION = "2"
# Version of the keyed draws of training and sampling (`runtime.keyed`), part of the identity of runs and sample sets.
# 1, without an entry: uniforms from the upper bits of Philox's words.
DRAWS = "2"
# Version of the masks of dropout (`networks.dropout`), part of the identity of runs that have any. 1, without an entry:
# torch's own.
MASKS = "2"
# Version of random views (`data.random_view`), part of the identity of runs that train on them.
VIEWS = "1"

# The taps of residual networks, in the order of computation.
RESNET_TAPS = ("stage_1", "stage_2", "stage_3", "stage_4", "features", "z")
WIDE_RESNET_TAPS = ("group_1", "group_2", "group_3", "features", "logits")


def unet_taps(levels: int, blocks: int) -> list[str]:
    """The taps of a U-Net in order of computation: encoder blocks, middle, decoder blocks."""
    encoder = [f"in_{i}" for i in range(1, levels * blocks + 1)]
    decoder = [f"out_{i}" for i in range(1, levels * (blocks + 1) + 1)]
    return [*encoder, "mid", *decoder]


def diffusers_taps(config: dict[str, Any]) -> list[str]:
    """The taps of a diffusers UNet2DModel, given its config.json."""
    return unet_taps(len(config["block_out_channels"]), config.get("layers_per_block", 2))


def dit_taps(depth: int) -> list[str]:
    """The taps of a DiT: its blocks, numbered from 0 as in the published checkpoints."""
    return [f"block_{i}" for i in range(depth)]


def dit_named_taps(depth: int) -> list[str]:
    """The taps of a DiT with those of each block's branches before its own."""
    return [name for i in range(depth) for name in (f"attn_{i}", f"mlp_{i}", f"block_{i}")]


def level_name(sigma: float) -> str:
    """A level's name: sigma/alpha to six significant digits (`0.14`, `1e-05`), or `clean` for an image as it is."""
    return f"{sigma:.6g}" if sigma else "clean"


def level_title(sigma: float) -> str:
    """A level's name in a sentence: `sigma 0.14`, or `clean`."""
    return f"sigma {level_name(sigma)}" if sigma else "clean"


def plain_name(text: str) -> str:
    """A text as part of a name: letters, digits and underscores."""
    return re.sub(r"[^A-Za-z0-9]", "_", text)


def script_name(stem: str) -> str:
    """A TorchScript extractor's name, from its file name."""
    return f"script_{plain_name(stem)}"


# --- metrics of generation, `fid50k_inception_2048`: the metric, the number of images, the extractor

FIGURES = ("fd", "fid", "sfid", "kid", "is", "precision", "recall", "density", "coverage")
OF_SUBSET = ("kid", "precision", "recall", "density", "coverage")  # those that compare individual images
NEAREST = ("memorised", "nearest_ratio")  # computed on pixels
FIGURE = re.compile(rf"({'|'.join((*FIGURES, *NEAREST))})(\d+k?)_(.+)")
# The same as written in a config: `fid` or `fid50k`.
PROMISE = re.compile(rf"({'|'.join(FIGURES)})(?:(\d+)(k?))?")


def count_name(n: int) -> str:
    """A number of images as names show it: `50k` for whole thousands, else `359`."""
    return f"{n // 1000}k" if n and n % 1000 == 0 else str(n)


def figure_name(figure: str, n: int, extractor: str) -> str:
    """The full name of a metric over n generated images: `fid50k_inception_2048`."""
    return f"{figure}{count_name(n)}_{extractor}"


def figure_of(evaluator: str) -> str | None:
    """The metric in a full name; None for other names, such as those of evaluators."""
    match = FIGURE.fullmatch(evaluator)
    return match and match[1]


def extractor_of(evaluator: str) -> str | None:
    """The extractor in a full name; None for other names."""
    match = FIGURE.fullmatch(evaluator)
    return match and match[3]


def promised_figure(text: str) -> tuple[str, int | None] | None:
    """Parse a metric as written in a config, `fid` or `fid50k`: (metric, number of images); None if it is not one."""
    match = PROMISE.fullmatch(text)
    return match and (match[1], int(match[2]) * (1000 if match[3] else 1) if match[2] else None)
