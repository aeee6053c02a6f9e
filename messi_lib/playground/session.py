"""What the playground does, without its widgets: one photo, its hole, and the results so far.

The models are loaded at their first use and are used by one thread at a time. A generation can be
cancelled from another thread; it then stops before its next network call.
"""

from __future__ import annotations

import dataclasses
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from torch import nn

from ..consistency.denoiser import Denoiser
from ..consistency.train import load_run
from ..images import SUFFIXES, Photo, load_photo, output_format, photo_from, save_photo, write_png
from ..inpainting.weights import load_for, shipped_path
from ..profiles import ReplaceConfig, current_profile, preset
from ..replace import Finder, finder_for, replace
from ..runs import Run
from ..segmentation.apart import share_out
from ..segmentation.infer import Segmentation
from ..segmentation.people import Person
from .generation import Generation, keep

Progress = Callable[[int, int], None]  # (network calls done, in all)
Source = Photo | Path | str | np.ndarray
MIMES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "TIFF": "image/tiff"}
LOCK = threading.RLock()  # one model run at a time, however many playgrounds a notebook shows
EXPORT = "generator.safetensors"  # what a finished run leaves


class Cancelled(Exception):
    """The user pressed Cancel."""


class Session:
    """One photo on its way.

    Args:
        photo: a Photo, a file, or uint8 (H, W, 3); None to open one later.
        segmenter: a Segmenter (or any function from pixels to a Segmentation), a weights file,
            "maskrcnn", or None for the one that ships. `session.segmenter` may be set to another.
        denoiser: a Denoiser, a weights file, or None for what ships and fits the solver.
        config: None: the preset of the current profile.

    Raises:
        FileNotFoundError, ValueError: a photo that cannot be read. Weights are not looked for here.
    """

    def __init__(
        self,
        photo: Source | None = None,
        *,
        segmenter: Finder | Path | str | None = None,
        denoiser: Denoiser | Path | str | None = None,
        config: ReplaceConfig | None = None,
    ):
        self.config = config or preset(ReplaceConfig, current_profile())
        self.photo: Photo | None = None
        self.rounds: list[list[Generation]] = []  # the candidates of each press of Generate
        self.chosen = 0  # which of the last round's candidates
        self.segmenter = segmenter
        self._denoiser = denoiser
        self._loaded: dict[object, Denoiser] = {}  # see `_model`
        self._stop = threading.Event()
        if photo is not None:
            self.open(photo)

    # -- photos ----------------------------------------------------------------------------------

    def open(self, photo: Source) -> Photo:
        """Go on with another photo; its results start empty. A bad photo changes nothing."""
        if isinstance(photo, np.ndarray):
            photo = photo_from(photo)
        elif not isinstance(photo, Photo):
            photo = load_photo(photo)
        self.photo, self.rounds, self.chosen = photo, [], 0
        return photo

    def open_upload(self, name: str, content: bytes) -> Photo:
        """Like `open`, for the bytes of an uploaded file; errors name the file, not a temporary."""
        name = Path(name.replace("\\", "/")).name or "upload"
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_bytes(content)
            try:
                photo = load_photo(path)
            except (ValueError, OSError) as error:
                raise ValueError(str(error).replace(str(path), name)) from error
        return self.open(dataclasses.replace(photo, path=Path(name)))

    def need_photo(self) -> Photo:
        """The photo; ValueError if there is none yet."""
        if self.photo is None:
            raise ValueError("no photo yet: upload one or pick a sample")
        return self.photo

    # -- models at work --------------------------------------------------------------------------

    def find_people(self) -> Segmentation:
        """The people of the photo. Loads the segmenter at the first call."""
        photo = self.need_photo()
        with LOCK:
            self.segmenter = finder_for(self.segmenter, self.config)
            return self.segmenter(photo.pixels)

    def generate(
        self,
        painted: np.ndarray,
        *,
        candidates: int = 1,
        people: Sequence[Person] = (),
        progress: Progress | None = None,
        **settings: object,
    ) -> list[Generation]:
        """Fill a hole of the photo and remember the results. Loads the generator at the first call.

        Args:
            painted: the hole, bool (H, W), or how strongly it was painted, uint8 of 0 to 255 or
                float of 0 to 1; each connected part grows by its own size.
            candidates: how many, with the seeds `seed`, `seed + 1`, ...
            people: found in the photo; those who touch in the hole get a figure each, where figures
                are drawn.
            progress: called before each network call.
            **settings: fields of ReplaceConfig: solver, steps, seed, grow, feather, context.

        Returns:
            The candidates, the one with the least visible border first.

        Raises:
            Cancelled: `cancel` was called; nothing is remembered.
            ValueError: an empty hole, one of another size than the photo, a model that does not fit
                the solver.
        """
        photo = self.need_photo()
        painted = _checked(painted, photo.pixels.shape[:2])
        if candidates < 1:
            raise ValueError(f"candidates={candidates}: use 1 or more")
        config = dataclasses.replace(self.config, **settings, candidates=1)
        done: list[Generation] = []
        try:
            with LOCK:
                denoiser = self._model(config.solver)
                for number in range(candidates):
                    own = dataclasses.replace(config, seed=config.seed + number)
                    step = self._checkpoint(progress, number, candidates)
                    hole = share_out(painted > 0, people) if people and own.apart else painted > 0
                    result = replace(photo, hole=hole, denoiser=denoiser, config=own, progress=step)
                    done.append(keep(result, painted, own))
        finally:
            self._stop.clear()  # at the end: a cancel may come before the first step
        done.sort(key=lambda one: one.badness)
        self.rounds.append(done)
        self.chosen = 0
        return done

    def cancel(self) -> None:
        """Stop the generation under way, or the next one, before its next network call."""
        self._stop.set()

    def _model(self, solver: str) -> Denoiser:
        if isinstance(self._denoiser, nn.Module):
            return self._denoiser
        # A file given serves every solver that it fits (`solve` refuses the others); without one
        # there are several that ship.
        key = self._denoiser or shipped_path(solver)
        if key not in self._loaded:
            self._loaded[key] = load_for(solver, self._denoiser)
        return self._loaded[key]

    def _checkpoint(self, progress: Progress | None, number: int, candidates: int) -> Progress:
        """Called before each network call: says how far it is, or raises Cancelled."""

        def check(step: int, total: int) -> None:
            if self._stop.is_set():
                raise Cancelled
            if progress is not None:
                progress(number * total + step, candidates * total)

        return check

    # -- results ---------------------------------------------------------------------------------

    @property
    def current(self) -> Generation | None:
        """The chosen candidate of the last round."""
        return self.rounds[-1][self.chosen] if self.rounds else None

    def choose(self, number: int) -> Generation:
        """Another candidate of the last round, counted from 0.

        Raises:
            ValueError: there is no such candidate.
        """
        count = len(self.rounds[-1]) if self.rounds else 0
        if not 0 <= number < count:
            raise ValueError(f"there is no candidate {number + 1}: {count} were made")
        self.chosen = number
        return self.rounds[-1][number]

    def undo(self) -> Generation | None:
        """Forget the last round; returns the first candidate of the one before, if there is one."""
        if self.rounds:
            self.rounds.pop()
        self.chosen = 0
        return self.current

    def file(self, what: str = "result") -> tuple[str, str, bytes]:
        """The chosen result as a file like the photo, or its mask as PNG, white where it changed.

        Returns:
            Name, MIME type, content.

        Raises:
            ValueError: nothing was generated yet.
        """
        if self.current is None:
            raise ValueError("there is no result yet: press Generate")
        made = self.current
        source = made.photo.path or Path("photo.png")
        with tempfile.TemporaryDirectory() as folder:
            if what == "mask":
                path = write_png(made.changed, Path(folder) / f"{source.stem}_mask.png")
                return path.name, "image/png", path.read_bytes()
            kind = output_format(made.photo)
            suffix = source.suffix if kind == made.photo.format else SUFFIXES[kind]
            path = Path(folder) / f"{source.stem}_replaced{suffix}"
            save_photo(made.photo, made.pixels, made.changed, path)
            return path.name, MIMES.get(kind, "application/octet-stream"), path.read_bytes()


def model_of(run: Run | Path) -> Denoiser | Path:
    """The generator of a run: the file that it left, or the average as far as it has come.

    Raises:
        FileNotFoundError, ValueError: as `consistency.train.load_run`.
    """
    folder = run.folder if isinstance(run, Run) else Path(run)
    return folder / EXPORT if (folder / EXPORT).is_file() else load_run(folder)[0]


def _checked(painted: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """bool, or uint8 if some strokes were soft."""
    painted = np.asarray(painted)
    if painted.dtype.kind == "f" and painted.size and 0 <= painted.min() <= painted.max() <= 1:
        painted = np.rint(painted * 255).astype(np.uint8)
    if painted.dtype not in (bool, np.uint8) or painted.shape != shape:
        found = f"{painted.dtype} {painted.shape}"
        raise ValueError(f"hole must be bool {shape}, or a strength from 0 to 1, not {found}")
    if not painted.any():
        raise ValueError("the hole is empty: paint over what is to go, or press Find people")
    hard = painted.dtype == bool or ((painted == 0) | (painted == 255)).all()
    return painted > 0 if hard else painted.copy()
