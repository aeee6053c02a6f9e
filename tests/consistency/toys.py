"""Exact consistency functions to test samplers and solvers with: no training, no randomness."""

import torch
from torch import nn

from messi_lib.consistency.denoiser import Denoiser


class GaussianDenoiser(nn.Module):
    """Closed form for data N(mu, s^2 I): EDM posterior mean, or the consistency function."""

    def __init__(self, mu: float = 0.2, s: float = 0.3, image_size: int = 8):
        super().__init__()
        self.mu, self.s, self.image_size = nn.Parameter(torch.tensor(mu)), s, image_size
        self.sigma_data, self.sigma_min, self.sigma_max = 0.5, 0.002, 80.0
        self.shape = (3, image_size, image_size)
        self.channels, self.condition_channels = 3, 0
        self.calls: list[float] = []

    def forward(self, x, sigma, *, boundary=None, inject=None):
        sigma = float(torch.as_tensor(sigma).flatten()[0])
        self.calls.append(sigma)
        if boundary is False:
            return (self.s**2 * x + sigma**2 * self.mu) / (self.s**2 + sigma**2)
        shrink = ((self.s**2 + self.sigma_min**2) / (self.s**2 + sigma**2)) ** 0.5
        return self.mu + (x - self.mu) * shrink


def tiny_denoiser(seed: int = 0, **changes) -> Denoiser:
    """A small real network with random weights everywhere (zero-initialised layers too)."""
    from messi_lib.consistency.denoiser import build_denoiser
    from messi_lib.profiles import ConsistencyConfig, preset

    torch.manual_seed(seed)
    denoiser = build_denoiser(preset(ConsistencyConfig, "smoke", **changes))
    for parameter in denoiser.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.05)
    return denoiser
