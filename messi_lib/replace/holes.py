"""A hole of one's own: a picture or an array that says what is to be replaced."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from ..images import load_photo
from ..segmentation.people import people_from

Hole = np.ndarray | Path | str


def read_hole(hole: np.ndarray | Path | str, shape: tuple[int, int]) -> np.ndarray:
    """A hole for a photo of `shape` (rows, columns), bool `(H,W)`.

    Args:
        hole: bool `(H,W)`, or an image file of the photo's size, upright as the photo is seen:
            white (lighter than the middle grey) is replaced, black stays.

    Raises:
        FileNotFoundError, ValueError: a file that cannot be read, another size than the photo's, an
            array that is not bool, or nothing to replace.
    """
    name = "the hole"
    if isinstance(hole, (str, Path)):
        name = f"the hole {hole}"
        hole = load_photo(hole).pixels.mean(2) > 127.5
    hole = np.asarray(hole)
    if hole.dtype != bool or hole.ndim != 2:
        raise ValueError(f"{name} must be bool (H,W), not {hole.dtype} {hole.shape}")
    if hole.shape != tuple(shape):
        sizes = (f"{width}x{height}" for height, width in (hole.shape, shape))
        raise ValueError("{} has {} pixels, the photo {}: give one of the same size".format(
            name, *sizes))  # fmt: skip
    if not hole.any():
        raise ValueError(f"{name} is empty (all black): white is what gets replaced")
    return hole


def read_holes(hole: Hole | Iterable[np.ndarray], shape: tuple[int, int]) -> Iterator[np.ndarray]:
    """The regions of one hole, which are its connected parts, or of several: bool `(H,W)` each.

    Raises:
        FileNotFoundError, ValueError: as `read_hole`; of several not a single one.
    """
    if one_hole(hole):
        yield from (part.region for part in people_from(read_hole(hole, shape), 0.0))
        return
    given = False
    for one in hole:
        given = True
        yield read_hole(one, shape)
    if not given:
        raise ValueError("no hole at all: give arrays bool (H,W) of what is to be replaced")


def one_hole(hole: Hole | Iterable[np.ndarray] | None) -> bool:
    """Whether this is one hole, and not several (or none)."""
    return isinstance(hole, (np.ndarray, str, Path))
