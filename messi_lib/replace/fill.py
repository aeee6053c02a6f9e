"""From holes to pixels: what the generator puts into them, laid into the photo, the best kept.

A generator that fills holes makes all of a window's hole anew, and its edge has to fit. One that
draws layers makes figures: the place behind them is filled from the photo first, then they are laid
over it one after the other, whoever stands farther away first.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence

import numpy as np
import torch

from ..consistency.denoiser import Denoiser
from ..consistency.sampling import Progress
from ..inpainting.background import fill_background
from ..inpainting.composite import composite
from ..inpainting.conditional import conditional_sigmas
from ..inpainting.holes import Hole
from ..inpainting.layer import draw_layer, flaws
from ..inpainting.seam import measure
from ..inpainting.solvers import solve
from ..inpainting.weights import solver_for
from ..inpainting.window import Window, choose_window, cut, cut_region
from ..profiles import ReplaceConfig
from ..runs import seed_generator
from .candidates import Candidate, close_up

GREY = 12  # difference of channels from which on a pixel has a colour: JPEG tints grey by less
BATCH = 8  # windows that the generator fills at once


class Clock:
    """Seconds per stage."""

    def __init__(self):
        self.start = self.last = time.perf_counter()
        self.seconds: dict[str, float] = {}

    def mark(self, stage: str) -> None:
        """What took place since the last mark was this stage; the same one again adds up."""
        now = time.perf_counter()
        self.seconds[stage] = round(self.seconds.get(stage, 0.0) + now - self.last, 4)
        self.last = now

    def done(self) -> dict[str, float]:
        """Seconds of all stages, and of all together as "total"."""
        return {**self.seconds, "total": round(time.perf_counter() - self.start, 4)}


def generate_patches(
    denoiser: Denoiser,
    pixels: np.ndarray,
    unknown: np.ndarray,
    windows: Sequence[Window],
    steps: int,
    seed: int,
    draws: int = 8,
    *,
    solver: str = "",
    progress: Progress | None = None,
    known: torch.Tensor | None = None,
    regions: torch.Tensor | None = None,
) -> torch.Tensor:
    """What the generator puts into each window: `(N,C,S,S)` in [-1,1], S its own size.

    C is 3, or 4 from a generator that draws layers (`layer.draw_layer`).

    Args:
        pixels: uint8 `(H,W,3)`.
        unknown: bool `(H,W)`, all holes together: nobody who goes is context for another.
        windows: each gets noise of its own, derived from the seed and its place.
        steps: network calls of the solver.
        draws: estimates averaged at low noise levels (see `solvers.replacement`); 1 for none.
        solver: one of `solvers.SOLVERS`; "": the one that the denoiser is made for.
        progress: called as `progress(step, total)` before every network call; may raise to cancel.
        known: the windows as `look_through` cut them; None: they are cut here.
        regions: bool `(N,1,S,S)`, what is a hole in each window; None: all that is unknown.
    """
    size, name = denoiser.image_size, solver or solver_for(denoiser)
    known = look_through(pixels, unknown, windows, size) if known is None else known
    patches = []
    parts = range(0, len(windows), BATCH)
    for number, start in enumerate(parts):
        some = windows[start : start + BATCH]
        image = known[start : start + BATCH]
        if regions is None:
            hole = torch.cat([cut_region(unknown, window, size) for window in some])
        else:
            hole = regions[start : start + BATCH]
        more = {
            "generator": [seed_generator(seed, "replace", w.top, w.left, w.size) for w in some],
            "draws": draws,
            "progress": _part(progress, number, len(parts)),
        }
        if name == "layer":  # not yet laid over anything: that is done at the photo's resolution
            levels = conditional_sigmas(steps, denoiser)
            filled = draw_layer(denoiser, image, hole, levels, **more)
        else:
            filled = solve(name, denoiser, image, hole, steps=steps, **more)
        patches.append(filled.cpu())
    return torch.cat(patches)


def look_through(
    pixels: np.ndarray, unknown: np.ndarray, windows: Sequence[Window], size: int
) -> torch.Tensor:
    """What is known in each window, at the generator's size: `(N,3,size,size)` in [-1,1]."""
    return torch.cat([cut(pixels, window, size, unknown) for window in windows])


def _part(progress: Progress | None, number: int, parts: int) -> Progress | None:
    """The progress of one of several equal parts."""
    if progress is None:
        return None
    return lambda step, total: progress(number * total + step, parts * total)


def draws_layers(denoiser: Denoiser, config: ReplaceConfig) -> bool:
    """Whether figures are laid over the photo, rather than holes filled."""
    return (config.solver or solver_for(denoiser)) == "layer"


def fill_in(
    pixels: np.ndarray,
    holes: list[Hole],
    denoiser: Denoiser,
    config: ReplaceConfig,
    progress: Progress | None,
    clock: Clock,
) -> dict:
    """The fields of a Replacement that follow from the holes.

    Args:
        holes: `inpainting.holes.make_holes`, of people apart only for layers.
    """
    shape = pixels.shape[:2]
    unknown, windows = np.zeros(shape, bool), []
    for hole in holes:
        full = hole.full(shape)
        unknown |= full
        windows.append(choose_window(full, config.context, hole.feather))
    fields = {"pixels": pixels, "hole": unknown, "changed": np.zeros(shape, bool)}
    fields |= {"windows": windows, "seed": config.seed}
    if not holes:
        return fields
    size, back, regions = denoiser.image_size, None, None
    colourless = is_colourless(pixels)
    if draws_layers(denoiser, config):
        back = fill_background(pixels, unknown)
        clock.mark("background")
        # To each figure its own hole; in the others' the photo goes on without them.
        own = ((hole.full(shape), window) for hole, window in zip(holes, windows))
        told = [(cut(back, at, size, full), cut_region(full, at, size)) for full, at in own]
        known, regions = (torch.cat(each) for each in zip(*told))
    else:
        known = look_through(pixels, unknown, windows, size)
    clock.mark("cut")
    candidates, best = [], None
    for number in range(config.candidates):
        own = dataclasses.replace(config, seed=config.seed + number)
        patches = generate_patches(
            denoiser, pixels, unknown, windows, own.steps, own.seed, own.draws,
            solver=own.solver, progress=_part(progress, number, config.candidates), known=known,
            regions=regions,
        )  # fmt: skip
        if colourless:
            patches[:, :3] = patches[:, :3].mean(1, keepdim=True)
        clock.mark("generate")
        result, changed = _put_in(pixels, holes, windows, patches, known, unknown, own, back)
        clock.mark("composite")
        seams = tuple(measure(result, h.full(shape), h.feather, unknown) for h in holes)
        flawed = None if regions is None else float(np.mean(flaws(patches, regions)))
        candidate = Candidate(own.seed, seams, close_up(result, changed), flawed)
        candidates.append(candidate)
        if best is None or candidate.badness < best.badness:
            best = candidate
            fields |= {"pixels": result, "changed": changed, "seams": seams, "seed": own.seed}
            fields["badness"] = candidate.badness
        clock.mark("seam")
    if len(candidates) > 1:
        fields["candidates"] = tuple(sorted(candidates, key=lambda each: each.badness))
    return fields


def is_colourless(pixels: np.ndarray) -> bool:
    """Whether a photo, uint8 `(H,W,3)`, is black and white, though it may be stored in colour."""
    step = max(min(pixels.shape[:2]) // 500, 1)
    some = pixels[::step, ::step].astype(np.int16)
    return bool(np.mean(some.max(2) - some.min(2) > GREY) < 0.001)


def _put_in(
    pixels: np.ndarray,
    holes: list[Hole],
    windows: list[Window],
    patches: torch.Tensor,
    known: torch.Tensor,
    unknown: np.ndarray,
    config: ReplaceConfig,
    background: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    """The photo with all patches, and where it changed."""
    changed = np.zeros(unknown.shape, bool)
    order, layers = range(len(holes)), background is not None
    if layers:
        pixels, order = background, sorted(order, key=lambda number: _nearness(holes[number]))
    for hole, window, patch, seen in ((holes[n], windows[n], patches[n], known[n]) for n in order):
        place = (window.top, window.left, window.size)
        pixels, touched = composite(
            pixels,
            patch,
            window,
            hole.full(unknown.shape),
            hole.feather,
            unknown=unknown,
            known=seen[None],
            grain=seed_generator(config.seed, "grain", *place) if config.detail else None,
            blend=config.blend,
            background=pixels if layers else None,
        )
        changed |= touched
    return pixels, changed


def _nearness(hole: Hole) -> tuple[int, int]:
    """Sorts holes from far to near: feet that are lower in the photo are nearer, then larger."""
    return hole.top + hole.region.shape[0], int(hole.region.sum())
