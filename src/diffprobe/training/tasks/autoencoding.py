"""Training of an autoencoder: reconstruction and KL divergence, and optionally LPIPS and a discriminator (Esser et al.,
Taming transformers, 2021, section 3.1, without its adaptive weight; Rombach et al. 2022, appendix G).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffprobe.data.batch import Batch
from diffprobe.networks.autoencoder import Codec, posterior
from diffprobe.networks.build import build
from diffprobe.networks.discriminator import Discriminator
from diffprobe.networks.perceptual import LPIPS, available
from diffprobe.runtime.keyed import Draws
from diffprobe.training.data import Data
from diffprobe.training.tasks.base import Task, seed_weights

if TYPE_CHECKING:
    from diffprobe.config.autoencoders import Adversary
    from diffprobe.plan.training_argument import AutoencodingArgument, Losses

RECONSTRUCTION: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"mse": F.mse_loss, "l1": F.l1_loss}  # means of all


class Autoencoding(Task):
    """An autoencoder learns to reconstruct images, with a posterior near the normal distribution.

    `perceptual` is LPIPS, or anything that scores pairs of images (B, C, S, S) with (B,).
    """

    def __init__(
        self, codec: Codec, terms: "Losses", perceptual: nn.Module | None = None, adversary: nn.Module | None = None
    ) -> None:
        super().__init__(codec.network)
        self.codec, self.terms, self.perceptual, self.adversary = codec, terms, perceptual, adversary
        if terms.adversary is not None:
            self.adversary_begins = 1000 * terms.adversary.start_kimg

    def losses(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        """`loss` and its parts: mse or l1, kl, lpips, and while the adversary plays `fooling`; then `adversary` too,
        its own loss.
        """
        terms, x = self.terms, self.codec.preprocess(batch.images)  # (B, C, S, S)
        # Losses in float32: under autocast the networks' outputs are bfloat16, too coarse for small differences.
        moments = self.codec.moments(batch.images).float()  # (B, 2c, h, w)
        mean, logvar = moments.chunk(2, dim=1)
        noise = draws.normal("posterior", tuple(mean.shape[1:]))
        reconstructed = self.codec.decode(posterior(moments, noise)).float()  # (B, C, S, S)
        name = terms.reconstruction
        parts = {name: RECONSTRUCTION[name](reconstructed, x), "kl": divergence(mean, logvar)}
        loss = parts[name] + terms.kl_weight * parts["kl"]
        if self.perceptual is not None and terms.perceptual is not None:
            parts["lpips"] = self.perceptual(reconstructed, x).mean()
            loss = loss + terms.perceptual.weight * parts["lpips"]
        if self.adversary is not None and terms.adversary is not None and self.adversary_plays:
            weight = terms.adversary.weight
            with frozen(self.adversary):  # its gradients of this loss are nobody's
                parts["fooling"] = least_squares(self.adversary(reconstructed), 1)
            loss = loss + weight * parts["fooling"]
            # Detached: the adversary's loss must not train the autoencoder.
            parts["adversary"] = weight * discrimination(self.adversary, reconstructed.detach(), x)
        return {"loss": loss, **parts}

    def header(self) -> dict[str, Any]:
        codec = self.codec
        return {"codec": {"size": codec.size, "channels": codec.channels, "resize": codec.resize}}


def divergence(mean: Tensor, logvar: Tensor) -> Tensor:
    """The KL divergence of posteriors (B, c, h, w) to the normal distribution in nats per image, its mean over images
    (Kingma & Welling 2014, eq. 10).
    """
    return (mean.square() + logvar.exp() - 1 - logvar).flatten(1).sum(dim=1).mean() / 2


def least_squares(logits: Tensor, target: float) -> Tensor:
    """The mean of squared differences of logits to a target (Mao et al., LSGAN, 2017, eq. 9)."""
    return (logits.float() - target).square().mean()


def discrimination(adversary: nn.Module, reconstructed: Tensor, real: Tensor) -> Tensor:
    """The adversary's loss on images (B, C, S, S): target 0 for reconstructions, 1 for real images, the mean of both.

    Each kind is judged by itself, so that batch norms see no mixture.
    """
    return (least_squares(adversary(reconstructed), 0) + least_squares(adversary(real), 1)) / 2


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Within, gradients pass through the module but do not reach its parameters."""
    module.requires_grad_(False)
    try:
        yield
    finally:
        module.requires_grad_(True)


def make(
    argument: "AutoencodingArgument", data: Data, device: torch.device, say: Callable[[str], object]
) -> Autoencoding:
    perceptual = load_perceptual(data, device, say) if argument.losses.perceptual else None
    seed_weights(argument.train.seed)
    network = build(argument.network)  # needs no shape of the data: the codec adapts the images
    codec = Codec(network, argument.size, argument.network.channels, data.image, argument.resize)
    adversary = discriminator(argument.losses.adversary, codec.channels, argument.train.seed)
    task = Autoencoding(codec, argument.losses, perceptual, adversary)
    if argument.losses.perceptual:
        # A run that began without LPIPS, or with other weights of it, is not continued with these.
        task.identity = {"lpips": perceptual.sha256 if perceptual else "absent"}
    return task


def load_perceptual(data: Data, device: torch.device, say: Callable[[str], object]) -> LPIPS | None:
    """LPIPS by the job's input `vgg` or torchvision's download; None, and a line, where neither is available."""
    file, missing = available(data.files.get("vgg"), download=True)
    if file is None:
        say(missing)
        return None
    return LPIPS(file).to(device).to(memory_format=torch.channels_last)


def discriminator(settings: "Adversary | None", channels: int, seed: int) -> Discriminator | None:
    """The adversary with fresh weights, where the config has one."""
    if settings is None:
        return None
    seed_weights(seed, "adversary")  # of its own, so that the autoencoder begins as it would without one
    return Discriminator(channels, settings.widths, settings.norm)
