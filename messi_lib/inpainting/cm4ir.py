"""CM4IR: few steps from a moderate noise level, beginning with a guess of the hole.

A hole need not begin as pure noise: a smooth continuation of its surroundings already has their
light and their colours. What the generator must add is drawn from the middle of the grid on.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..consistency.denoiser import Denoiser
from ..consistency.noise import karras_sigmas
from ..consistency.sampling import Progress, check_sigmas
from ..consistency.unet import Inject
from .solvers import Generators, Unknown, check_counts, check_problem, draw

START, LAST = 12.0, 0.3  # noise levels; see `cm4ir_sigmas`


def smooth_fill(image: Tensor, hole: Tensor) -> Tensor:
    """The image with its hole continued smoothly from the surroundings, without reading the hole.

    Push-pull (Gortler et al. 1996, section 4.3): means of the known pixels on ever coarser grids,
    and where a fine grid knows nothing, the coarser one interpolated. The authors of CM4IR fill in
    medians of growing windows instead.

    Args:
        image: `(B,3,H,W)`. hole: bool `(B,1,H,W)`.

    Returns:
        `(B,3,H,W)`: outside the hole the image; 0 where no pixel of an image is known.
    """
    return _push_pull(torch.where(hole, 0.0, image), (~hole).to(image))


def _push_pull(total: Tensor, mass: Tensor) -> Tensor:
    """`total / mass`, and where the mass is 0 that of a grid half as fine, interpolated."""
    mean = total / mass.clamp(min=1e-12)
    if (mass > 0).all() or max(total.shape[-2:]) == 1:
        return mean
    coarse = (F.avg_pool2d(values, 2, ceil_mode=True) for values in (total, mass))
    wide = F.interpolate(_push_pull(*coarse), total.shape[-2:], mode="bilinear")
    return torch.where(mass > 0, mean, wide)


def cm4ir_sigmas(steps: int, denoiser: Denoiser) -> Tensor:
    """A Karras grid from START to LAST, `(steps,)`; one step gives START.

    The authors begin at about 0.5, for missing pixels and letters. A person is a large hole: on 96
    held-out scenes (four steps, eta 0.5) beginning at 6 to 25 gave errors of 38.0 to 38.4 of 255,
    and 39.5 at sigma_max, where the beginning is forgotten. At 0.5 the error was least (37.3), as a
    blur's is: what was drawn had four fifths of the detail, and hardly depended on the seed.

    Raises:
        ValueError: fewer than one step.
    """
    if steps < 1:
        raise ValueError(f"steps={steps}: a hole needs at least one network call")
    top = min(START, denoiser.sigma_max)
    return karras_sigmas(steps, LAST, top)


@torch.no_grad()
def cm4ir(
    denoiser: Denoiser,
    image: Tensor,
    hole: Tensor,
    sigmas: Sequence[float] | Tensor,
    generator: Generators,
    *,
    eta: float = 0.9,
    delta: float = 0.0,
    draws: int = 1,
    calm_below: float = 1.5,
    strength: Tensor | None = None,
    progress: Progress | None = None,
    inject: Inject | None = None,
) -> Tensor:
    """CM4IR (Garber and Tirer 2025, "Zero-Shot Image Restoration Using Few-Step Guidance of
    Consistency Models"), for a hole and for known pixels without noise.

    The known pixels are y = A x (their eq. 1 without noise), where A picks them from the image and
    its pseudo-inverse A+ puts them in their places. The steps are those of the authors' code::

        x <- fill + sigma_1 z                       fill: `smooth_fill`, instead of A+ y alone
        for n = 1 .. N:
            c  <- f(x, (1 + delta) sigma_n)         clamped to [-1,1]
            z^ <- (c - x) / sigma_n                 the estimated noise, its sign turned
            c  <- c - A+ (A c - y)                  back-projection: the known pixels put back
            x  <- c + sigma_{n+1} (eta z + sqrt(1 - eta^2) z^)

    Deterministic samplers keep the estimated noise; here it is turned, so that the step passes
    beyond c, away from where it came from (a momentum; the authors call it Polyak acceleration).

    sigma_{n+1} is taken as sqrt(sigma_{n+1}^2 - sigma_min^2), as in `replacement`. With `eta` 1,
    `delta` 0 and everything to fill, the result is that of `sample_multistep`, bit for bit; with
    other values it is not the plain sampler's.

    Args:
        sigmas: descending, for instance `cm4ir_sigmas`.
        eta: share of fresh noise in [0,1]. The authors use 0.1; with it this repository's small
            generator repeats its own errors. On 96 held-out scenes, eight steps, `replacement` had
            an error of 37.6 and this 41.0 with 0.1, 39.3 with 0.5, and 37.4 with 0.9 and with 1
            (differences to within 0.7).
        delta: the network is told a level by so much higher than the noise, 0 or more.
        draws: at levels below `calm_below`, so many sequences that differ in their fresh noise and
            share their mean, see `replacement`.
        strength: as in `replacement`; a pixel that is known at the first level begins as it is.
        The others: as in `replacement`.

    Returns:
        `(B,3,S,S)` in [-1,1], on the denoiser's device: outside the hole exactly the image.

    Raises:
        ValueError: an eta or a delta out of range, and as in `replacement`.
    """
    check_problem(denoiser, image, hole, strength)
    check_counts(image, generator, draws)
    if not 0 <= eta <= 1 or delta < 0:
        raise ValueError(f"eta={eta} must lie in [0,1], delta={delta} must not be negative")
    levels = check_sigmas(sigmas, denoiser)
    noise = draw(denoiser, len(image), generator)
    image, unknown = image.to(noise), Unknown(denoiser, hole.to(noise.device), strength)
    x = smooth_fill(image, unknown.at(levels[0])) + noise * levels[0]
    for i, sigma in enumerate(levels):
        if progress is not None:
            progress(i, len(levels))
        told = min((1 + delta) * sigma, denoiser.sigma_max)
        clean = denoiser(x, told, inject=inject).clamp(-1, 1)
        clean = clean.view(len(image), -1, *image.shape[1:]).mean(1, keepdim=True)  # over the draws
        estimated = (clean - x.view(len(image), -1, *image.shape[1:])) / sigma
        clean = torch.where(unknown.at(sigma), clean[:, 0], image)
        if i + 1 < len(levels):
            many = draws if levels[i + 1] < calm_below else 1
            spread = (levels[i + 1] ** 2 - denoiser.sigma_min**2) ** 0.5
            kept = estimated.expand(-1, many, *image.shape[1:]).flatten(0, 1)
            fresh = draw(denoiser, len(image), generator, many)
            noise = eta * fresh + (1 - eta**2) ** 0.5 * kept
            x = clean.repeat_interleave(many, 0) + spread * noise
    return clean
