"""Square crops that keep proportions and, where they can, the person.

Squeezing a photo into a square bends people (post-mortem 8); cutting out the middle loses heads
(post-mortem 9). A window is `(top, left, side)` in pixels of the photo and never leaves it. Who
finds people is not known here: a finder is any function from pixels uint8 (H, W, 3) to bool (H, W).
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from messi_lib.images import check_pixels, resize, to_tensor, to_uint8

Window = tuple[int, int, int]
Finder = Callable[[np.ndarray], np.ndarray]


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


def square_window(
    box: tuple[int, int, int, int], shape: tuple[int, int], context: float = 1.3, smallest: int = 1
) -> Window:
    """A square around the centre of `box` (y0, x0, y1, x1), moved and shrunk to stay in the photo.

    Args:
        box: half-open, in pixels.
        shape: height and width of the photo.
        context: side, as a multiple of the longer side of the box.
        smallest: least side in pixels, as far as the photo has them.
    """
    height, width = shape
    y0, x0, y1, x1 = box
    side = _side(max(y1 - y0, x1 - x0), shape, context, smallest)
    top = _inside((y0 + y1 - side) // 2, side, height)
    return top, _inside((x0 + x1 - side) // 2, side, width), side


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
    region = largest_person(person)
    if region is None:
        return None
    height, width = person.shape
    rows, columns = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    y0, y1, x0, x1 = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    side = _side(max(y1 - y0, x1 - x0), person.shape, context, smallest)
    if x1 - x0 <= side:
        middle = (x0 + x1) / 2
    else:
        upper = region[y0 : y0 + max(1, (y1 - y0) // 5)]
        middle = float(np.flatnonzero(upper.any(0)).mean()) + 0.5
    # A person much smaller than the window stands in its middle rather than under its upper edge.
    above = max(headroom * side, (side - (y1 - y0)) / 2)
    top = _inside(round(y0 - above), side, height)
    return top, _inside(round(middle - side / 2), side, width), side


def centre_crop(pixels: np.ndarray, size: int) -> np.ndarray:
    """The middle of a photo, uint8 (H, W, 3) -> (size, size, 3)."""
    return crop(pixels, centre_window(*pixels.shape[:2]), size)


def person_crop(
    pixels: np.ndarray,
    person: np.ndarray,
    size: int,
    headroom: float = 0.1,
    context: float = 1.3,
) -> np.ndarray:
    """The largest person of a photo, uint8 (size, size, 3); see `person_window`.

    Raises:
        ValueError: `person` is empty, or of another size than the photo.
    """
    check_pixels(pixels)
    if person.dtype != bool or person.shape != pixels.shape[:2]:
        raise ValueError(f"person is {person.dtype} {person.shape}, the photo {pixels.shape[:2]}")
    window = person_window(person, headroom, context, smallest=size)
    if window is None:
        raise ValueError("person_crop: the region is empty; use centre_crop or auto_crop")
    return crop(pixels, window, size)


def auto_crop(
    pixels: np.ndarray,
    size: int,
    finder: Finder | None = None,
    headroom: float = 0.1,
    context: float = 1.3,
) -> tuple[np.ndarray, str]:
    """The person if the finder finds one, else the middle.

    Returns:
        uint8 (size, size, 3), and which of both it is: "person" or "centre".
    """
    if finder is not None:
        person = np.asarray(finder(pixels), dtype=bool)
        if person.any():
            return person_crop(pixels, person, size, headroom, context), "person"
    return centre_crop(pixels, size), "centre"
