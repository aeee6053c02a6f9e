"""Filling a hole with a consistency function that was trained for nothing of the kind."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..consistency.denoiser import Denoiser
from ..consistency.noise import karras_sigmas
from ..consistency.sampling import Progress, check_sigmas, start_noise
from ..consistency.unet import Inject

Generators = torch.Generator | Sequence[torch.Generator]


def check_problem(denoiser: Denoiser, image: Tensor, hole: Tensor) -> None:
    """Refuse what has led to colourful pictures before.

    Raises:
        ValueError: a shape other than the denoiser's, a hole that is not bool `(B,1,S,S)`, or known
            pixels outside [-1,1].
    """
    if image.ndim != 4 or tuple(image.shape[1:]) != denoiser.shape:
        raise ValueError(f"image {tuple(image.shape)}: this generator takes (B, *{denoiser.shape})")
    wanted = (len(image), 1, *image.shape[2:])
    if hole.dtype != torch.bool or tuple(hole.shape) != wanted:
        raise ValueError(f"hole must be bool {wanted}, not {hole.dtype} {tuple(hole.shape)}")
    known = torch.where(hole, 0.0, image)
    if not (known.abs() <= 1 + 1e-4).all():
        raise ValueError("the known pixels must lie in [-1,1]: convert with images.to_tensor")


def draw(denoiser: Denoiser, n: int, generator: Generators, draws: int = 1) -> Tensor:
    """z ~ N(0, I), `(n * draws, 3, S, S)`, image by image: from one generator, or one per image."""
    if isinstance(generator, torch.Generator):
        return start_noise(denoiser, n * draws, generator)
    return torch.cat([start_noise(denoiser, draws, each) for each in generator])


def calm_sigmas(steps: int, denoiser: Denoiser, last: float = 0.5) -> Tensor:
    """A Karras grid from sigma_max to `last`, `(steps,)`, for `replacement` with several draws.

    Below `last` a small network adds more of its own noise than it takes away.
    """
    if steps < 1:
        raise ValueError(f"steps={steps}: a hole needs at least one network call")
    return karras_sigmas(steps, last, denoiser.sigma_max)


@torch.no_grad()
def replacement(
    denoiser: Denoiser,
    image: Tensor,
    hole: Tensor,
    sigmas: Sequence[float] | Tensor,
    generator: Generators,
    *,
    draws: int = 1,
    calm_below: float = 1.5,
    progress: Progress | None = None,
    inject: Inject | None = None,
) -> Tensor:
    """Multistep consistency sampling with the known pixels put back after every step.

    Song et al. 2023, "Consistency Models", Algorithm 4 (zero-shot editing) with A = identity and
    Omega = the hole; y is the image, y (1 - Omega) what is known of it::

        x ~ N(y (1 - Omega), sigma_1^2 I)
        x <- f(x, sigma_1);  x <- y (1 - Omega) + x Omega
        for n = 2 .. N:
            x ~ N(x, (sigma_n^2 - sigma_min^2) I)
            x <- f(x, sigma_n);  x <- y (1 - Omega) + x Omega

    As in the public code, x is clamped to [-1,1] before the known pixels are put back. The grid
    ends at sigma_min, where f is the identity: that level is not part of `sigmas`, and no noise is
    left in the result. The image inside the hole is never read: the start noise comes from the
    generator, not from the photo.

    With `draws` above 1, a step at a level below `calm_below` is the mean of so many estimates,
    each with noise of its own: an estimate of E[x0 | x0 + sigma z]. The errors of a weakly trained
    network at these levels are coloured specks that differ from draw to draw, and the mean takes
    them off. A well-trained one only loses sharpness by it.

    Args:
        image: `(B,3,S,S)` in [-1,1]; any value at all inside the hole.
        hole: bool `(B,1,S,S)`, True where the image is unknown.
        sigmas: descending, the first the generator's sigma_max: `sampling.step_sigmas`, or
            `calm_sigmas` for several draws.
        generator: one for the batch, drawn from in the order of `sample_multistep` (with everything
            to fill, the two agree bit for bit), or a sequence of one per image (then each image
            gets the noise that it would get alone).
        draws: estimates a step below `calm_below`, made in one network call; 1 for Algorithm 4.
        progress: called as `progress(step, total)` before every network call; may raise to cancel.

    Returns:
        `(B,3,S,S)` in [-1,1], on the denoiser's device: outside the hole exactly the image.

    Raises:
        ValueError: see `check_problem` and `sampling.check_sigmas`; not one generator per image.
    """
    check_problem(denoiser, image, hole)
    if not isinstance(generator, torch.Generator) and len(generator) != len(image):
        raise ValueError(f"{len(generator)} generators for {len(image)} images: give one per image")
    if draws < 1:
        raise ValueError(f"draws={draws}: use 1 or more")
    levels = check_sigmas(sigmas, denoiser)
    noise = draw(denoiser, len(image), generator)
    hole = hole.to(noise.device)
    image = image.to(noise.device, torch.float32)
    x = torch.where(hole, 0.0, image) + noise * levels[0]
    for i, sigma in enumerate(levels):
        if progress is not None:
            progress(i, len(levels))
        clean = denoiser(x, sigma, inject=inject).clamp(-1, 1)
        clean = clean.view(len(image), -1, *image.shape[1:]).mean(1)  # over the draws
        clean = torch.where(hole, clean, image)
        if i + 1 < len(levels):
            many = draws if levels[i + 1] < calm_below else 1
            spread = (levels[i + 1] ** 2 - denoiser.sigma_min**2) ** 0.5
            noise = draw(denoiser, len(image), generator, many)
            x = clean.repeat_interleave(many, 0) + spread * noise
    return clean
