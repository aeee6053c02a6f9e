"""What the playground does, without its widgets: one photo, its hole, and the results so far.

The models are loaded at their first use and are used by one thread at a time. A generation can be
cancelled from another thread; it then stops before its next network call.
"""

from __future__ import annotations

import dataclasses
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import nn

from ..consistency.denoiser import Denoiser, load_denoiser
from ..images import SUFFIXES, Photo, load_photo, output_format, photo_from, save_photo
from ..profiles import ReplaceConfig, current_profile, preset
from ..replace import BATCH, Finder, Replacement, replace
from ..segmentation.infer import Segmentation, Segmenter
from ..segmentation.people import people_from

Progress = Callable[[int, int], None]  # (network calls done, in all)
MIMES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "TIFF": "image/tiff"}
LOCK = threading.RLock()  # one model run at a time, however many playgrounds a notebook shows


class Cancelled(Exception):
    """The user pressed Cancel."""


@dataclass(frozen=True, eq=False)
class Generation:
    """One result and all that makes it again: the painted hole and the settings."""

    result: Replacement
    painted: np.ndarray  # bool (H, W), before growing
    config: ReplaceConfig


class Session:
    """One photo on its way.

    Args:
        photo: a Photo, a file, or uint8 (H, W, 3); None to open one later.
        segmenter: a Segmenter (or any function from pixels to a Segmentation), a weights file, or
            None for the one that ships.
        denoiser: a Denoiser, a weights file, or None for the one that ships.
        config: None: the preset of the current profile.

    Raises:
        FileNotFoundError, ValueError: a photo that cannot be read. Weights are not looked for here.
    """

    def __init__(
        self,
        photo: Photo | Path | str | np.ndarray | None = None,
        *,
        segmenter: Finder | Path | str | None = None,
        denoiser: Denoiser | Path | str | None = None,
        config: ReplaceConfig | None = None,
    ):
        self.config = config or preset(ReplaceConfig, current_profile())
        self.photo: Photo | None = None
        self.generations: list[Generation] = []
        self._segmenter, self._denoiser = segmenter, denoiser
        self._stop = threading.Event()
        if photo is not None:
            self.open(photo)

    def open(self, photo: Photo | Path | str | np.ndarray) -> Photo:
        """Go on with another photo; its results start empty. A bad photo changes nothing."""
        if isinstance(photo, np.ndarray):
            photo = photo_from(photo)
        elif not isinstance(photo, Photo):
            photo = load_photo(photo)
        self.photo, self.generations = photo, []
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

    def find_people(self) -> Segmentation:
        """The people of the photo. Loads the segmenter at the first call."""
        photo = self.need_photo()
        with LOCK:
            if self._segmenter is None or isinstance(self._segmenter, (str, Path)):
                self._segmenter = Segmenter(
                    self._segmenter, threshold=self.config.threshold, mirror=True
                )
            return self._segmenter(photo.pixels)

    def generate(
        self, hole: np.ndarray, *, progress: Progress | None = None, **settings: float
    ) -> Generation:
        """Fill a hole of the photo and remember the result. Loads the generator at the first call.

        Args:
            hole: bool (H, W); each connected part grows by its own size.
            progress: called before each network call.
            **settings: fields of ReplaceConfig: steps, seed, grow, feather, context.

        Raises:
            Cancelled: `cancel` was called; nothing is remembered.
            ValueError: an empty hole, or one of another size than the photo.
        """
        photo = self.need_photo()
        if hole.dtype != bool or hole.shape != photo.pixels.shape[:2]:
            shape = photo.pixels.shape[:2]
            raise ValueError(f"hole must be bool {shape}, not {hole.dtype} {hole.shape}")
        if not hole.any():
            raise ValueError("the hole is empty: paint over what is to go, or press Find people")
        # What was painted stands in for the people found.
        parts = people_from(hole, min_area=0.0)
        painted = Segmentation(hole, hole.astype(np.float32), parts)
        config = dataclasses.replace(self.config, **settings, min_area=0.0)
        self._stop.clear()
        with LOCK:
            if self._denoiser is None or isinstance(self._denoiser, (str, Path)):
                self._denoiser = load_denoiser(self._denoiser)
            total = config.steps * -(-len(parts) // BATCH)
            with _watched(self._denoiser, self._checkpoint(progress, total)):
                result = replace(
                    photo, segmenter=lambda _: painted, denoiser=self._denoiser, config=config
                )
        generation = Generation(result, hole.copy(), config)
        self.generations.append(generation)
        return generation

    def cancel(self) -> None:
        """Stop the generation under way before its next network call."""
        self._stop.set()

    def undo(self) -> Generation | None:
        """Forget the last result; returns the one before, if there is one."""
        if self.generations:
            self.generations.pop()
        return self.generations[-1] if self.generations else None

    def file(self) -> tuple[str, str, bytes]:
        """The last result as a file like the photo: (name, MIME type, content).

        Raises:
            ValueError: nothing was generated yet.
        """
        if not self.generations:
            raise ValueError("there is no result yet: press Generate")
        result = self.generations[-1].result
        source = result.photo.path or Path("photo.png")
        kind = output_format(result.photo)
        suffix = source.suffix if kind == result.photo.format else SUFFIXES[kind]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{source.stem}_replaced{suffix}"
            save_photo(result.photo, result.pixels, result.changed, path)
            return path.name, MIMES.get(kind, "application/octet-stream"), path.read_bytes()

    def need_photo(self) -> Photo:
        """The photo; ValueError if there is none yet."""
        if self.photo is None:
            raise ValueError("no photo yet: upload one or pick a sample")
        return self.photo

    def _checkpoint(self, progress: Progress | None, total: int) -> Callable[[], None]:
        """Called before each network call: says how far it is, or raises Cancelled."""
        calls = iter(range(10**9))

        def check() -> None:
            if self._stop.is_set():
                raise Cancelled
            if progress is not None:
                progress(next(calls), total)

        return check


@contextmanager
def _watched(model: nn.Module, check: Callable[[], None]) -> Iterator[None]:
    """Call `check` before each call of the model by this thread; others use it undisturbed."""
    here = threading.get_ident()

    def before(module: nn.Module, inputs: tuple) -> None:
        if threading.get_ident() == here:
            check()

    handle = model.register_forward_pre_hook(before)
    try:
        yield
    finally:
        handle.remove()
