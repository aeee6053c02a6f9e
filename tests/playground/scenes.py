"""Pictures whose people are what is purely red, and an exact finder for them."""

from __future__ import annotations

import numpy as np
from PIL import Image

from messi_lib.profiles import ReplaceConfig
from messi_lib.segmentation.infer import Segmentation
from messi_lib.segmentation.people import people_from

CONFIG = ReplaceConfig(steps=3)


def find_red(pixels: np.ndarray) -> Segmentation:
    person = (pixels[..., 0] > 200) & (pixels[..., 1:] < 60).all(-1)
    return Segmentation(person, person.astype(np.float32), people_from(person, 0.0))


def scene(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    """A smooth background with red people at (top, left, height, width)."""
    coarse = np.random.default_rng(0).integers(60, 190, (4, 5, 3), dtype=np.uint8)
    pixels = np.array(Image.fromarray(coarse).resize((120, 90), Image.Resampling.BICUBIC))
    for top, left, height, width in boxes:
        pixels[top : top + height, left : left + width] = (255, 0, 0)
    return pixels


ONE, TWO = (20, 40, 40, 20), (30, 90, 30, 12)


def painted(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    """The people of `scene(*boxes)` as a region, bool (90, 120)."""
    return find_red(scene(*boxes)).person
