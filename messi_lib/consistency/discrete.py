"""Consistency losses between neighbours of a grid of noise levels: CT, CD and iCT.

The first two are those of the original paper (Song et al. 2023, "Consistency Models"), the third is
its successor (Song and Dhariwal 2024, "Improved Techniques for Training Consistency Models"). The
grid has N levels (`scales`) and becomes finer during training. Notation as in `objectives`;
f is the consistency function, that is D with the boundary condition; f- its target.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .denoiser import Denoiser
from .noise import broadcast, karras_sigmas
from .objectives import Losses, draw_noise, pseudo_huber, student_and_target


def ct_scales(step: int, total: int, start: int = 2, end: int = 150) -> int:
    """N(k) of CT (Song et al., appendix C): from `start` to `end` + 1 levels, quadratically.

    Args:
        step: k, from 0; beyond `total` the grid stays as it is (the public code lets it grow on).
        total: K, the number of steps.
    """
    share = min(step / total, 1.0)
    return math.ceil(math.sqrt(share * ((end + 1) ** 2 - start**2) + start**2) - 1) + 1


def ct_target_rate(scales: int, start: int = 2, rate: float = 0.95) -> float:
    """mu(k) = exp(s0 ln(mu0) / N(k)), the rate at which the target follows the student.

    The paper writes N(k), the public code divides by N(k) - 1, its number of intervals. This is
    the code's.

    Args:
        scales: N(k), at least 2.
        start, rate: s0 and mu0, the rate on the coarsest grid.
    """
    return math.exp(start * math.log(rate) / (scales - 1))


def ict_scales(step: int, total: int, start: int = 10, end: int = 1280) -> int:
    """N(k) of iCT (section 3.4): the number of intervals doubles until it is `end`."""
    every = max(math.floor(total / (math.log2(end // start) + 1)), 1)
    return min(start * 2 ** (step // every), end) + 1


def ict_probabilities(sigmas: Tensor, mean: float = -1.1, std: float = 2.0) -> Tensor:
    """p(i) of iCT (section 3.5): how often an interval of the grid is trained.

    Args:
        sigmas: (N,), descending.

    Returns:
        (N - 1,): the share of ln(sigma) ~ N(mean, std^2) between neighbours, summing to 1.
    """
    cumulative = torch.erf((sigmas.log() - mean) / (math.sqrt(2) * std))
    weights = cumulative[:-1] - cumulative[1:]
    return weights / weights.sum()


def _l2_32(x: Tensor, y: Tensor) -> Tensor:
    """Squared difference at 32 pixels a side."""
    if x.shape[-1] != 32:
        x, y = (F.interpolate(v, size=(32, 32), mode="bilinear") for v in (x, y))
    return (x - y).square().flatten(1).mean(1)


# d(x, y) per image, (B, ...) -> (B,). The paper's LPIPS is left out: it needs another network, and
# it shares features with the Inception network of the FID that is to judge the result.
DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "l1": lambda x, y: (x - y).abs().flatten(1).mean(1),
    "l2": lambda x, y: (x - y).square().flatten(1).mean(1),
    "l2-32": _l2_32,
}


def _distance(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    if name not in DISTANCES:
        raise ValueError(f"distance={name!r}: use {', '.join(map(repr, DISTANCES))}")
    return DISTANCES[name]


def draw_intervals(
    n: int, scales: int, generator: torch.Generator, probabilities: Tensor | None = None
) -> Tensor:
    """Positions of the upper levels of `n` intervals in a descending grid, int64 (n,) on the CPU.

    Raises:
        ValueError: a grid of fewer than two levels.
    """
    if scales < 2:
        raise ValueError(f"scales={scales}: a grid needs two levels for an interval")
    if probabilities is None:
        return torch.randint(0, scales - 1, (n,), generator=generator)
    return torch.multinomial(probabilities, n, replacement=True, generator=generator)


def _neighbours(
    denoiser: Denoiser, images: Tensor, scales: int, generator: torch.Generator,
    probabilities: tuple[float, float] | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Levels t_{n+1} > t_n of random intervals, one pair per image: two tensors (B,)."""
    grid = karras_sigmas(scales, denoiser.sigma_min, denoiser.sigma_max)
    weights = None if probabilities is None else ict_probabilities(grid, *probabilities)
    upper = draw_intervals(len(images), scales, generator, weights)
    return grid[upper].to(images.device), grid[upper + 1].to(images.device)


def _along_one_noise(
    denoiser: Denoiser, target: Denoiser, images: Tensor, t: Tensor, r: Tensor,
    generator: torch.Generator, **condition: Any,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """f(y + t z, t) and sg f-(y + r z, r), the same z on both sides: two tensors (B, 3, S, S)."""
    z = draw_noise(images, generator)
    return student_and_target(
        denoiser,
        target,
        (images + broadcast(t, images) * z, t),
        (images + broadcast(r, images) * z, r),
        boundary=True,
        **condition,
    )


def ct_loss(
    denoiser: Denoiser,
    target: Denoiser,
    images: Tensor,
    generator: torch.Generator,
    *,
    scales: int,
    distance: str = "l2",
    **condition: Any,
) -> Losses:
    """Consistency training (Song et al. 2023, eq. 10 and algorithm 3).

    L = E d(f(y + t_{n+1} z, t_{n+1}), sg f-(y + t_n z, t_n)), n uniform, the same z on both sides.

    Args:
        target: f-, whose weights follow those of the denoiser (see `ct_target_rate`).
        images: clean (B, 3, S, S) in [-1, 1].
        scales: N(k).
        distance: a name in `DISTANCES`.

    Returns:
        Loss and upper noise level of each image.

    Raises:
        ValueError: an unknown distance, or fewer than two levels.
    """
    measure = _distance(distance)
    t, r = _neighbours(denoiser, images, scales, generator)
    student, wanted = _along_one_noise(denoiser, target, images, t, r, generator, **condition)
    return Losses(measure(student, wanted), t)


def heun_step(teacher: Denoiser, x: Tensor, t: Tensor, r: Tensor) -> Tensor:
    """One step of the probability-flow ODE from level t down to r (EDM, algorithm 1).

    Args:
        teacher: a diffusion denoiser.
        x: (B, ...) at level t; t, r: (B,), r > 0.
    """
    t_, r_ = broadcast(t, x), broadcast(r, x)
    slope = (x - teacher(x, t, boundary=False)) / t_
    euler = x + (r_ - t_) * slope
    slope2 = (euler - teacher(euler, r, boundary=False)) / r_
    return x + (r_ - t_) * (slope + slope2) / 2


def cd_loss(
    denoiser: Denoiser,
    target: Denoiser,
    images: Tensor,
    generator: torch.Generator,
    *,
    teacher: Denoiser,
    scales: int = 40,
    distance: str = "l2",
    **condition: Any,
) -> Losses:
    """Consistency distillation (Song et al. 2023, eq. 7 and algorithm 2).

    L = E d(f(x, t_{n+1}), sg f-(x^, t_n)) with x = y + t_{n+1} z, and x^ one Heun step of the
    teacher's ODE from x.

    Args:
        teacher: a diffusion denoiser, trained with `objectives.edm_loss`; the rest as in `ct_loss`.
    """
    measure = _distance(distance)
    t, r = _neighbours(denoiser, images, scales, generator)
    x = images + broadcast(t, images) * draw_noise(images, generator)
    with torch.no_grad():
        along = heun_step(teacher, x, t, r)
    student, wanted = student_and_target(
        denoiser, target, (x, t), (along, r), boundary=True, **condition
    )
    return Losses(measure(student, wanted), t)


def ict_loss(
    denoiser: Denoiser,
    images: Tensor,
    generator: torch.Generator,
    *,
    scales: int,
    p_mean: float = -1.1,
    p_std: float = 2.0,
    huber_c: float = 0.03,
    **condition: Any,
) -> Losses:
    """Improved consistency training (Song and Dhariwal 2024): the network is its own target.

    L = E 1/(t_{n+1} - t_n) d(f(y + t_{n+1} z, t_{n+1}), sg f(y + t_n z, t_n)) with d the
    pseudo-Huber distance over the whole image and n drawn as in `ict_probabilities`.

    Args:
        huber_c: c = 0.00054 sqrt(D) for D values per image: 0.03 at 32 px, 0.24 at 256 px.
    """
    t, r = _neighbours(denoiser, images, scales, generator, (p_mean, p_std))
    student, wanted = _along_one_noise(denoiser, denoiser, images, t, r, generator, **condition)
    return Losses(pseudo_huber(student, wanted, huber_c) / (t - r), t)
