"""Several drawings for the same holes, ranked by their seams, and one picture of all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from ..inpainting.holes import crop_around
from ..inpainting.seam import Seam, overall

SIDE = 320  # longest side of one candidate in the picture
CAPTION = 22  # height in pixels of the line below each


@dataclass(frozen=True, eq=False)
class Candidate:
    """What one seed made of the holes; the same seed alone makes it again."""

    seed: int
    seams: tuple[Seam, ...]  # one per hole
    picture: np.ndarray  # uint8 (h, w, 3): the holes and what is around them, small
    flaws: float | None = None  # of layers: mean of `layer.flaws`; None: no layers

    @property
    def badness(self) -> float:
        """Mean over the holes, 0 for none: of the seams (`Seam.badness`), or the flaws of layers.

        The place behind a layer is the photo's own and has no seam: a figure is one, and none at
        all would be the best.
        """
        return overall(self.seams) if self.flaws is None else self.flaws


def close_up(pixels: np.ndarray, changed: np.ndarray, side: int = SIDE) -> np.ndarray:
    """The part of a photo around all that changed, uint8 `(h,w,3)`, at most `side` long."""
    tight = crop_around(changed, 0)
    margin = max(part.stop - part.start for part in tight) // 6 + 4
    part = pixels[crop_around(changed, margin)]
    scale = min(1.0, side / max(part.shape[:2]))
    size = tuple(max(round(length * scale), 1) for length in part.shape[1::-1])
    return cv2.resize(part, size, interpolation=cv2.INTER_AREA)


def sheet(candidates: Sequence[Candidate]) -> np.ndarray:
    """All candidates in one picture with rank and seed, uint8 `(H,W,3)`, best first."""
    height = max(max(c.picture.shape[0] for c in candidates), 60) + CAPTION
    width = max(max(c.picture.shape[1] for c in candidates), 150) + 6
    columns = math.ceil(math.sqrt(len(candidates)))
    rows = -(-len(candidates) // columns)
    canvas = np.full((rows * height, columns * width, 3), 255, np.uint8)
    for number, candidate in enumerate(candidates):
        top, left = number // columns * height, number % columns * width
        h, w = candidate.picture.shape[:2]
        canvas[top : top + h, left : left + w] = candidate.picture
        what = "seam" if candidate.flaws is None else "flaws"
        text = f"{number + 1}: seed {candidate.seed}, {what} {candidate.badness:.2f}"
        place = (left + 3, top + height - 7)
        cv2.putText(
            canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (20, 20, 20), 1, cv2.LINE_AA
        )
    return canvas
