"""One photo: find people or take a hole, generate, choose among candidates, put in."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..consistency.denoiser import Denoiser
from ..consistency.sampling import Progress
from ..images import Photo, load_photo, photo_from
from ..inpainting.composite import BLENDS
from ..inpainting.holes import make_holes
from ..inpainting.seam import Seam
from ..inpainting.solvers import check_solver
from ..inpainting.weights import load_for, solver_for
from ..inpainting.window import Window
from ..profiles import ReplaceConfig, current_profile, preset
from ..segmentation.apart import ByFaces
from ..segmentation.infer import Segmentation
from ..segmentation.instances import NAME, open_segmenter
from ..segmentation.people import Person
from .candidates import Candidate
from .fill import Clock, draws_layers, fill_in
from .holes import one_hole, read_holes
from .people import choose, parse_people

Finder = Callable[[np.ndarray], Segmentation]


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


def replace(
    photo: Photo | Path | str | np.ndarray,
    *,
    segmenter: Finder | Path | str | None = None,
    denoiser: Denoiser | Path | str | None = None,
    people: str | Sequence[int] = "all",
    hole: np.ndarray | Iterable[np.ndarray] | Path | str | None = None,
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
            It grows by `grow` as the region of a person does; `grow=0` takes it as it is. Several
            of them are people: with a generator of layers each gets a figure, though they touch.
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
    clock = Clock()
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
        regions = read_holes(hole, photo.pixels.shape[:2])
    apart = config.apart and draws_layers(denoiser, config) and not one_hole(hole)
    holes = make_holes(regions, config.grow, config.feather, apart=apart)
    clock.mark("holes")
    filled = fill_in(photo.pixels, holes, denoiser, config, progress, clock)
    if filled["hole"].all():
        notes.append("the hole covers the whole photo: nothing is left to go by")
    notes = [*photo.warnings, *notes]
    return Replacement(
        photo, people=list(found), chosen=chosen, seconds=clock.done(), warnings=notes, **filled
    )


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
    instances = str(segmenter) == NAME
    finder = open_segmenter(segmenter, config.threshold, config.min_area, mirror=not instances)
    return ByFaces(finder, least=config.min_area) if config.apart and not instances else finder


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
