"""Which parameters belong to which block of a network, found by a pass through it: its taps name its blocks."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


def parameters_by_block(network: nn.Module, activations: Mapping[str, Tensor], taps: Sequence[str]) -> list[list[str]]:
    """The names of the parameters that each of the taps adds to those before it; taps in the order of computation.

    `activations` are the taps of some input, with their graph. Parameters that no tap depends on are in no block. What
    comes before the first tap, as embeddings, belongs to its block; a tap without parameters of its own has no block.
    """
    names, parameters = zip(*network.named_parameters(), strict=True)
    blocks, seen = list[list[str]](), set[str]()
    for tap in taps:
        gradients = torch.autograd.grad(activations[tap].sum(), parameters, retain_graph=True, allow_unused=True)
        used = [name for name, gradient in zip(names, gradients, strict=True) if gradient is not None]
        blocks.append([name for name in used if name not in seen])
        seen.update(used)
    return [block for block in blocks if block]
