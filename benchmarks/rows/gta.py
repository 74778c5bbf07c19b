"""DiT-S/2 with GTA and normed queries and keys: a step of the network, a pass for its features, and early exit."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.plain.gta import plain_gta
from benchmarks.row import Agreement, Line, Piece, Row, Setting
from diffprobe.networks.condition import Condition
from diffprobe.networks.dit import DiT

CLASSES, BATCH = 10, 4
S2 = {"width": 384, "depth": 12, "heads": 6, "patch": 2}
TINY = {"width": 48, "depth": 2, "heads": 2, "patch": 4}


def both(sizes: dict[str, int]) -> tuple[DiT, nn.Module]:
    """The same weights on both sides, past initial values that hide a branch."""
    torch.manual_seed(0)
    ours = DiT(4, **sizes, classes=CLASSES, position="gta", qk_norm=True)
    for parameter in ours.parameters():
        nn.init.normal_(parameter, std=0.05)
    plain = plain_gta(4, 32, **sizes, classes=CLASSES)
    plain.load_state_dict(ours.state_dict())
    return ours, plain


def inputs(batch: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Latents, times, labels, and noise to be predicted."""
    generator = torch.Generator().manual_seed(0)
    x, noise = torch.randn(2, batch, 4, 32, 32, generator=generator)
    return x, torch.arange(1.0, batch + 1) * 200, torch.arange(batch), noise


def plain_features(network: nn.Module, x: Tensor, t: Tensor, labels: Tensor) -> list[Tensor]:
    """Every block's output, hooked, averaged over tokens."""
    pooled: list[Tensor] = []
    hooks = [block.register_forward_hook(lambda _m, _x, y: pooled.append(y.mean(1))) for block in network.blocks]
    network(x, t, labels)
    for hook in hooks:
        hook.remove()
    return pooled


def features(network: DiT, x: Tensor, t: Tensor, labels: Tensor, taps: list[str]) -> list[Tensor]:
    activations = network(x, t, Condition(labels), taps=taps, features_only=True)[1]
    return [activations[tap].mean((2, 3)) for tap in taps]


def step(side: int) -> Callable[[Setting], Piece]:
    def build(setting: Setting) -> Piece:
        network = both(S2)[side].train()
        x, t, labels, noise = inputs(BATCH)
        cond = Condition(labels)

        def piece() -> float:
            for _ in range(setting.amount):
                out = network(x, t, labels) if side else network(x, t, cond)[0]
                F.mse_loss(out, noise).backward()
                network.zero_grad()
            return setting.amount * BATCH

        return piece

    return build


def passes(run: Callable[[DiT, nn.Module], object]) -> Callable[[Setting], Piece]:
    def build(setting: Setting) -> Piece:
        networks = both(S2)

        @torch.inference_mode()
        def piece() -> float:
            for _ in range(setting.amount):
                run(*networks)
            return setting.amount * BATCH

        return piece

    return build


def check(tiny: bool) -> list[Agreement]:
    ours, plain = both(TINY if tiny else S2)
    x, t, labels, noise = inputs(2)
    losses = [F.mse_loss(ours(x, t, Condition(labels))[0], noise), F.mse_loss(plain(x, t, labels), noise)]
    for loss in losses:
        loss.backward()
    a, b = (torch.cat([p.grad.flatten() for p in network.parameters()]) for network in (ours, plain))
    with torch.inference_mode():
        mine, other = features(ours, x, t, labels, ours.taps), plain_features(plain, x, t, labels)
    return [
        Agreement("losses", abs(losses[0].item() / losses[1].item() - 1), 1e-5),
        Agreement("gradients", float((a - b).norm() / b.norm()), 1e-4),
        Agreement("features", max(float((m - o).norm() / o.norm()) for m, o in zip(mine, other, strict=True)), 1e-5),
    ]


SEEN = inputs(BATCH)[:3]
ROW = Row(
    lines=(
        Line("DiT-S/2 with GTA 33M, step of the network at batch 4", must=1.0, go=1.1),
        Line("its features of all blocks", must=1.0, go=1.1, ours="ours_features", plain="plain_features"),
        Line("early exit at block 5 of 0 .. 11", must=1.8, go=1.9, ours="ours_exit", plain="ours_features"),
    ),
    sides={
        "plain": step(1),
        "ours": step(0),
        "plain_features": passes(lambda ours, plain: plain_features(plain, *SEEN)),
        "ours_features": passes(lambda ours, plain: features(ours, *SEEN, ours.taps)),
        "ours_exit": passes(lambda ours, plain: features(ours, *SEEN, ["block_5"])),
    },
    check=check,
    amount=1,
    rounds=7,
)
