"""Training objectives: each a function of (denoiser, clean images, generator, ...), as in its
paper.

Notation: y clean images, z ~ N(0, I), D the denoiser with EDM preconditioning, sd = sigma_data,
sg = stop-gradient. `weight` divides out the scale at which the network's output enters D. What else
a denoiser takes (`inject`, `labels`) is handed on to it as `condition`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .denoiser import Denoiser
from .noise import broadcast


class Losses(NamedTuple):
    """The loss of each image, (B,), and the noise level at which the network saw it, (B,)."""

    loss: Tensor
    sigma: Tensor


def lognormal_sigmas(
    n: int, mean: float, std: float, generator: torch.Generator, device: torch.device
) -> Tensor:
    """ln(sigma) ~ N(mean, std^2), (n,); drawn on the CPU so that all devices see the same
    levels."""
    return (mean + std * torch.randn(n, generator=generator)).exp().to(device)


def draw_noise(like: Tensor, generator: torch.Generator) -> Tensor:
    """z ~ N(0, I) of the shape of `like`, drawn on the CPU."""
    return torch.randn(like.shape, generator=generator).to(like.device)


def edm_loss(
    denoiser: Denoiser,
    images: Tensor,
    generator: torch.Generator,
    *,
    p_mean: float = -1.2,
    p_std: float = 1.2,
    **condition: Any,
) -> Losses:
    """Denoising score matching (Karras et al. 2022, eq. 8 and table 1).

    L = E w(s) ||D(y + s z, s) - y||^2 / dim with w = (s^2 + sd^2) / (s sd)^2, ln s ~ N(p_mean,
    p_std^2).

    Args:
        images: clean (B, 3, S, S) in [-1, 1].

    Returns:
        Loss and noise level of each image.
    """
    sigma = lognormal_sigmas(len(images), p_mean, p_std, generator, images.device)
    z = draw_noise(images, generator)
    s = broadcast(sigma, images)
    estimate = denoiser(images + s * z, sigma, boundary=False, **condition)
    sd = denoiser.sigma_data
    weight = (sigma**2 + sd**2) / (sigma * sd) ** 2
    return Losses(weight * (estimate - images).square().flatten(1).mean(1), sigma)


def ect_partner(t: Tensor, stage: int, q: float = 2.0, k: float = 8.0, b: float = 1.0) -> Tensor:
    """The lower noise level r(t) of easy consistency tuning (Geng et al. 2024).

    r = max(0, t (1 - n(t) / q^(stage + 1))), n(t) = 1 + k sigmoid(-b t), with the values of the
    public code (locuslab/ect, `ECMLoss`). At stage 0 and small t, r = 0: the target is the clean
    image and the loss is a diffusion loss. Later stages bring r towards t.
    """
    n = 1 + k * torch.sigmoid(-b * t)
    return (t * (1 - n / q ** (stage + 1))).clamp(min=0)


def pseudo_huber(x: Tensor, y: Tensor, c: float = 0.0) -> Tensor:
    """sqrt(||x - y||^2 + c^2) - c over each whole image (iCT, section 3.3): (B, ...) -> (B,).

    c = 0 is the plain norm, as in ECT at 32 px.
    """
    norm = torch.linalg.vector_norm((x - y).flatten(1), dim=1)
    return (norm**2 + c**2).sqrt() - c if c else norm


def student_and_target(
    denoiser: Denoiser,
    target: Denoiser,
    upper: tuple[Tensor, Tensor],
    lower: tuple[Tensor, Tensor],
    *,
    boundary: bool,
    **condition: Any,
) -> tuple[Tensor, Tensor]:
    """Both sides of a consistency loss: the second without gradient, with the same dropout mask.

    Args:
        denoiser, target: the same network, or one and its slow copy.
        upper: noisy images (B, ...) and their levels (B,) for the student.
        lower: the same at the lower levels, for the target.
    """
    place = upper[0].device
    before = _rng_state(place)
    student = denoiser(*upper, boundary=boundary, **condition)
    after = _rng_state(place)
    with torch.no_grad():
        _set_rng_state(place, before)
        wanted = target(*lower, boundary=boundary, **condition)
    _set_rng_state(place, after)
    return student, wanted


def ect_loss(
    denoiser: Denoiser,
    images: Tensor,
    generator: torch.Generator,
    *,
    stage: int,
    p_mean: float = -1.1,
    p_std: float = 2.0,
    q: float = 2.0,
    huber_c: float = 0.0,
    **condition: Any,
) -> Losses:
    """Easy consistency tuning (Geng et al. 2024): no teacher and no copy of the network.

    L = E 1/(t - r) d(D(y + t z, t), sg D(y + r z, r)), ln t ~ N(p_mean, p_std^2), the same z
    and the same dropout mask on both sides; where r = 0 the target is y itself.

    Args:
        images: clean (B, 3, S, S) in [-1, 1].
        stage: 0, 1, ...: how close r has come to t.

    Returns:
        Loss and noise level of each image.
    """
    t = lognormal_sigmas(len(images), p_mean, p_std, generator, images.device)
    r = ect_partner(t, stage, q)
    z = draw_noise(images, generator)
    # A level of 0 has no logarithm; its output is replaced by the clean image below anyway.
    level = r.clamp(min=denoiser.sigma_min)
    student, target = student_and_target(
        denoiser,
        denoiser,
        (images + broadcast(t, images) * z, t),
        (images + broadcast(r, images) * z, level),
        boundary=False,
        **condition,
    )
    target = torch.where(broadcast(r, images) > 0, target, images)
    return Losses(pseudo_huber(student, target, huber_c) / (t - r), t)


def _rng_state(device: torch.device) -> Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _set_rng_state(device: torch.device, state: Tensor) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)
