"""DDIM (Song et al. 2021, eq. 12 at eta = 0) as the peers write it: a table of levels, indexed by a tensor of steps."""

import torch
from torch import Tensor, nn

STEPS = 1000


class DDIM:
    def __init__(self, steps: int) -> None:
        betas = torch.linspace(1e-4, 0.02, STEPS, dtype=torch.float64)
        self.abar = torch.cat([torch.ones(1, dtype=torch.float64), torch.cumprod(1 - betas, 0)]).float()
        self.steps = list(range(1, STEPS + 1, STEPS // steps))[::-1]

    def gather(self, t: Tensor) -> Tensor:
        return self.abar.to(t.device).gather(0, t).view(-1, 1, 1, 1)

    @torch.no_grad()
    def sample(self, network: nn.Module, x: Tensor) -> Tensor:
        """From noise (B, C, H, W) to images in [0, 1]; estimates are clipped to [-1, 1]."""
        for now, after in zip(self.steps, [*self.steps[1:], 0], strict=True):
            t = torch.full((x.shape[0],), now, dtype=torch.long, device=x.device)
            abar, abar_after = self.gather(t), self.gather(torch.full_like(t, after))
            eps = network(x, t / STEPS)
            x0 = ((x - (1 - abar).sqrt() * eps) / abar.sqrt()).clamp(-1, 1)
            eps = (x - abar.sqrt() * x0) / (1 - abar).sqrt()
            x = abar_after.sqrt() * x0 + (1 - abar_after).sqrt() * eps
        return ((x + 1) / 2).clamp(0, 1)
