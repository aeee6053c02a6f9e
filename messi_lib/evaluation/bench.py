"""What an evaluation works with: the extractor, its cache, a clock, and pictures for the report."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator

import numpy as np
from torch import Tensor
from tqdm import tqdm

from messi_lib.evaluation.features import Extractor
from messi_lib.evaluation.report import INPUT_SIZE
from messi_lib.evaluation.store import PORTION, FeatureStore
from messi_lib.images import grid, resize, to_tensor, to_uint8

Draw = Callable[[int, int, int], Tensor]  # (start, count, steps) -> (count, 3, S, S) in [-1, 1]
TILE = 64  # px, at least, of an image in a picture
WIDTH = 1024  # px, about, of a picture


class Clock:
    """Where the time went, by stage; and whether there is any left."""

    def __init__(self, seconds: float | None = None):
        self.stages: dict[str, float] = defaultdict(float)
        self.began, self.seconds = time.perf_counter(), seconds

    @contextlib.contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.stages[stage] += time.perf_counter() - began

    def used(self) -> float:
        """Seconds since the beginning."""
        return time.perf_counter() - self.began

    def report(self) -> dict[str, float]:
        """Seconds by stage, and under "all" from the beginning until now."""
        stages = {name: round(value, 2) for name, value in self.stages.items()}
        return {**stages, "all": round(self.used(), 2)}

    def left(self) -> float:
        """Seconds until the budget is used up; infinite without one."""
        return float("inf") if self.seconds is None else self.seconds - self.used()


class Bench:
    """Extracts features once, and counts what it did.

    Args:
        store: features of photos; `drawn_store` those of generated images.
        clock: its stages are filled.
    """

    def __init__(
        self,
        extractor: Extractor,
        store: FeatureStore,
        drawn_store: FeatureStore,
        batch: int,
        clock: Clock,
    ):
        self.extractor, self.batch, self.clock = extractor, batch, clock
        self.store, self.drawn_store = store, drawn_store
        self.extracted = 0
        self.pace = 0.0  # seconds that the last portion of generated images took

    def features(
        self, images: np.ndarray, who: str, store: FeatureStore | None = None
    ) -> np.ndarray:
        """float64 (N, d) of uint8 (N, S, S, 3)."""
        with self.clock(f"features of {who}"):
            values, fresh = (store or self.store).features(
                shrunk(images), self.extractor, self.batch, title=who
            )
        self.extracted += fresh
        return values

    def time_for(self, reserve: float) -> bool:
        """Whether a portion more leaves `reserve` seconds of the budget, if it takes as long as
        the last one."""
        return self.clock.left() > reserve + self.pace

    def drawn(
        self, draw: Draw, n: int, steps: int, reserve: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Up to n images and their features: uint8 (M, S, S, 3) and float64 (M, d).

        Args:
            reserve: seconds to leave of the clock's budget, see `time_for`; a first portion is
                drawn in any case.

        Raises:
            ValueError: the generator gives values that are no numbers.
        """
        images, features = [], []
        title = f"{steps} step{'s' if steps > 1 else ''}"
        for start in tqdm(range(0, n, PORTION), desc=title, disable=n < 200 or None):
            if images and not self.time_for(reserve):
                break
            before = self.clock.used()
            with self.clock("sampling"):
                images.append(to_uint8(draw(start, min(PORTION, n - start), steps)))
            features.append(self.features(images[-1], "generated images", self.drawn_store))
            self.pace = self.clock.used() - before
        return np.concatenate(images), np.concatenate(features)


def shrunk(images: np.ndarray) -> np.ndarray:
    """Images that Inception would shrink without antialiasing, shrunk with it; others as given."""
    if images.shape[1] <= INPUT_SIZE:
        return images
    parts = [images[i : i + PORTION] for i in range(0, len(images), PORTION)]
    return np.concatenate([to_uint8(resize(to_tensor(part), INPUT_SIZE)) for part in parts])


def enlarged(picture: np.ndarray, side: int) -> np.ndarray:
    """A picture made of images of `side` px, so large that each can be seen."""
    scale = max(TILE // side, 1)
    return picture.repeat(scale, 0).repeat(scale, 1)


def contact_sheet(images: np.ndarray) -> np.ndarray:
    """The first images of uint8 (N, S, S, 3), in about four rows, as uint8 (H, W, 3)."""
    side = images.shape[1]
    scale = max(TILE // side, 1)
    columns = min(max(WIDTH // (side * scale), 4), 16)
    return grid(to_tensor(images[: 4 * columns]), columns=columns, scale=scale)
