"""The autoencoder between images and latents, its codec and its training task; guidance."""

import math

import diffusers
import pytest
import torch
from torch import Tensor

from diffprobe.data.batch import Batch
from diffprobe.diffusion.guidance import guided
from diffprobe.diffusion.process import Denoised
from diffprobe.networks.autoencoder import Codec, posterior, psnr, resized
from diffprobe.networks.autoencoder_kl import AutoencoderKL
from diffprobe.plan.training_argument import Losses
from diffprobe.runtime.keyed import Draws
from diffprobe.training.tasks.autoencoding import Autoencoding, divergence

IMAGE = (1, 8, 8)


def small(size: int = 16, resize: str = "repeat") -> Codec:
    torch.manual_seed(0)
    network = AutoencoderKL(channels=3, latent_channels=4, widths=[8, 16], blocks=1, groups=4, attention=True)
    return Codec(network.eval(), size, 3, IMAGE, resize)


def theirs(channels: int, widths: list[int], blocks: int, groups: int, attention: bool) -> diffusers.AutoencoderKL:
    """diffusers' autoencoder of these settings."""
    return diffusers.AutoencoderKL(
        in_channels=channels,
        out_channels=channels,
        latent_channels=4,
        block_out_channels=tuple(widths),
        layers_per_block=blocks,
        norm_num_groups=groups,
        mid_block_add_attention=attention,
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
    )


@pytest.mark.parametrize(
    ("channels", "widths", "blocks", "groups", "attention"),
    [(3, [8, 16], 1, 4, True), (1, [16, 32, 32], 2, 8, True), (3, [4, 8, 8], 2, 4, False), (3, [16], 2, 4, True)],
)
def test_weights_and_gradients_are_diffusers_to_the_last_bit(
    channels: int, widths: list[int], blocks: int, groups: int, attention: bool
) -> None:
    """At the start of a training and in it, so that runs begun with diffusers' go on as they were."""
    settings, models = (widths, blocks, groups, attention), []
    for build in (lambda: AutoencoderKL(channels, 4, *settings), lambda: theirs(channels, *settings)):
        torch.manual_seed(0)
        models.append((build(), torch.rand(1)))
    (ours, after), (own, after_own) = models
    assert after == after_own  # as many numbers were drawn
    assert list(ours.state_dict()) == list(own.state_dict())
    assert all(map(torch.equal, ours.state_dict().values(), own.state_dict().values()))
    x = torch.randn(3, channels, 16, 16)
    z = torch.randn(3, 4, *(16 // 2 ** (len(widths) - 1),) * 2)
    for network in (ours, own):
        outputs = network.quant_conv(network.encoder(x)), network.decoder(network.post_quant_conv(z))
        sum(output.square().mean() for output in outputs).backward()
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(ours.parameters(), own.parameters(), strict=True))


@torch.no_grad()
def test_moments_and_decoding_are_diffusers_own() -> None:
    codec, x = small(), torch.rand(2, 1, 8, 8) * 2 - 1
    network = theirs(3, [8, 16], 1, 4, True).eval()
    network.load_state_dict(codec.network.state_dict())
    own = network.encode(codec.preprocess(x)).latent_dist
    mean, logvar = codec.moments(x).chunk(2, dim=1)
    assert mean.shape == (2, 4, 8, 8)
    torch.testing.assert_close(mean, own.mean)
    torch.testing.assert_close(logvar, own.logvar)
    torch.testing.assert_close(codec.decode(mean), network.decode(own.mean).sample)
    task = Autoencoding(codec, Losses(kl_weight=0.5))
    batch = Batch(x, torch.zeros(2, dtype=torch.long), torch.arange(2))
    losses = task.losses(batch, Draws(0, batch.positions))
    torch.testing.assert_close(losses["kl"], own.kl().mean())
    torch.testing.assert_close(losses["loss"], losses["mse"] + 0.5 * losses["kl"])
    assert divergence(torch.zeros(2, 4, 8, 8), torch.zeros(2, 4, 8, 8)) == 0


@pytest.mark.parametrize("resize", ["repeat", "bilinear"])
def test_images_come_back_as_they_went(resize: str) -> None:
    """Grey through three channels; repeating pixels is undone exactly, interpolating is not."""
    x = torch.rand(3, *IMAGE) * 2 - 1
    codec = small(resize=resize)
    assert codec.preprocess(x).shape == (3, 3, 16, 16)
    back = resized(codec.preprocess(x).mean(dim=1, keepdim=True), 8, resize)
    assert torch.allclose(back, x, atol=1e-6) == (resize == "repeat")
    flat = torch.full((1, *IMAGE), 0.25)
    torch.testing.assert_close(resized(codec.preprocess(flat), 8, resize)[:, :1], flat)


def test_few_large_images_at_once() -> None:
    """In powers of 2, which divide a chunk of 256."""
    counts = {
        size: [small(size=size).at_once(torch.device(kind)) for kind in ("cpu", "cuda")] for size in (32, 96, 256, 2048)
    }
    assert counts == {32: [256, 1024], 96: [16, 64], 256: [4, 16], 2048: [1, 1]}


def test_posterior_has_the_moments_that_it_is_drawn_from() -> None:
    torch.manual_seed(0)
    moments = torch.tensor([2.0, math.log(0.25)])[None, :, None, None].expand(100_000, 2, 1, 1)
    drawn = posterior(moments, torch.randn(100_000, 1, 1, 1))
    assert drawn.mean() == pytest.approx(2, abs=0.01) and drawn.std() == pytest.approx(0.5, abs=0.01)
    assert torch.equal(posterior(moments, None), moments[:, :1])


def test_psnr_is_that_of_eight_bit_images() -> None:
    a, b = torch.zeros(1, 1, 4, 4), torch.full((1, 1, 4, 4), 2 / 255)  # one grey level apart
    assert psnr(a, b).item() == pytest.approx(48.13, abs=0.01)


def test_guidance_moves_from_no_label_towards_the_label() -> None:
    """On a model whose estimate is its label the guided estimate is none + scale (label - none)."""
    calls = []

    def denoise(x: Tensor, sigma: Tensor, label: Tensor) -> Denoised:
        calls.append(len(x))
        return Denoised(label[:, None, None, None].expand_as(x).float())

    x, sigma, label = torch.zeros(2, 1, 2, 2), torch.ones(2), torch.tensor([3, 7])
    for scale, expected, cost in ((0, [-1, -1], 2), (1, [3, 7], 2), (2.5, [9, 19], 4), (0.5, [1, 3], 4)):
        assert guided(denoise, label, scale)(x, sigma).x0[:, 0, 0, 0].tolist() == expected
        assert calls[-1] == cost
