"""The square window through which the generator sees a hole, and the way back.

The generator knows one square size; a photo has any. The window is cut at the photo's own
resolution around the hole, with some context, and only then resized to the generator's size. Where
it passes over the photo's border, the photo is continued by its mirror image.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from ..images import resize, resize_region, to_tensor
from .holes import bounding_box


@dataclass(frozen=True)
class Window:
    """A square of `size` pixels with its upper left corner at `(top, left)` of the photo.

    It may pass over the photo's border: `top` and `left` may be negative.
    """

    top: int
    left: int
    size: int

    def inside(self, shape: tuple[int, int]) -> tuple[slice, slice]:
        """The part of the photo that the window shows: slices of rows and columns."""
        height, width = shape
        rows = slice(max(self.top, 0), min(self.top + self.size, height))
        return rows, slice(max(self.left, 0), min(self.left + self.size, width))


def choose_window(hole: np.ndarray, context: float = 1.35, feather: int = 0) -> Window:
    """The window around a hole.

    Args:
        hole: bool `(H,W)`, not empty.
        context: side of the window as a multiple of the hole's longest side, at least 1.
        feather: pixels around the hole that the window must show as well.

    Returns:
        A window centred on the hole, but moved into the photo where it fits, and not larger than
        the photo's longest side: real surroundings are worth more than mirrored ones.

    Raises:
        ValueError: an empty hole, or a context below 1.
    """
    box = bounding_box(hole)
    if box is None:
        raise ValueError("the hole is empty: there is nothing to put a window around")
    if context < 1:
        raise ValueError(f"context={context}: a window smaller than its hole; use 1 or more")
    y0, x0, y1, x1 = box
    side = max(y1 - y0, x1 - x0)
    size = max(round(context * side), side + 2 * feather + 2)
    size = max(min(size, max(hole.shape)), side)
    top = _place((y0 + y1) / 2, size, hole.shape[0])
    return Window(top, _place((x0 + x1) / 2, size, hole.shape[1]), size)


def _place(centre: float, size: int, length: int) -> int:
    """First row (or column) of a window: inside the photo if it fits, else covering all of it."""
    first = round(centre - size / 2)
    low, high = min(0, length - size), max(0, length - size)
    return min(max(first, low), high)


def _mirrored(first: int, size: int, length: int) -> np.ndarray:
    """Indices first .. first+size-1, reflected at the ends of 0 .. length-1 as often as needed."""
    if length == 1:
        return np.zeros(size, np.intp)
    period = 2 * (length - 1)
    folded = np.arange(first, first + size) % period
    return np.where(folded < length, folded, period - folded)


def look(values: np.ndarray, window: Window) -> np.ndarray:
    """What the window shows of `(H,W)` or `(H,W,C)`, mirrored beyond the border: `(S,S,...)`."""
    rows = _mirrored(window.top, window.size, values.shape[0])
    columns = _mirrored(window.left, window.size, values.shape[1])
    return values[rows[:, None], columns]


def without(pixels: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    """uint8 `(H,W,3)` with each `unknown` pixel (bool `(H,W)`) replaced by its nearest known one.

    With nothing known, all become mid-grey.
    """
    if unknown.all():
        return np.full_like(pixels, 128)
    if not unknown.any():
        return pixels
    _, nearest = cv2.distanceTransformWithLabels(
        unknown.astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    source = np.zeros(nearest.max() + 1, np.intp)
    source[nearest[~unknown]] = np.flatnonzero(~unknown)
    return pixels.reshape(-1, 3)[source[nearest]]


def cut(
    pixels: np.ndarray, window: Window, size: int, unknown: np.ndarray | None = None
) -> torch.Tensor:
    """The window of uint8 `(H,W,3)`, resized with antialiasing: float32 `(1,3,size,size)`.

    Args:
        unknown: bool `(H,W)`, the holes. An antialiased pixel beside a hole would have the colours
            of the person in it, and the generator would draw them again: they are taken out before.
    """
    shown = look(pixels, window)
    if unknown is not None:
        shown = without(shown, look(unknown, window))
    return resize(to_tensor(shown), size)


def cut_region(region: np.ndarray, window: Window, size: int) -> torch.Tensor:
    """The window of bool `(H,W)`: bool `(1,1,size,size)`, max-pooled down.

    A hole beside the border is mirrored like the photo: the reflection of a person is no context.
    """
    shown = torch.from_numpy(look(region, window))
    return resize_region(shown[None, None], size)


def uncut(patch: torch.Tensor, window: Window, shape: tuple[int, int]) -> np.ndarray:
    """Back to the photo's resolution: float32 `(h,w,3)` in [-1,1] over `window.inside(shape)`.

    Args:
        patch: `(1,3,S,S)` or `(3,S,S)` in [-1,1].
    """
    large = resize(patch.reshape(1, *patch.shape[-3:]).float().cpu(), window.size)
    rows, columns = window.inside(shape)
    large = large[
        0,
        :,
        rows.start - window.top : rows.stop - window.top,
        columns.start - window.left : columns.stop - window.left,
    ]
    return large.permute(1, 2, 0).contiguous().numpy()
