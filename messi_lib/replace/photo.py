"""One photo: find people or take a hole, generate, choose among candidates, put in."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..consistency.denoiser import Denoiser
from ..consistency.sampling import Progress
from ..images import Photo, load_photo, photo_from
from ..inpainting.background import fill_background
from ..inpainting.composite import BLENDS, composite
from ..inpainting.conditional import conditional_sigmas
from ..inpainting.holes import Hole, make_holes
from ..inpainting.layer import draw_layer, flaws
from ..inpainting.seam import Seam, measure
from ..inpainting.solvers import check_solver, solve
from ..inpainting.weights import load_for, solver_for
from ..inpainting.window import Window, choose_window, cut, cut_region
from ..profiles import ReplaceConfig, current_profile, preset
from ..runs import seed_generator
from ..segmentation.infer import Segmentation
from ..segmentation.instances import NAME, open_segmenter
from ..segmentation.people import Person, people_from
from .candidates import Candidate, close_up
from .holes import read_hole
from .people import choose, parse_people

Finder = Callable[[np.ndarray], Segmentation]
GREY = 12  # difference of channels from which on a pixel has a colour: JPEG tints grey by less
BATCH = 8  # windows that the generator fills at once


@dataclass(frozen=True, eq=False)
class Replacement:
    """What became of one photo. `pixels` equal the photo's wherever `changed` is False."""

    photo: Photo
    pixels: np.ndarray  # uint8 (H, W, 3)
    hole: np.ndarray  # bool (H, W): what was generated
    changed: np.ndarray  # bool (H, W): the hole and its feather
    people: list[Person]  # found, the largest first; empty if a hole was given
    chosen: tuple[int, ...]  # numbers of the people replaced, counted from 1
    windows: list[Window]
    seconds: dict[str, float]  # per stage, and "total"
    warnings: list[str]
    seams: tuple[Seam, ...] = ()  # one per window
    seed: int = 0  # of `pixels`: alone it makes them again
    badness: float = 0.0  # of `pixels`, see `Candidate.badness`
    candidates: tuple[Candidate, ...] = ()  # the best first; empty if only one was asked for


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


def replace(
    photo: Photo | Path | str | np.ndarray,
    *,
    segmenter: Finder | Path | str | None = None,
    denoiser: Denoiser | Path | str | None = None,
    people: str | Sequence[int] = "all",
    hole: np.ndarray | Path | str | None = None,
    config: ReplaceConfig | None = None,
    progress: Progress | None = None,
    **overrides: object,
) -> Replacement:
    """Replace people in one photo.

    Args:
        photo: a Photo, a file, or uint8 `(H,W,3)`.
        segmenter: finds people; a file of weights, "maskrcnn", or None: the one that ships.
        denoiser: the generator, a consistency function; a file, or None: the one that ships.
        people: "all", "largest", or numbers as in "1,3" (the largest person is 1).
        hole: replace this instead of people (see `holes.read_hole`; True or white is replaced).
            It grows by `grow` as the region of a person does; `grow=0` takes it as it is.
        config: None: the preset of the current profile.
        progress: called as `progress(step, total)` before every network call of the generator; may
            raise to cancel.
        **overrides: single fields of the configuration, such as `steps=4` or `seed=1`.

    Raises:
        ValueError, FileNotFoundError: a bad photo, a bad argument, missing weights.
    """
    parse_people(people)
    config = configured(config, overrides)
    segmenter, denoiser = models(segmenter, denoiser, config, hole is None)
    clock = _Clock()
    if isinstance(photo, np.ndarray):
        photo = photo_from(photo)
    elif not isinstance(photo, Photo):
        photo = load_photo(photo)
    clock.mark("load")
    if hole is None:
        found = segmenter(photo.pixels).people
        clock.mark("segment")
        chosen, notes = choose(found, people, config.min_area)
        regions = (found[n - 1].region for n in chosen)
    else:
        found, chosen, notes = [], (), []
        drawn = read_hole(hole, photo.pixels.shape[:2])
        regions = (part.region for part in people_from(drawn, 0.0))
    holes = make_holes(regions, config.grow, config.feather)
    clock.mark("holes")
    filled = _fill(photo.pixels, holes, denoiser, config, progress, clock)
    if filled["hole"].all():
        notes.append("the hole covers the whole photo: nothing is left to go by")
    notes = [*photo.warnings, *notes]
    return Replacement(
        photo, people=list(found), chosen=chosen, seconds=clock.done(), warnings=notes, **filled
    )


def _fill(
    pixels: np.ndarray,
    holes: list[Hole],
    denoiser: Denoiser,
    config: ReplaceConfig,
    progress: Progress | None,
    clock: _Clock,
) -> dict:
    """The fields of a Replacement that follow from the holes."""
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
    if (config.solver or solver_for(denoiser)) == "layer":
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
    for hole, window, patch, seen in zip(holes, windows, patches, known):
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
            background=background,
        )
        changed |= touched
    return pixels, changed


class _Clock:
    """Seconds per stage."""

    def __init__(self):
        self.start = self.last = time.perf_counter()
        self.seconds: dict[str, float] = {}

    def mark(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] = round(self.seconds.get(stage, 0.0) + now - self.last, 4)
        self.last = now

    def done(self) -> dict[str, float]:
        return {**self.seconds, "total": round(time.perf_counter() - self.start, 4)}


def configured(config: ReplaceConfig | None, overrides: dict) -> ReplaceConfig:
    """The configuration with single fields replaced, checked.

    Raises:
        ValueError: an unknown field, or a value out of range.
    """
    checked = preset(ReplaceConfig, current_profile(), **overrides)  # refuses wrong ones
    config = checked if config is None else dataclasses.replace(config, **overrides)
    floors = {"steps": 1, "context": 1, "grow": 0, "feather": 0, "min_area": 0, "draws": 1}
    floors["candidates"] = 1
    for name, least in floors.items():
        if getattr(config, name) < least:
            raise ValueError(f"{name}={getattr(config, name)}: use {least} or more")
    if config.blend not in BLENDS:
        raise ValueError(f"blend={config.blend!r}: use one of {', '.join(BLENDS)}")
    return config


def finder_for(segmenter: Finder | Path | str | None, config: ReplaceConfig) -> Finder:
    """The finder itself, or the one of a file, of "maskrcnn", or that ships.

    Raises:
        FileNotFoundError, ValueError: missing or wrong weights.
    """
    if segmenter is not None and not isinstance(segmenter, (str, Path)):
        return segmenter
    # Beside drawing, finding is quick: a second look, at the mirrored photo, is worth it.
    mirror = str(segmenter) != NAME
    return open_segmenter(segmenter, config.threshold, config.min_area, mirror=mirror)


def models(
    segmenter: Finder | Path | str | None,
    denoiser: Denoiser | Path | str | None,
    config: ReplaceConfig,
    find: bool = True,
) -> tuple[Finder | None, Denoiser]:
    """Both models, loaded where a file is named or nothing; without `find` no segmenter.

    Raises:
        FileNotFoundError, ValueError: missing weights, or a solver that they do not fit.
    """
    segmenter = finder_for(segmenter, config) if find else None
    if denoiser is None or isinstance(denoiser, (str, Path)):
        denoiser = load_for(config.solver, denoiser)
    check_solver(config.solver or solver_for(denoiser), denoiser)
    return segmenter, denoiser
