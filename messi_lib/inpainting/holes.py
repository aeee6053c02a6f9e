"""From person regions to holes: grown, filled, and touching ones made one.

A hole is what gets generated anew. Around it lies a feather, a soft border where old and new are
blended, so that what may change is the hole and its feather together.

Who fills a hole with a picture can fill each place only once: holes that touch become one. Figures
that are laid over one another may touch, and people who stand side by side keep a hole each.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

import cv2
import numpy as np

# Two holes that touch are two people if both hold: otherwise they are pieces of one.
LEVEL = 0.5  # least share of the lower one's height that lies beside the higher one
ALIKE = 0.4  # least height of the lower one, as a share of the higher one's
SAME = 0.5  # share of the smaller one from which on both are the same person, found twice

Placed = tuple[int, int, np.ndarray]  # a region with the row and column of its corner


@dataclass(frozen=True)
class Hole:
    """One hole: `region` bool `(h,w)` with its upper left corner at `(top, left)` of the photo.

    `feather` is the width of its soft border in pixels; `members` are the positions, in the list
    given to `make_holes`, of the regions it covers.
    """

    top: int
    left: int
    region: np.ndarray
    feather: int
    members: tuple[int, ...]

    def full(self, shape: tuple[int, int]) -> np.ndarray:
        """The hole in a photo of `shape`, bool `(H,W)`."""
        canvas = np.zeros(shape, bool)
        height, width = self.region.shape
        canvas[self.top : self.top + height, self.left : self.left + width] = self.region
        return canvas


def bounding_box(region: np.ndarray) -> tuple[int, int, int, int] | None:
    """(y0, x0, y1, x1) of the True pixels of bool `(H,W)`, ends exclusive; None if it is empty."""
    rows, columns = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    if not len(rows):
        return None
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def crop_around(region: np.ndarray, margin: int) -> tuple[slice, slice] | None:
    """Slices of the bounding box, widened by `margin` inside the photo; None if nothing is True."""
    box = bounding_box(region)
    if box is None:
        return None
    y0, x0, y1, x1 = box
    height, width = region.shape
    rows = slice(max(y0 - margin, 0), min(y1 + margin, height))
    return rows, slice(max(x0 - margin, 0), min(x1 + margin, width))


def distance_to(region: np.ndarray) -> np.ndarray:
    """Euclidean distance in pixels of each pixel to the nearest True one, float32 `(H,W)`.

    0 inside; infinite everywhere if the region is empty.
    """
    if not region.any():
        return np.full(region.shape, np.inf, np.float32)
    outside = (~region).astype(np.uint8)
    return cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


def grow(region: np.ndarray, pixels: int) -> np.ndarray:
    """Dilate bool `(H,W)` by a disc of radius `pixels`, in time linear in the region's box."""
    crop = crop_around(region, pixels + 1)
    if crop is None or pixels <= 0:
        return region.copy()
    grown = np.zeros_like(region)
    grown[crop] = distance_to(region[crop]) <= pixels
    return grown


def fill(region: np.ndarray) -> np.ndarray:
    """Fill what a region encloses, such as the gap between an arm and the body."""
    crop = crop_around(region, 0)
    filled = region.copy()
    if crop is not None:
        # Background is joined by sides only; what reaches the border of the box is outside.
        count, label = cv2.connectedComponents((~region[crop]).view(np.uint8), connectivity=4)
        enclosed = np.ones(count, bool)
        for edge in (label[0], label[-1], label[:, 0], label[:, -1]):
            enclosed[edge[edge > 0]] = False
        filled[crop] = enclosed[label]
    return filled


def make_holes(
    regions: Iterable[np.ndarray], grow_by: float, feather: float, *, apart: bool = False
) -> list[Hole]:
    """One hole per region, but a single one for regions whose holes or feathers touch.

    Args:
        regions: bool `(H,W)` each, of one photo; empty ones are passed over. Looked at one after
            the other, so that a generator keeps memory low.
        grow_by: dilation, as a share of the longer side of the region's bounding box.
        feather: width of the soft border, as a share of the same.
        apart: people who stand side by side keep a hole each though they touch; only pieces of one
            person become one. Then holes may overlap, by their growth.

    Returns:
        Holes from top left to bottom right; the same region twice gives the same as once.

    Raises:
        ValueError: negative shares, or regions that are not bool or differ in shape.
    """
    if grow_by < 0 or feather < 0:
        raise ValueError(f"grow={grow_by} and feather={feather} must not be negative")
    holes, shape = [], None
    for number, region in enumerate(regions):
        shape = shape or region.shape
        if region.dtype != bool or region.ndim != 2 or region.shape != shape:
            found = f"{region.dtype} {region.shape}"
            raise ValueError(f"regions must be bool (H,W) of one shape {shape}, not {found}")
        box = bounding_box(region)
        if box is None:
            continue
        side = max(box[2] - box[0], box[3] - box[1])
        hole = fill(grow(region, _pixels(grow_by, side)))
        holes.append(_compact(hole, _pixels(feather, side), (number,)))
    while True:
        merged = _merge(holes, shape, apart)
        if len(merged) == len(holes):
            return merged
        holes = merged  # a united hole has the widest feather of its members: look again


def _pixels(share: float, side: int) -> int:
    return max(round(share * side), 1) if share > 0 else 0


def _compact(hole: np.ndarray, feather: int, members: tuple[int, ...]) -> Hole:
    rows, columns = crop_around(hole, 0)
    return Hole(rows.start, columns.start, hole[rows, columns].copy(), feather, members)


def _merge(holes: list[Hole], shape: tuple[int, int], apart: bool) -> list[Hole]:
    """Unite holes whose feathers touch, also through a third one; sorted by their corners."""
    reach = [_reach(hole) for hole in holes]
    group = list(range(len(holes)))
    for one, other in combinations(range(len(holes)), 2):
        if group[one] == group[other] or not _touch(reach[one], reach[other]):
            continue
        if not (apart and _beside(holes[one], holes[other])):
            group = [group[one] if name == group[other] else name for name in group]
    merged = []
    for name in sorted(set(group)):
        together = [hole for hole, own in zip(holes, group) if own == name]
        if len(together) == 1:
            merged += together
            continue
        union = np.zeros(shape, bool)
        for hole in together:
            union |= hole.full(shape)
        members = tuple(sorted(member for hole in together for member in hole.members))
        merged.append(_compact(fill(union), max(h.feather for h in together), members))
    return sorted(merged, key=lambda hole: (hole.top, hole.left))


def _reach(hole: Hole) -> Placed:
    """A hole with its feather; its corner may lie beyond the photo's."""
    margin = hole.feather
    return hole.top - margin, hole.left - margin, grow(np.pad(hole.region, margin), margin)


def _common(one: Placed, other: Placed) -> np.ndarray:
    """The pixels that two regions share, bool of the rectangle in which their boxes overlap."""
    (y, x, a), (v, u, b) = one, other
    top, bottom = max(y, v), max(min(y + a.shape[0], v + b.shape[0]), max(y, v))
    left, right = max(x, u), max(min(x + a.shape[1], u + b.shape[1]), max(x, u))
    return (
        a[top - y : bottom - y, left - x : right - x]
        & b[top - v : bottom - v, left - u : right - u]
    )


def _touch(one: Placed, other: Placed) -> bool:
    """Whether two regions share a pixel, or the side or the corner of one."""
    top, left, region = one
    larger = cv2.dilate(np.pad(region, 1).view(np.uint8), np.ones((3, 3), np.uint8)) > 0
    return bool(_common((top - 1, left - 1, larger), other).any())


def _beside(one: Hole, other: Hole) -> bool:
    """Whether two holes that touch are people side by side, not pieces of one person."""
    high, low = sorted((one.region.shape[0], other.region.shape[0]), reverse=True)
    ends = (hole.top + hole.region.shape[0] for hole in (one, other))
    if min(ends) - max(one.top, other.top) < LEVEL * low or low < ALIKE * high:
        return False
    shared = _common(*((hole.top, hole.left, hole.region) for hole in (one, other)))
    return shared.sum() < SAME * min(one.region.sum(), other.region.sum())
