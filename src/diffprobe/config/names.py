"""Names in files, plots and configs, as plain functions of plain data: taps, noise levels, checkpoints."""


def unet_taps(levels: int, blocks: int) -> list[str]:
    """The taps of a U-Net in the order of computation: encoder blocks, the middle, decoder blocks."""
    encoder = [f"in_{i}" for i in range(1, levels * blocks + 1)]
    decoder = [f"out_{i}" for i in range(1, levels * (blocks + 1) + 1)]
    return [*encoder, "mid", *decoder]


def dit_taps(depth: int) -> list[str]:
    """The taps of a DiT: its blocks, counted from 0 as in the published checkpoints."""
    return [f"block_{i}" for i in range(depth)]


def level_name(sigma: float) -> str:
    """The name of a noise level: sigma/alpha to six significant digits (`0.14`, `1e-05`)."""
    return f"{sigma:.6g}"
