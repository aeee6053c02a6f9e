"""Solvers of the diffusion ODE: many small steps along the slope that a denoiser gives.

For networks that are diffusion denoisers (the EDM stage). The probability-flow ODE is dx/dsigma =
(x - D(x, sigma)) / sigma (Karras et al. 2022, "EDM", eq. 1 with sigma(t) = t); from pure noise it
leads to an image. The four solvers are those of the public consistency-model code, and equal to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .denoiser import Denoiser
from .sampling import Progress, check_sigmas, start_noise

Slope = Callable[[Tensor, float], Tensor]


def _euler(x: Tensor, t: float, r: float, slope: Slope) -> Tensor:
    return x + (r - t) * slope(x, t)


def _heun(x: Tensor, t: float, r: float, slope: Slope) -> Tensor:
    """EDM, algorithm 1: the mean of the slopes at both ends; at r = 0 there is no second one."""
    first = slope(x, t)
    ahead = x + (r - t) * first
    return x + (r - t) * (first + slope(ahead, r)) / 2 if r > 0 else ahead


def _dpm2(x: Tensor, t: float, r: float, slope: Slope) -> Tensor:
    """The slope in the middle, which lies half way in the cube roots of the levels."""
    middle = ((t ** (1 / 3) + r ** (1 / 3)) / 2) ** 3
    half = x + (middle - t) * slope(x, t)
    return x + (r - t) * slope(half, middle)


SOLVERS: dict[str, Callable[[Tensor, float, float, Slope], Tensor]] = {
    "euler": _euler,
    "heun": _heun,
    "dpm2": _dpm2,
    "ancestral": _euler,  # of a shorter step, after which noise is added
}


def ancestral_levels(t: float, r: float) -> tuple[float, float]:
    """(down, up): go down to a level below r, then add noise of `up`; down^2 + up^2 = r^2."""
    up = (r**2 * (t**2 - r**2) / t**2) ** 0.5
    return (r**2 - up**2) ** 0.5, up


@torch.no_grad()
def sample_ode(
    denoiser: Denoiser,
    n: int,
    sigmas: Sequence[float] | Tensor,
    generator: torch.Generator,
    *,
    solver: str = "heun",
    clip: bool = True,
    progress: Progress | None = None,
) -> Tensor:
    """Images by solving the ODE through the given levels, and from the last one to 0.

    Args:
        sigmas: descending, for instance `noise.karras_sigmas(18)`.
        solver: `euler` and `ancestral` (Euler with fresh noise at each level): one network call a
            level; `heun`: two, but one for the last level; `dpm2`: two.
        clip: bring each estimate of the clean image into [-1, 1], as the public code does.
        progress: called before every level.

    Returns:
        (n, 3, S, S) in [-1, 1].

    Raises:
        ValueError: an unknown solver, or levels as in `check_sigmas`.
    """
    if solver not in SOLVERS:
        raise ValueError(f"solver={solver!r}: use {', '.join(map(repr, SOLVERS))}")
    levels = [*check_sigmas(sigmas, denoiser), 0.0]

    def slope(x: Tensor, level: float) -> Tensor:
        clean = denoiser(x, level, boundary=False)
        return (x - (clean.clamp(-1, 1) if clip else clean)) / level

    x = start_noise(denoiser, n, generator) * levels[0]
    for i, (t, r) in enumerate(zip(levels, levels[1:])):
        if progress is not None:
            progress(i, len(levels) - 1)
        if solver == "ancestral":
            down, up = ancestral_levels(t, r)
            x = _euler(x, t, down, slope)
            if r > 0:
                x = x + up * start_noise(denoiser, n, generator)
        else:
            x = SOLVERS[solver](x, t, r, slope)
    return x.clamp(-1, 1)


@torch.no_grad()
def ode_path(denoiser: Denoiser, x: Tensor, sigmas: Sequence[float] | Tensor) -> Tensor:
    """The path of the ODE from given points down the levels, by Heun's method, unclipped.

    Args:
        denoiser: a diffusion denoiser, of images or of the toy's points.
        x: (B, ...), at the first level.
        sigmas: L levels, descending.

    Returns:
        (L, B, ...): where the path is at each level; its first entry is `x`.
    """
    levels = check_sigmas(sigmas, denoiser)

    def slope(x: Tensor, level: float) -> Tensor:
        return (x - denoiser(x, level, boundary=False)) / level

    path = [x]
    for t, r in zip(levels, levels[1:]):
        path.append(_heun(path[-1], t, r, slope))
    return torch.stack(path)
