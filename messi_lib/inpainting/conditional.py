"""A generator that was trained to fill holes: it sees the known pixels at every noise level.

The zero-shot solvers put the known pixels back after each step and hope that the network will fit
the rest to them; but it sees them only as noisy as all else, so at high levels, where a picture is
decided, not at all. Here the network gets them as further input channels (Palette, Saharia et al.
2022, section 3), clean at any level, so that already the first step fits its
surroundings.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..consistency.denoiser import Denoiser
from ..consistency.noise import karras_sigmas
from ..consistency.sampling import Progress, check_sigmas
from .solvers import Generators, check_counts, check_problem, draw

CHANNELS = 4  # the known pixels, and where they are unknown
LAST = 0.2  # noise level of the last step: tried 0.2, 0.4 and 0.8, lower is sharper


def condition_of(image: Tensor, hole: Tensor) -> Tensor:
    """What the generator is told: (B, 4, S, S) in [-1, 1].

    Args:
        image: (B, 3, S, S) in [-1, 1]; any value at all inside the hole, it is not read.
        hole: bool (B, 1, S, S).

    Returns:
        The known pixels with 0 (grey) in the hole, then 1 in the hole and -1 outside.
    """
    known = torch.where(hole, 0.0, image)  # not a product: 0 times NaN would be NaN
    return torch.cat([known, torch.where(hole, 1.0, -1.0).to(known)], 1)


def conditional_sigmas(steps: int, denoiser: Denoiser) -> list[float]:
    """A Karras grid from sigma_max to LAST, `steps` levels; one step: sigma_max alone.

    Raises:
        ValueError: fewer than one step.
    """
    if steps < 1:
        raise ValueError(f"steps={steps}: a hole needs at least one network call")
    if steps == 1:
        return [denoiser.sigma_max]
    return karras_sigmas(steps, LAST, denoiser.sigma_max).tolist()


def conditional(
    denoiser: Denoiser,
    image: Tensor,
    hole: Tensor,
    sigmas: Sequence[float] | Tensor,
    generator: Generators,
    *,
    draws: int = 1,
    calm_below: float = 1.5,
    progress: Progress | None = None,
) -> Tensor:
    """Multistep consistency sampling (Song et al. 2023, algorithm 1) with a condition.

    Args:
        denoiser: one that takes a condition (`train_inpainter`).
        image, hole, generator: as in `replacement`.
        sigmas: descending, the first the generator's sigma_max, for instance `conditional_sigmas`.
        draws: estimates averaged at a step below `calm_below`, see `replacement`; 1 for none. At
            higher levels estimates differ in what they show, and a mean of them shows nobody.
        progress: called as `progress(step, total)` before every network call; may raise to cancel.

    Returns:
        (B, 3, S, S) in [-1, 1], on the denoiser's device: outside the hole exactly the image.

    Raises:
        ValueError: a denoiser without a condition; see `check_problem` and `check_sigmas`.
    """
    check_problem(denoiser, image, hole)
    if denoiser.channels != 3:
        raise ValueError("this generator draws layers: use draw_layer, or the solver layer")
    if denoiser.condition_channels != CHANNELS:
        raise ValueError("this generator takes no condition: train one with messi train inpainter")
    check_counts(image, generator, draws)
    image = image.to(torch.float32)
    return multistep(
        denoiser, condition_of(image, hole), image, hole, sigmas, generator,
        draws=draws, calm_below=calm_below, progress=progress,
    )  # fmt: skip


@torch.no_grad()
def multistep(
    denoiser: Denoiser,
    told: Tensor,
    outside: Tensor,
    hole: Tensor,
    sigmas: Sequence[float] | Tensor,
    generator: Generators,
    *,
    draws: int,
    calm_below: float,
    progress: Progress | None,
) -> Tensor:
    """Song et al. 2023, algorithm 1, with the network told `told` at every step.

    Args:
        told: (B, condition_channels, S, S).
        outside: (B, C, S, S), what is known outside the hole, where every estimate becomes it.
        The others: as in `conditional`.
    """
    levels = check_sigmas(sigmas, denoiser)
    noise = draw(denoiser, len(told), generator)
    told, outside, hole = (values.to(noise.device) for values in (told, outside, hole))
    x = noise * levels[0]
    for i, sigma in enumerate(levels):
        if progress is not None:
            progress(i, len(levels))
        many = len(x) // len(told)
        clean = denoiser(x, sigma, condition=told.repeat_interleave(many, 0)).clamp(-1, 1)
        clean = clean.view(len(told), many, *clean.shape[1:]).mean(1)
        clean = torch.where(hole, clean, outside)
        if i + 1 < len(levels):
            spread = (levels[i + 1] ** 2 - denoiser.sigma_min**2) ** 0.5
            many = draws if levels[i + 1] < calm_below else 1
            noise = draw(denoiser, len(told), generator, many)
            x = clean.repeat_interleave(many, 0) + spread * noise
    return clean
