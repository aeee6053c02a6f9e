"""Resampling: going back up in noise, so that hole and surroundings can agree on each other.

After one pass the hole fits its surroundings badly: what the network drew at high noise could not
know them, and lower levels change little. RePaint (Lugmayr et al. 2022) therefore walks part of
the way back up and down again.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..consistency.denoiser import Denoiser
from ..consistency.sampling import Progress, check_sigmas
from ..consistency.unet import Inject
from .solvers import Generators, calm_sigmas, follow


def resample_levels(
    sigmas: Sequence[float], jump: int, resamplings: int, below: float = float("inf")
) -> list[float]:
    """The levels in the order in which RePaint visits them (Lugmayr et al. 2022, appendix B).

    Counted from the end of the grid, every `jump` levels are a stretch; at the end of a stretch the
    walk goes back to its beginning, until it has gone through `resamplings` times.

    Args:
        sigmas: descending.
        jump: levels in a stretch, at most one less than there are: the first, where nothing of
            the picture is known yet, comes once.
        resamplings: how often each stretch is gone through; 1 gives the grid itself.
        below: stretches that begin at a higher level are gone through once.

    Raises:
        ValueError: a jump or a number that is not positive, or a jump longer than the grid.
    """
    if jump < 1 or resamplings < 1:
        raise ValueError(f"jump={jump}, resamplings={resamplings}: use 1 or more of each")
    count = len(sigmas)
    if resamplings > 1 and jump >= count:
        raise ValueError(f"jump={jump} is too long for {count} levels: use at most {count - 1}")
    ends = (left for left in range(0, count - jump, jump) if sigmas[count - left - jump] <= below)
    back = dict.fromkeys(ends, resamplings - 1)
    visited, left = [], count  # `left`: levels still to come, if there is no jump
    while left:
        visited.append(sigmas[count - left])
        left -= 1
        if back.get(left, 0):
            back[left] -= 1
            left += jump
    return visited


def resample_plan(steps: int, denoiser: Denoiser) -> tuple[Tensor, int]:
    """(grid, resamplings) for a budget of `steps` network calls; the last level is repeated.

    Five eighths of the calls descend as in `replacement`, the others repeat the last level. On 96
    held-out scenes, for eight calls, that fitted the surroundings better (mean step across the edge
    17.5 of 255; `replacement` 18.6) at the same error (38.0 and 37.6, to within 0.7). Each of four
    levels twice (19.6, 38.7) and stretches of two levels (20.8, 39.6) were worse: high levels draw
    anew what had just fitted.
    """
    grid = calm_sigmas(-(-5 * steps // 8), denoiser)
    return grid, steps - len(grid) + 1


def resample(
    denoiser: Denoiser,
    image: Tensor,
    hole: Tensor,
    sigmas: Sequence[float] | Tensor,
    generator: Generators,
    *,
    jump: int = 1,
    resamplings: int = 2,
    below: float = float("inf"),
    draws: int = 1,
    calm_below: float = 1.5,
    strength: Tensor | None = None,
    progress: Progress | None = None,
    inject: Inject | None = None,
) -> Tensor:
    """`replacement` with the jumps of RePaint (Lugmayr et al. 2022, algorithm 1).

    RePaint returns from x at level r to level t by adding noise (its line 9; with noise that
    explodes, x + sqrt(t^2 - r^2) z). A consistency function gives a clean image c at every level,
    and x = c + sqrt(r^2 - sigma_min^2) z' is only drawn to be cleaned again. The two noises add up
    to one of variance t^2 - sigma_min^2 on c: a jump is a step to a higher level, nothing else.

    Args:
        sigmas, jump, resamplings, below: see `resample_levels`; with `resamplings` 1 the result is
            that of `replacement`, bit for bit.
        The others: as in `replacement`.

    Returns:
        `(B,3,S,S)` in [-1,1], on the denoiser's device: outside the hole exactly the image.

    Raises:
        ValueError: see `resample_levels` and `replacement`.
    """
    levels = resample_levels(check_sigmas(sigmas, denoiser), jump, resamplings, below)
    return follow(
        denoiser, image, hole, levels, generator, draws=draws, calm_below=calm_below,
        strength=strength, progress=progress, inject=inject,
    )  # fmt: skip
