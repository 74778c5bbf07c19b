"""The losses as the peers write them: the mean of squared errors of a batch, levels and noise given."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STEPS = 1000


class DDPMLoss(nn.Module):
    """Ho et al. 2020, eq. 14; steps t = 1 .. 1000, which the network is given as t / 1000."""

    def __init__(self) -> None:
        super().__init__()
        betas = torch.linspace(1e-4, 0.02, STEPS, dtype=torch.float64)
        abar = torch.cat([torch.ones(1, dtype=torch.float64), torch.cumprod(1 - betas, 0)])
        self.register_buffer("sqrt_abar", abar.sqrt().float())
        self.register_buffer("sqrt_rest", (1 - abar).sqrt().float())

    def draw(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return torch.randint(1, STEPS + 1, (x.shape[0],)), torch.randn_like(x)

    def forward(self, network: nn.Module, x: Tensor, t: Tensor, noise: Tensor, *cond: Tensor) -> Tensor:
        x_t = self.sqrt_abar[t].view(-1, 1, 1, 1) * x + self.sqrt_rest[t].view(-1, 1, 1, 1) * noise
        return F.mse_loss(network(x_t, t / STEPS, *cond), noise)


class EDMLoss(nn.Module):
    """Karras et al. 2022, eq. 2 with table 1; the mean over an image's elements, as DDAE has it."""

    def __init__(self, sigma_data: float = 0.5) -> None:
        super().__init__()
        self.sigma_data = sigma_data

    def draw(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return (torch.randn(x.shape[0]) * 1.2 - 1.2).exp(), torch.randn_like(x)

    def forward(self, network: nn.Module, x: Tensor, sigma: Tensor, noise: Tensor, *cond: Tensor) -> Tensor:
        s, d = sigma.view(-1, 1, 1, 1), self.sigma_data
        c_skip, c_out = d**2 / (s**2 + d**2), s * d / (s**2 + d**2).sqrt()
        c_in, c_noise = 1 / (s**2 + d**2).sqrt(), sigma.log() / 4
        noisy = x + s * noise
        estimate = c_skip * noisy + c_out * network(c_in * noisy, c_noise, *cond)
        weight = (s**2 + d**2) / (s * d) ** 2
        return (weight * (estimate - x) ** 2).mean()
