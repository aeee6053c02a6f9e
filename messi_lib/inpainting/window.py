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

LARGE = 1024  # side of a window from which on it is reduced before its holes are taken out


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
    """What the window shows of `(H,W)` or `(H,W,C)`, mirrored beyond the border: `(S,S,...)`.

    Inside the photo it is a view of `values`.
    """
    height, width = values.shape[:2]
    rows, columns = window.inside((height, width))
    shown = values[rows, columns]
    above, left = rows.start - window.top, columns.start - window.left
    below, right = window.size - above - len(shown), window.size - left - shown.shape[1]
    if not (above or below or left or right):
        return shown
    # OpenCV mirrors what it is given: that is all of the photo wherever something is to be mirrored
    if max(above, below) < len(shown) and max(left, right) < shown.shape[1]:
        plain = shown.view(np.uint8) if shown.dtype == bool else shown
        framed = cv2.copyMakeBorder(plain, above, below, left, right, cv2.BORDER_REFLECT_101)
        return framed.view(values.dtype)
    shown = values[_mirrored(window.top, window.size, height)]
    return np.ascontiguousarray(shown[:, _mirrored(window.left, window.size, width)])


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


def _reduced(shown: np.ndarray, unknown: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Means of the known pixels in `side` x `side` blocks, and the blocks of less than half."""
    options = {"dsize": (side, side), "interpolation": cv2.INTER_AREA}
    share = cv2.resize((~unknown).view(np.uint8) * np.uint8(255), **options) / np.float32(255)
    total = cv2.resize(cv2.copyTo(shown, (~unknown).view(np.uint8)), **options)
    mean = np.rint(total / np.maximum(share, 0.5)[..., None])
    return mean.clip(0, 255).astype(np.uint8), share < 0.5


def cut(
    pixels: np.ndarray, window: Window, size: int, unknown: np.ndarray | None = None
) -> torch.Tensor:
    """The window of uint8 `(H,W,3)`, resized with antialiasing: float32 `(1,3,size,size)`.

    Args:
        unknown: bool `(H,W)`, the holes. An antialiased pixel beside a hole would have the colours
            of the person in it, and the generator would draw them again: they are taken out before.
            (A window of more than LARGE pixels is made smaller before that, to save time.)
    """
    shown = look(pixels, window)
    if unknown is not None:
        gone = look(unknown, window)
        side = max(LARGE // 2, 8 * size)
        if window.size > max(LARGE, side):
            shown, gone = _reduced(shown, gone, side)
        shown = without(np.ascontiguousarray(shown), gone)
    return resize(to_tensor(shown), size)


def cut_region(region: np.ndarray, window: Window, size: int) -> torch.Tensor:
    """The window of bool `(H,W)`: bool `(1,1,size,size)`, max-pooled down.

    A hole beside the border is mirrored like the photo: the reflection of a person is no context.
    """
    shown = look(region, window)
    side = window.size
    while side > LARGE:  # a pixel is at least 1/256 of a block, and its mean rounds up to 1
        side = max(side // 8, LARGE)
        blocks = cv2.resize(
            shown.view(np.uint8) * np.uint8(255), (side, side), interpolation=cv2.INTER_AREA
        )
        shown = blocks > 0
    return resize_region(torch.from_numpy(np.ascontiguousarray(shown))[None, None], size)


def uncut(
    patch: torch.Tensor,
    window: Window,
    shape: tuple[int, int],
    within: tuple[slice, slice] | None = None,
) -> np.ndarray:
    """Back to the photo's resolution: float32 `(h,w,3)` in [-1,1].

    Args:
        patch: `(1,3,S,S)` or `(3,S,S)` in [-1,1].
        within: rows and columns of the photo that are wanted, inside the window; None:
            `window.inside(shape)`.
    """
    rows, columns = window.inside(shape) if within is None else within
    top, bottom = rows.start - window.top, rows.stop - window.top
    left, right = columns.start - window.left, columns.stop - window.left
    patch = patch.reshape(1, *patch.shape[-3:]).float().cpu()
    if patch.shape[-1] > window.size:
        patch = resize(patch, window.size)
    image = patch[0].permute(1, 2, 0).contiguous().numpy()
    # One direction after the other, so that no more than what is wanted is ever made.
    image = cv2.resize(image, (image.shape[1], window.size), interpolation=cv2.INTER_CUBIC)
    image = np.ascontiguousarray(image[top:bottom])
    image = cv2.resize(image, (window.size, image.shape[0]), interpolation=cv2.INTER_CUBIC)
    image = np.ascontiguousarray(image[:, left:right])
    return np.clip(image, -1, 1, out=image)
