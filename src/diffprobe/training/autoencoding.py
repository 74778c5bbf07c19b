"""Training of an autoencoder: reconstruction and divergence, and if asked LPIPS and a discriminator (Esser et al.,
Taming transformers, 2021, section 3.1, without its adaptive weight; Rombach et al. 2022, appendix G).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffprobe.data.batch import Batch
from diffprobe.networks.autoencoder import Codec, posterior
from diffprobe.networks.discriminator import Discriminator
from diffprobe.networks.perceptual import LPIPS
from diffprobe.runtime.keyed import Draws, Key, torch_seed

RECONSTRUCTION: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"mse": F.mse_loss, "l1": F.l1_loss}  # mean of all


class Autoencoding:
    """An autoencoder learns to give images back, with a posterior near the normal distribution.

    `terms` is the config: reconstruction, kl_weight, and of perceptual and adversary their weights (see
    config/autoencoders.py). `perceptual` is LPIPS, None where it is not asked for or not to be had. All losses are
    means over images, so that parts of a batch add up.
    """

    def __init__(
        self, codec: Codec, terms: dict, perceptual: LPIPS | None = None, adversary: nn.Module | None = None
    ) -> None:
        self.module, self.codec, self.terms = codec.network, codec, terms
        self.perceptual, self.adversary = perceptual, adversary
        self.begins = 1000 * terms["adversary"]["start_kimg"] if adversary is not None else 0.0
        self.playing = False

    def losses(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        """`loss` and its parts: mse or l1, kl, lpips, and while the adversary plays `fooling`; then `adversary` too,
        its own loss.
        """
        terms, x = self.terms, self.codec.preprocess(batch.images)  # (B, C, S, S)
        moments = self.codec.moments(batch.images).float()  # (B, 2c, h, w)
        mean, logvar = moments.chunk(2, dim=1)
        noise = draws.normal("posterior", tuple(mean.shape[1:]))
        made = self.codec.decode(posterior(moments, noise)).float()  # (B, C, S, S)
        name = terms["reconstruction"]
        found = {name: RECONSTRUCTION[name](made, x), "kl": divergence(mean, logvar)}
        loss = found[name] + terms["kl_weight"] * found["kl"]
        if self.perceptual is not None:
            found["lpips"] = self.perceptual(made, x).mean()
            loss = loss + terms["perceptual"]["weight"] * found["lpips"]
        if self.adversary is not None and self.playing:
            weight = terms["adversary"]["weight"]
            with frozen(self.adversary):
                found["fooling"] = least_squares(self.adversary(made), 1)
            loss = loss + weight * found["fooling"]
            found["adversary"] = weight * discrimination(self.adversary, made.detach(), x)
        return {"loss": loss, **found}


def divergence(mean: Tensor, logvar: Tensor) -> Tensor:
    """The KL divergence of posteriors (B, c, h, w) to the normal distribution in nats per image, its mean over images
    (Kingma & Welling 2014, eq. 10).
    """
    return (mean.square() + logvar.exp() - 1 - logvar).flatten(1).sum(dim=1).mean() / 2


def least_squares(logits: Tensor, target: float) -> Tensor:
    """How far logits are from a target, by the mean of squares (Mao et al., LSGAN, 2017, eq. 9)."""
    return (logits.float() - target).square().mean()


def discrimination(adversary: nn.Module, made: Tensor, real: Tensor) -> Tensor:
    """The adversary's loss on images (B, C, S, S): 0 for those that were made, 1 for real ones, the mean of both.

    Each kind is judged by itself, so that batch norms see no mixture.
    """
    return (least_squares(adversary(made), 0) + least_squares(adversary(real), 1)) / 2


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """What is computed with a module within passes gradients on, but gives its parameters none."""
    module.requires_grad_(False)
    try:
        yield
    finally:
        module.requires_grad_(True)


def autoencoding(codec: Codec, terms: dict, perceptual: LPIPS | None, seed: int) -> Autoencoding:
    """The task, with an adversary of fresh weights where one is asked for."""
    asked, adversary = terms["adversary"], None
    if asked:
        torch.manual_seed(torch_seed(Key(seed, "adversary"), 0))
        adversary = Discriminator(codec.channels, asked["widths"], asked["norm"])
    return Autoencoding(codec, terms, perceptual, adversary)
