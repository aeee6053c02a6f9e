"""Square crops that keep proportions and, where they can, the face or the person.

Squeezing a photo into a square bends people (post-mortem 8); cutting out the middle loses heads
(post-mortem 9). A window is `(top, left, side)` in pixels of the photo and never leaves it. Who
finds faces and people is not known here: a person finder is any function from pixels uint8
(H, W, 3) to bool (H, W), a face finder one to float (n, 5), x0, y0, x1, y1 and score of each face.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from messi_lib.images import check_pixels, resize, to_tensor, to_uint8
from messi_lib.runs import seed_generator

Window = tuple[int, int, int]
Box = tuple[int, int, int, int]  # y0, x0, y1, x1 in pixels, half-open
Finder = Callable[[np.ndarray], np.ndarray]

ZOOM = 1.25  # further crops of a photo are at most so much tighter or wider than its first
SHIFT = 0.1  # and moved by at most this share of their side


@dataclass(frozen=True)
class Framing:
    """How much of the surroundings a crop shows: shares of its side, multiples of its subject.

    A face's box begins at the forehead and ends at the chin: a side of 3.5 faces holds head and
    shoulders, and a fifth of it above the box leaves room for the hair.
    """

    face_headroom: float = 0.2
    face_context: float = 3.5
    person_headroom: float = 0.1
    person_context: float = 1.3


@dataclass(frozen=True)
class Focus:
    """What a photo's crop is about."""

    how: str  # "face", "person" or "centre"
    window: Window
    keep: Box | None = None  # what further crops of the photo must hold too; None: nothing


def crop(pixels: np.ndarray, window: Window, size: int) -> np.ndarray:
    """The window of `pixels` (uint8 (H, W, 3)) as uint8 (size, size, 3), antialiased.

    Raises:
        ValueError: a window that leaves the photo, or a size below 1.
    """
    check_pixels(pixels)
    top, left, side = window
    height, width = pixels.shape[:2]
    if side < 1 or top < 0 or left < 0 or top + side > height or left + side > width:
        raise ValueError(f"window {window} does not lie inside a photo of {width}x{height} pixels")
    if size < 1:
        raise ValueError(f"size={size}: a crop has at least one pixel")
    return to_uint8(resize(to_tensor(pixels[top : top + side, left : left + side]), size))[0]


def centre_window(height: int, width: int) -> Window:
    """The largest square in the middle of a photo."""
    side = min(height, width)
    return (height - side) // 2, (width - side) // 2, side


def _side(longest: int, shape: tuple[int, int], context: float, smallest: int) -> int:
    return min(max(round(longest * context), smallest, 1), *shape)


def _inside(start: int, side: int, length: int) -> int:
    return min(max(start, 0), length - side)


def largest_person(person: np.ndarray) -> np.ndarray | None:
    """The largest connected part of a region, bool (H, W); None if the region is empty."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(person.astype(np.uint8))
    if count < 2:
        return None
    return labels == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))


def person_focus(
    person: np.ndarray, headroom: float = 0.1, context: float = 1.3, smallest: int = 1
) -> Focus | None:
    """The largest person of a region and the window around it; see `person_window`."""
    region = largest_person(person)
    if region is None:
        return None
    height, width = person.shape
    y0, y1, x0, x1 = _bounds(region)
    side = _side(max(y1 - y0, x1 - x0), person.shape, context, smallest)
    keep, middle = (y0, x0, y1, x1), (x0 + x1) / 2
    if max(y1 - y0, x1 - x0) > side:
        upper = region[y0 : y0 + max(1, (y1 - y0) // 5)]
        _, _, left, right = _bounds(upper)
        keep = (y0, left, y0 + len(upper), right)
        if x1 - x0 > side:
            middle = float(np.flatnonzero(upper.any(0)).mean()) + 0.5
    # A person much smaller than the window stands in its middle rather than under its upper edge.
    above = max(headroom * side, (side - (y1 - y0)) / 2)
    top = _inside(round(y0 - above), side, height)
    return Focus("person", (top, _inside(round(middle - side / 2), side, width), side), keep)


def _bounds(region: np.ndarray) -> tuple[int, int, int, int]:
    """First row, row after the last, first column and column after the last of a region."""
    rows, columns = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def person_window(
    person: np.ndarray, headroom: float = 0.1, context: float = 1.3, smallest: int = 1
) -> Window | None:
    """A square with the largest person in it; None if `person` (bool (H, W)) is empty.

    A person that fits is whole. One that is longer than the photo's short side keeps the head: the
    window starts above its top and stands over the upper fifth of the region.

    Args:
        headroom: room above the person, as a share of the side.
        context: side, as a multiple of the longer side of the person's box.
        smallest: least side in pixels, so that a distant person is not blown up.
    """
    focus = person_focus(person, headroom, context, smallest)
    return None if focus is None else focus.window


def main_face(boxes: np.ndarray) -> np.ndarray | None:
    """The most prominent of the faces (n, 5), by score times area; None if there is none.

    The subject of a photo is nearest to the camera and in focus, which large and certain faces are.
    """
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 5)
    if not len(boxes):
        return None
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return boxes[np.argmax(boxes[:, 4] * area)]


def face_focus(
    box: Sequence[float],
    shape: tuple[int, int],
    headroom: float = 0.2,
    context: float = 3.5,
    smallest: int = 1,
) -> Focus:
    """A face and the window around it; see `face_window`."""
    if not 0 <= headroom < 1 or not context >= 1:
        raise ValueError(
            f"headroom={headroom}, context={context}: give a share below 1 and a multiple of 1"
        )
    height, width = shape
    x0, y0, x1, y1 = (float(value) for value in box[:4])
    x0, x1, y0, y1 = max(x0, 0), min(x1, width), max(y0, 0), min(y1, height)
    if not (x0 < x1 and y0 < y1):
        raise ValueError(f"the box {tuple(box)} has no area in a photo of {width}x{height} pixels")
    keep = (math.floor(y0), math.floor(x0), math.ceil(y1), math.ceil(x1))
    whole = max(keep[2] - keep[0], keep[3] - keep[1])
    side = _side(max(y1 - y0, x1 - x0), shape, context, max(smallest, whole))
    top = _holding(round(y0 - headroom * side), side, keep[0], keep[2], height)
    left = _holding(round((x0 + x1 - side) / 2), side, keep[1], keep[3], width)
    return Focus("face", (top, left, side), keep)


def face_window(
    box: Sequence[float],
    shape: tuple[int, int],
    headroom: float = 0.2,
    context: float = 3.5,
    smallest: int = 1,
) -> Window:
    """A square with a face, room above it, and the shoulders; the face is whole if it fits.

    Args:
        box: x0, y0, x1, y1 in pixels (more values, as a score, are ignored), cut at the photo.
        shape: height and width of the photo.
        headroom: room above the box, as a share of the side; less where the photo ends.
        context: side, as a multiple of the longer side of the box.
        smallest: least side in pixels, so that a distant face is not blown up.

    Raises:
        ValueError: a box without area in the photo, headroom outside [0, 1), context below 1.
    """
    return face_focus(box, shape, headroom, context, smallest).window


def _holding(start: int, side: int, low: int, high: int, length: int) -> int:
    """Start of an interval of `side`, moved so that it holds [low, high), its middle if too long.

    [low, high) lies in [0, length), and so does the result.
    """
    if high - low > side:
        return _inside((low + high - side) // 2, side, length)
    return _inside(min(max(start, high - side), low), side, length)


def find_focus(
    pixels: np.ndarray,
    smallest: int = 1,
    person_finder: Finder | None = None,
    face_finder: Finder | None = None,
    framing: Framing = Framing(),
) -> Focus:
    """What to crop a photo to: the main face, else the largest person, else the middle.

    Args:
        pixels: uint8 (H, W, 3).
        smallest: least side of a window in pixels, as far as the photo has them.
        person_finder, face_finder: None: not looked for.

    Raises:
        ValueError: a region of another size than the photo, a face outside it.
    """
    shape = pixels.shape[:2]
    if face_finder is not None:
        face = main_face(face_finder(pixels))
        if face is not None:
            return face_focus(face, shape, framing.face_headroom, framing.face_context, smallest)
    if person_finder is not None:
        person = np.asarray(person_finder(pixels), dtype=bool)
        _check_region(person, pixels)
        focus = person_focus(person, framing.person_headroom, framing.person_context, smallest)
        if focus is not None:
            return focus
    return Focus("centre", centre_window(*shape))


def windows(
    focus: Focus, shape: tuple[int, int], n: int, smallest: int = 1, seed: int = 0, name: str = ""
) -> list[Window]:
    """Up to `n` different windows of a photo: that of the focus, then tighter, wider, moved ones.

    All hold what the focus keeps, if it fits. The same seed and name (of the photo) give the same
    windows, and fewer windows are the first of more.

    Raises:
        ValueError: n below 1.
    """
    if n < 1:
        raise ValueError(f"n={n}: a photo has at least one crop")
    top, left, side = focus.window
    found = [focus.window]
    y0, x0, y1, x1 = focus.keep or (0, 0, 0, 0)
    high = min(side * ZOOM, *shape)
    low = min(max(side / ZOOM, min(smallest, side), y1 - y0, x1 - x0), high)
    generator = seed_generator(seed, "windows", name)
    for _ in range(4 * (n - 1)):  # a photo without room gives the same window again and again
        if len(found) == n:
            break
        zoom, down, right = torch.rand(3, generator=generator).tolist()
        other = min(max(round(low * (high / low) ** zoom), math.ceil(low)), math.floor(high))
        starts = (
            round(start + (side - other) / 2 + SHIFT * (2 * move - 1) * other)
            for start, move in ((top, down), (left, right))
        )
        y, x = (_inside(start, other, length) for start, length in zip(starts, shape))
        if focus.keep is not None:
            y, x = _holding(y, other, y0, y1, shape[0]), _holding(x, other, x0, x1, shape[1])
        if (y, x, other) not in found:
            found.append((y, x, other))
    return found


def centre_crop(pixels: np.ndarray, size: int) -> np.ndarray:
    """The middle of a photo, uint8 (H, W, 3) -> (size, size, 3)."""
    return crop(pixels, centre_window(*pixels.shape[:2]), size)


def _check_region(person: np.ndarray, pixels: np.ndarray) -> None:
    if person.dtype != bool or person.shape != pixels.shape[:2]:
        raise ValueError(f"person is {person.dtype} {person.shape}, the photo {pixels.shape[:2]}")
