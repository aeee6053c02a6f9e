"""Sampling with a consistency function: noise in, images out, in one step or a few.

Samplers take noise levels (sigmas), descending, never indices; `ode` has those of diffusion models.

Noise is drawn on the CPU from an explicit generator, in a fixed order: first the start noise, then
one draw per further step. `progress(step, total)` is called before every network call; raising
from it cancels the sampling.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .denoiser import Denoiser
from .noise import karras_sigmas
from .unet import Inject

Progress = Callable[[int, int], None]


def check_sigmas(sigmas: Sequence[float] | Tensor, denoiser: Denoiser) -> list[float]:
    """The levels as floats.

    Raises:
        ValueError: no level, or levels that do not descend strictly within
            [sigma_min, sigma_max] of the denoiser.
    """
    levels = [float(s) for s in sigmas]
    if not levels:
        raise ValueError("sigmas is empty: give at least one noise level")
    if any(a <= b for a, b in zip(levels, levels[1:])):
        raise ValueError(f"sigmas {levels} must descend strictly")
    top, bottom = denoiser.sigma_max * (1 + 1e-5), denoiser.sigma_min
    if levels[0] > top or levels[-1] < bottom * (1 - 1e-5):
        raise ValueError(f"sigmas {levels} must lie in [{bottom}, {denoiser.sigma_max}]")
    return levels


def step_sigmas(steps: int, denoiser: Denoiser, sigma_max: float | None = None) -> Tensor:
    """The first `steps` levels of a Karras grid that ends at sigma_min: (steps,), descending.

    The last level, sigma_min, is left out: a consistency function does nothing there.
    """
    if steps < 1:
        raise ValueError(f"steps={steps}: a sample needs at least one network call")
    top = sigma_max or denoiser.sigma_max
    return karras_sigmas(steps + 1, denoiser.sigma_min, top)[:-1]


def start_noise(denoiser: Denoiser, n: int, generator: torch.Generator) -> Tensor:
    """z ~ N(0, I), (n, C, S, S), on the denoiser's device."""
    device = next(denoiser.parameters()).device
    return torch.randn(n, *denoiser.shape, generator=generator).to(device)


@torch.no_grad()
def sample_multistep(
    denoiser: Denoiser,
    n: int,
    sigmas: Sequence[float] | Tensor,
    generator: torch.Generator,
    *,
    progress: Progress | None = None,
    inject: Inject | None = None,
) -> Tensor:
    """Multistep consistency sampling (Song et al. 2023, algorithm 1).

    x = f(sigma_1 z, sigma_1); then for each further level x = f(x + sqrt(sigma^2 - sigma_min^2)
    z, sigma).
    One level is one-step sampling.

    Returns:
        (n, 3, S, S) in [-1, 1].
    """
    levels = check_sigmas(sigmas, denoiser)
    x = start_noise(denoiser, n, generator) * levels[0]
    for i, sigma in enumerate(levels):
        if progress is not None:
            progress(i, len(levels))
        clean = denoiser(x, sigma, inject=inject).clamp(-1, 1)
        if i + 1 < len(levels):
            spread = (levels[i + 1] ** 2 - denoiser.sigma_min**2) ** 0.5
            x = clean + spread * start_noise(denoiser, n, generator)
    return clean
