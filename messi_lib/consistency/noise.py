"""Noise levels: grids, time inputs and preconditioning (Karras et al. 2022, "EDM"; Song et al.
2023).

`sigma` is the standard deviation of the noise, on images in [-1, 1]. Grids descend.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def karras_sigmas(
    n: int, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0
) -> Tensor:
    """EDM eq. 5: n levels from sigma_max down to sigma_min, (n,) float32; n = 1 gives sigma_max.

    Raises:
        ValueError: n < 1, or levels that do not descend.
    """
    if n < 1:
        raise ValueError(f"n={n}: a grid needs at least one noise level")
    if not 0 < sigma_min < sigma_max:
        raise ValueError(
            f"sigma_min={sigma_min}, sigma_max={sigma_max}: need 0 < sigma_min < sigma_max"
        )
    ramp = torch.linspace(0, 1, n)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return (high + ramp * (low - high)) ** rho


def time_input(sigma: Tensor) -> Tensor:
    """What the network is told of the noise level, as in the public code: 250 ln(sigma)."""
    return 250.0 * torch.log(sigma + 1e-44)


@dataclass(frozen=True)
class Preconditioning:
    """D(x, sigma) = c_skip x + c_out F(c_in x, time_input(sigma)), EDM eq. 7.

    With `boundary`, the coefficients are shifted so that D(x, sigma_min) = x exactly: the boundary
    condition of a consistency function (Song et al. 2023, appendix C).
    """

    sigma_data: float = 0.5
    sigma_min: float = 0.002
    boundary: bool = True

    def __call__(self, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(c_skip, c_out, c_in), each of the shape of `sigma`."""
        data2 = self.sigma_data**2
        c_in = (sigma**2 + data2) ** -0.5
        shifted = sigma - self.sigma_min if self.boundary else sigma
        c_skip = data2 / (shifted**2 + data2)
        c_out = shifted * self.sigma_data * c_in
        return c_skip, c_out, c_in


def broadcast(sigma: Tensor | float, x: Tensor) -> Tensor:
    """A noise level per image, shaped to multiply `x` (B, C, H, W): float or (B,) -> (B, 1, 1,
    1)."""
    sigma = torch.as_tensor(sigma, dtype=torch.float32, device=x.device)
    if sigma.ndim == 0:
        sigma = sigma.expand(len(x))
    if sigma.shape != (len(x),):
        raise ValueError(f"sigma of shape {tuple(sigma.shape)}: give one number or one per image")
    return sigma.view(-1, *[1] * (x.ndim - 1))
