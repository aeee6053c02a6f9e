"""The whole journey of a photo: find people, choose, make holes, generate, put in, save.

`replace` does it for one photo and returns arrays; `replace_folder` does it for files and folders
and writes photos, holes and a report. Each hole's noise depends on the seed and on where the hole
is, not on what else is in the photo or the batch.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from .consistency.denoiser import Denoiser, load_denoiser
from .images import (
    SUFFIXES,
    Photo,
    load_photo,
    named_format,
    output_format,
    photo_from,
    save_photo,
    write_png,
)
from .inpainting.composite import composite
from .inpainting.holes import Hole, make_holes
from .inpainting.solvers import calm_sigmas, replacement
from .inpainting.window import Window, choose_window, cut, cut_region
from .outputs import Names, check_writable, photos_outside
from .profiles import ReplaceConfig, current_profile, preset
from .runs import atomic_write, seed_generator
from .segmentation.infer import Segmentation, Segmenter
from .segmentation.people import Person

Finder = Callable[[np.ndarray], Segmentation]
BATCH = 8  # windows that the generator fills at once


@dataclass(frozen=True, eq=False)
class Replacement:
    """What became of one photo. `pixels` equal the photo's wherever `changed` is False."""

    photo: Photo
    pixels: np.ndarray  # uint8 (H, W, 3)
    hole: np.ndarray  # bool (H, W): what was generated
    changed: np.ndarray  # bool (H, W): the hole and its feather
    people: list[Person]  # found, the largest first
    chosen: tuple[int, ...]  # numbers of the people replaced, counted from 1
    windows: list[Window]
    seconds: dict[str, float]  # per stage, and "total"
    warnings: list[str]


def parse_people(people: str | Sequence[int]) -> str | tuple[int, ...]:
    """`"all"`, `"largest"`, or numbers counted from 1 (`"1,3"` or a sequence), the largest being 1.

    Raises:
        ValueError: anything else.
    """
    if people in ("all", "largest"):
        return people
    try:
        parts = people.split(",") if isinstance(people, str) else people
        numbers = tuple(sorted({int(part) for part in parts}))
    except (TypeError, ValueError):
        numbers = ()
    if not numbers or numbers[0] < 1:
        raise ValueError(f"people={people!r}: use all, largest, or numbers from 1 such as 1,3")
    return numbers


def choose(
    people: Sequence[Person], which: str | Sequence[int] = "all", min_area: float = 0.0
) -> tuple[tuple[int, ...], list[str]]:
    """Numbers (from 1) of the people to replace, and warnings.

    Args:
        people: the largest first.
        which: see `parse_people`.
        min_area: people smaller than this share of the photo are left alone.
    """
    which = parse_people(which)
    large = [n for n, person in enumerate(people, 1) if person.share >= min_area]
    if not people:
        return (), ["no person was found: the photo is unchanged"]
    if not large:
        return (), [f"all {len(people)} people are smaller than min_area: the photo is unchanged"]
    if which == "all":
        return tuple(large), []
    if which == "largest":
        return (large[0],), []
    missing = [n for n in which if n not in large]
    notes = [f"there is no person {n}: found {len(large)}" for n in missing]
    chosen = tuple(n for n in which if n in large)
    return chosen, notes if chosen else [*notes, "the photo is unchanged"]


def generate_patches(
    denoiser: Denoiser,
    pixels: np.ndarray,
    unknown: np.ndarray,
    windows: Sequence[Window],
    steps: int,
    seed: int,
    draws: int = 8,
) -> torch.Tensor:
    """What the generator puts into each window: `(N,3,S,S)` in [-1,1], S its own size.

    Args:
        pixels: uint8 `(H,W,3)`.
        unknown: bool `(H,W)`, all holes together: nobody who goes is context for another.
        windows: each gets noise of its own, derived from the seed and its place.
        steps: network calls of the solver.
        draws: estimates averaged at low noise levels (see `replacement`); 1 for none.
    """
    size = denoiser.image_size
    sigmas = calm_sigmas(steps, denoiser)
    patches = []
    for start in range(0, len(windows), BATCH):
        some = windows[start : start + BATCH]
        image = torch.cat([cut(pixels, window, size, unknown) for window in some])
        hole = torch.cat([cut_region(unknown, window, size) for window in some])
        generators = [seed_generator(seed, "replace", w.top, w.left, w.size) for w in some]
        filled = replacement(denoiser, image, hole, sigmas, generators, draws=draws)
        patches.append(filled.cpu())
    return torch.cat(patches)


def replace(
    photo: Photo | Path | str | np.ndarray,
    *,
    segmenter: Finder | None = None,
    denoiser: Denoiser | None = None,
    people: str | Sequence[int] = "all",
    config: ReplaceConfig | None = None,
    **overrides: float,
) -> Replacement:
    """Replace people in one photo.

    Args:
        photo: a Photo, a file, or uint8 `(H,W,3)`.
        segmenter: finds people; None: the one that ships.
        denoiser: the generator, a consistency function; None: the one that ships.
        people: "all", "largest", or numbers as in "1,3" (the largest person is 1).
        config: None: the preset of the current profile.
        **overrides: single fields of the configuration, such as `steps=4` or `seed=1`.

    Raises:
        ValueError, FileNotFoundError: a bad photo, a bad argument, missing weights.
    """
    parse_people(people)
    config = _configured(config, overrides)
    segmenter, denoiser = _models(segmenter, denoiser, config)
    clock = _Clock()
    if isinstance(photo, np.ndarray):
        photo = photo_from(photo)
    elif not isinstance(photo, Photo):
        photo = load_photo(photo)
    clock.mark("load")
    found = segmenter(photo.pixels)
    clock.mark("segment")
    chosen, notes = choose(found.people, people, config.min_area)
    regions = (found.people[n - 1].region for n in chosen)
    holes = make_holes(regions, config.grow, config.feather)
    clock.mark("holes")
    hole, changed, pixels, windows = _fill(photo.pixels, holes, denoiser, config, clock)
    notes = [*photo.warnings, *notes]
    return Replacement(
        photo, pixels, hole, changed, list(found.people), chosen, windows, clock.done(), notes
    )


def _fill(
    pixels: np.ndarray, holes: list[Hole], denoiser: Denoiser, config: ReplaceConfig, clock: _Clock
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[Window]]:
    shape = pixels.shape[:2]
    unknown, changed, windows = np.zeros(shape, bool), np.zeros(shape, bool), []
    for hole in holes:
        full = hole.full(shape)
        unknown |= full
        windows.append(choose_window(full, config.context, hole.feather))
    if not holes:
        return unknown, changed, pixels, windows
    patches = generate_patches(
        denoiser, pixels, unknown, windows, config.steps, config.seed, config.draws
    )
    clock.mark("generate")
    for hole, window, patch in zip(holes, windows, patches):
        full = hole.full(shape)
        pixels, touched = composite(pixels, patch, window, full, hole.feather, unknown=unknown)
        changed |= touched
    clock.mark("composite")
    return unknown, changed, pixels, windows


class _Clock:
    """Seconds per stage."""

    def __init__(self):
        self.start = self.last = time.perf_counter()
        self.seconds: dict[str, float] = {}

    def mark(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] = round(now - self.last, 4)
        self.last = now

    def done(self) -> dict[str, float]:
        return {**self.seconds, "total": round(time.perf_counter() - self.start, 4)}


def _configured(config: ReplaceConfig | None, overrides: dict) -> ReplaceConfig:
    checked = preset(ReplaceConfig, current_profile(), **overrides)  # refuses wrong ones
    config = checked if config is None else dataclasses.replace(config, **overrides)
    floors = {"steps": 1, "context": 1, "grow": 0, "feather": 0, "min_area": 0, "draws": 1}
    for name, least in floors.items():
        if getattr(config, name) < least:
            raise ValueError(f"{name}={getattr(config, name)}: use {least} or more")
    return config


def _models(
    segmenter: Finder | None, denoiser: Denoiser | None, config: ReplaceConfig
) -> tuple[Finder, Denoiser]:
    if segmenter is None:
        # Beside drawing, finding is quick: a second look, at the mirrored photo, is worth it.
        segmenter = Segmenter(threshold=config.threshold, min_area=config.min_area, mirror=True)
    return segmenter, load_denoiser() if denoiser is None else denoiser


def replace_folder(
    inputs: Iterable[Path | str],
    out: Path | str,
    *,
    segmenter: Finder | None = None,
    denoiser: Denoiser | None = None,
    people: str | Sequence[int] = "all",
    config: ReplaceConfig | None = None,
    format: str | None = None,
    **overrides: float,
) -> list[dict]:
    """Replace people in photos and folders of photos; what `messi replace` does.

    Writes `out/<name>` (in the photo's own format unless `format` says otherwise),
    `out/holes/<stem>.png` (white wherever a pixel may have changed) and `out/report.json`. Photos
    that would get the same name get a number. One bad file among several does not stop the others.

    Returns:
        The report: one dict per photo with `photo`, `output`, `hole`, `people` (number found),
        `chosen`, `seconds`, `stages`, `warnings`, and `error` (None, or one line; then `output` and
        `hole` are None).

    Raises:
        FileNotFoundError, ValueError, PermissionError: no input, a single photo that is bad, an
            `out` that cannot be written or is an input, missing weights, a bad argument.
    """
    parse_people(people)
    if format is not None:
        named_format(format)
    config = _configured(config, overrides)
    inputs = [Path(path) for path in ([inputs] if isinstance(inputs, (str, Path)) else inputs)]
    out = Path(out)
    photos = photos_outside(inputs, out)
    check_writable(out)
    only = len(photos) == 1 and photos[0] in inputs
    names = Names([*photos, out / "report.json"])
    segmenter, denoiser = _models(segmenter, denoiser, config)
    report: list[dict] = []
    interactive = sys.stderr.isatty() or _in_notebook()
    try:
        with tqdm(total=len(photos), disable=not interactive, unit="photo") as bar:
            for path in photos:
                entry = {"photo": str(path), "output": None, "hole": None, "people": 0}
                entry |= {"chosen": [], "seconds": 0.0, "stages": {}, "warnings": [], "error": None}
                start = time.perf_counter()
                try:
                    done = replace(
                        path, segmenter=segmenter, denoiser=denoiser, people=people, config=config
                    )
                    entry |= _save(done, out, names, format)
                except Exception as error:  # whatever is wrong with one file, the others go on
                    if only:
                        raise
                    entry["error"] = _one_line(error)
                entry["seconds"] = round(time.perf_counter() - start, 3)
                report.append(entry)
                line = f"[{len(report)}/{len(photos)}] {_summary(entry)}"
                if interactive:
                    bar.write(line, file=sys.stderr)
                else:
                    print(line, flush=True)
                bar.update()
    finally:
        if report:
            atomic_write(out / "report.json", json.dumps(report, indent=2) + "\n")
    return report


def _save(done: Replacement, out: Path, names: Names, format: str | None) -> dict:
    """Write one result and its hole; the rest of its line in the report."""
    photo, notes = done.photo, list(done.warnings)
    target = output_format(photo, format)
    name = photo.path.name if target == photo.format else photo.path.stem + SUFFIXES[target]
    output = names.free(out, name)
    hole = names.free(out / "holes", photo.path.stem + ".png")
    if output.name != name:
        notes.append(f"the name {name} is taken: saved as {output.name}")
    write_png(done.changed, hole)
    try:
        if done.changed.any() or target != photo.format:
            notes += save_photo(photo, done.pixels, done.changed, output, format=format)
        else:
            atomic_write(output, photo.path.read_bytes())
    except BaseException:
        hole.unlink()
        raise
    return {
        "output": str(output),
        "hole": str(hole),
        "people": len(done.people),
        "chosen": list(done.chosen),
        "stages": done.seconds,
        "warnings": notes,
    }


def _in_notebook() -> bool:
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if text and isinstance(error, (ValueError, OSError)) else repr(error)


def _summary(entry: dict) -> str:
    if entry["error"]:
        return f"{Path(entry['photo']).name}: FAILED: {entry['error']}"
    notes = "".join(f"; {note}" for note in entry["warnings"])
    count = f"{len(entry['chosen'])} of {entry['people']} people replaced"
    return f"{Path(entry['photo']).name}: {count}, {entry['seconds']:.1f} s{notes}"
