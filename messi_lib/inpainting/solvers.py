"""Filling a hole: the solvers by name, what they share, and the plainest of them, `replacement`.

`replacement`, `resample` and `cm4ir` use a consistency function that was trained for nothing of
the kind; `conditional` needs one that was trained to fill holes, `layer` one that draws the figure
alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..consistency.denoiser import Denoiser
from ..consistency.noise import karras_sigmas
from ..consistency.sampling import Progress, check_sigmas, start_noise
from ..consistency.unet import Inject

SOLVERS: tuple[str, ...] = ("replacement", "resample", "cm4ir", "conditional", "layer")

Generators = torch.Generator | Sequence[torch.Generator]


# --- what the solvers share ---------------------------------------------------------------------


def check_problem(
    denoiser: Denoiser, image: Tensor, hole: Tensor, strength: Tensor | None = None
) -> None:
    """Refuse what has led to colourful pictures before.

    Raises:
        ValueError: a shape other than the denoiser's, a hole that is not bool `(B,1,S,S)`, a
            strength that is not float `(B,1,S,S)` in [0,1], or known pixels outside [-1,1].
    """
    shape = (3, *denoiser.shape[1:])
    if image.ndim != 4 or tuple(image.shape[1:]) != shape:
        raise ValueError(f"image {tuple(image.shape)}: this generator takes (B, *{shape})")
    wanted = (len(image), 1, *image.shape[2:])
    if hole.dtype != torch.bool or tuple(hole.shape) != wanted:
        raise ValueError(f"hole must be bool {wanted}, not {hole.dtype} {tuple(hole.shape)}")
    hidden = hole
    if strength is not None:
        if not strength.is_floating_point() or tuple(strength.shape) != wanted:
            found = f"{strength.dtype} {tuple(strength.shape)}"
            raise ValueError(f"strength must be float {wanted}, not {found}")
        if not ((strength >= 0) & (strength <= 1)).all():
            raise ValueError("strength must lie in [0,1]: 1 where the image is not to be read")
        hidden = hole & (strength >= 1)
    known = torch.where(hidden, 0.0, image)
    if not (known.abs() <= 1 + 1e-4).all():
        raise ValueError("the known pixels must lie in [-1,1]: convert with images.to_tensor")


def draw(denoiser: Denoiser, n: int, generator: Generators, draws: int = 1) -> Tensor:
    """z ~ N(0, I), `(n * draws, C, S, S)`, image by image: from one generator, or one per image."""
    if isinstance(generator, torch.Generator):
        return start_noise(denoiser, n * draws, generator)
    return torch.cat([start_noise(denoiser, draws, each) for each in generator])


def check_counts(image: Tensor, generator: Generators, draws: int) -> None:
    """Refuse another number of generators than of images, and less than one draw (ValueError)."""
    if not isinstance(generator, torch.Generator) and len(generator) != len(image):
        raise ValueError(f"{len(generator)} generators for {len(image)} images: give one per image")
    if draws < 1:
        raise ValueError(f"draws={draws}: use 1 or more")


def own_levels(strength: Tensor, denoiser: Denoiser) -> Tensor:
    """The noise level below which a pixel is free, from its strength: 1 gives infinity.

    Linear on the ramp of Karras et al. 2022, eq. 5: 0 gives sigma_min, and the levels between lie
    where a grid would put them.
    """
    low, high = (level ** (1 / 7) for level in (denoiser.sigma_min, denoiser.sigma_max))
    return torch.where(strength >= 1, torch.inf, (low + strength * (high - low)) ** 7)


class Unknown:
    """Which pixels are free at a noise level: the hole, or with a soft strength a part of it.

    Differential diffusion (Levin and Fried 2023) for consistency functions: as long as the noise
    is above its own level (`own_levels`), a pixel counts as known; below, the generator may change
    it. Little strength thus allows a change of detail, more of it also one of shapes and colours.
    """

    def __init__(self, denoiser: Denoiser, hole: Tensor, strength: Tensor | None):
        self.hole = hole
        soft = None if strength is None else own_levels(strength.to(hole.device), denoiser)
        self.levels = soft

    def at(self, sigma: float) -> Tensor:
        """bool `(B,1,S,S)`, True where a pixel is not known at `sigma`."""
        return self.hole if self.levels is None else self.hole & (self.levels >= sigma)


# --- replacement --------------------------------------------------------------------------------


def calm_sigmas(steps: int, denoiser: Denoiser, last: float = 0.5) -> Tensor:
    """A Karras grid from sigma_max to `last`, `(steps,)`, for solvers with several draws.

    Below `last` a small network adds more of its own noise than it takes away.

    Raises:
        ValueError: fewer than one step.
    """
    if steps < 1:
        raise ValueError(f"steps={steps}: a hole needs at least one network call")
    return karras_sigmas(steps, last, denoiser.sigma_max)


def replacement(
    denoiser: Denoiser,
    image: Tensor,
    hole: Tensor,
    sigmas: Sequence[float] | Tensor,
    generator: Generators,
    *,
    draws: int = 1,
    calm_below: float = 1.5,
    strength: Tensor | None = None,
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
        strength: float `(B,1,S,S)` in [0,1], how much of a pixel in the hole may change, see
            `Unknown`: where it is below 1 the image is read; 1 everywhere is the same as None.
            Outside the hole it says nothing.
        progress: called as `progress(step, total)` before every network call; may raise to cancel.

    Returns:
        `(B,3,S,S)` in [-1,1], on the denoiser's device: outside the hole exactly the image.

    Raises:
        ValueError: see `check_problem` and `sampling.check_sigmas`; not one generator per image.
    """
    levels = check_sigmas(sigmas, denoiser)
    return follow(
        denoiser, image, hole, levels, generator, draws=draws, calm_below=calm_below,
        strength=strength, progress=progress, inject=inject,
    )  # fmt: skip


@torch.no_grad()
def follow(
    denoiser: Denoiser,
    image: Tensor,
    hole: Tensor,
    levels: Sequence[float],
    generator: Generators,
    *,
    draws: int,
    calm_below: float,
    strength: Tensor | None,
    progress: Progress | None,
    inject: Inject | None,
) -> Tensor:
    """`replacement` along any levels, also ones that rise again; arguments as there."""
    check_problem(denoiser, image, hole, strength)
    check_counts(image, generator, draws)
    noise = draw(denoiser, len(image), generator)
    image, unknown = image.to(noise), Unknown(denoiser, hole.to(noise.device), strength)
    x = torch.where(unknown.at(levels[0]), 0.0, image) + noise * levels[0]
    for i, sigma in enumerate(levels):
        if progress is not None:
            progress(i, len(levels))
        clean = denoiser(x, sigma, inject=inject).clamp(-1, 1)
        clean = clean.view(len(image), -1, *image.shape[1:]).mean(1)  # over the draws
        clean = torch.where(unknown.at(sigma), clean, image)
        if i + 1 < len(levels):
            many = draws if levels[i + 1] < calm_below else 1
            spread = (levels[i + 1] ** 2 - denoiser.sigma_min**2) ** 0.5
            noise = draw(denoiser, len(image), generator, many)
            x = clean.repeat_interleave(many, 0) + spread * noise
    return clean


# --- by name ------------------------------------------------------------------------------------


def solve(
    name: str,
    denoiser: Denoiser,
    image: Tensor,
    hole: Tensor,
    *,
    steps: int,
    generator: Generators,
    draws: int = 8,
    strength: Tensor | None = None,
    progress: Progress | None = None,
    inject: Inject | None = None,
) -> Tensor:
    """Fill a hole with the solver of that name, at the noise levels that suit it.

    Args:
        name: one of SOLVERS.
        steps: network calls per image, 1 or more.
        The others: as in `replacement`. `conditional` and `layer` take neither `strength` nor
            `inject`.

    Returns:
        `(B,3,S,S)` in [-1,1], on the denoiser's device: outside the hole exactly the image.

    Raises:
        ValueError: an unknown name, a denoiser or an argument that the solver does not take, and
            whatever the solver refuses.
    """
    check_solver(name, denoiser)
    common = dict(draws=draws, progress=progress)
    if name in ("conditional", "layer"):
        # Imported here, like the others below: they all build on this module.
        from .conditional import conditional, conditional_sigmas
        from .layer import behind, draw_layer, flatten

        if strength is not None or inject is not None:
            raise ValueError(
                f"{name} takes neither strength nor inject: its network was told of a hole "
                "with sharp borders; use replacement, resample or cm4ir"
            )
        sigmas = conditional_sigmas(steps, denoiser)
        if name == "layer":
            layer = draw_layer(denoiser, image, hole, sigmas, generator, **common)
            return flatten(layer, behind(image, hole))
        return conditional(denoiser, image, hole, sigmas, generator, **common)
    common |= dict(strength=strength, inject=inject)
    if name == "resample":
        from .resample import resample, resample_plan

        sigmas, times = resample_plan(steps, denoiser)
        common |= dict(resamplings=times, below=float(sigmas[-1]))
        return resample(denoiser, image, hole, sigmas, generator, **common)
    if name == "cm4ir":
        from .cm4ir import cm4ir, cm4ir_sigmas

        return cm4ir(denoiser, image, hole, cm4ir_sigmas(steps, denoiser), generator, **common)
    return replacement(denoiser, image, hole, calm_sigmas(steps, denoiser), generator, **common)


def check_solver(name: str, denoiser: Denoiser) -> None:
    """Refuse an unknown solver, and one that does not fit the denoiser.

    Raises:
        ValueError: says which solver or which weights to use instead.
    """
    from .conditional import CHANNELS
    from .layer import LAYER

    if name not in SOLVERS:
        raise ValueError(f"solver={name!r}: use one of {', '.join(SOLVERS)}")
    told, layers = denoiser.condition_channels, denoiser.channels == LAYER
    if layers and name != "layer":
        raise ValueError(f"{name} needs a generator of images, this one draws layers: use layer")
    if name == "layer" and not layers:
        raise ValueError(
            "layer needs a generator that draws layers, and this one draws images: train one with "
            "messi train layer"
        )
    if name in ("conditional", "layer") and told != CHANNELS:
        raise ValueError(
            f"{name} needs a generator for holes, and this one takes {told} condition "
            f"channels, not {CHANNELS}: train one with messi train inpainter, or use replacement"
        )
    if name not in ("conditional", "layer") and told:
        raise ValueError(
            f"{name} needs a generator that takes no condition, and this one takes {told} "
            "channels: use conditional"
        )
