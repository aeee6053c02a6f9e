"""People, not only pixels: a person region taken apart into connected people, numbered by size.

People who touch or overlap are one connected region and stay one `Person`: who tells them apart is
`apart`, by their faces, or a model of instances.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

MIN_AREA = 0.001  # share of the photo below which a region is a speck, not a person


@dataclass(frozen=True, eq=False)
class Person:
    """One connected region of people.

    Only the part inside the box is stored: a photo of 24 megapixels may hold a hundred people.
    """

    inside: np.ndarray  # bool (y1-y0, x1-x0): the region within its box
    box: tuple[int, int, int, int]  # y0, x0, y1, x1 in pixels, the end excluded
    area: int  # pixels
    score: float  # mean probability within the region
    shape: tuple[int, int]  # of the photo

    @property
    def region(self) -> np.ndarray:
        """The region in the photo, bool (H, W), made anew at each call."""
        region = np.zeros(self.shape, dtype=bool)
        y0, x0, y1, x1 = self.box
        region[y0:y1, x0:x1] = self.inside
        return region

    @property
    def share(self) -> float:
        """Area as a share of the photo."""
        return self.area / (self.shape[0] * self.shape[1])


def _check_region(region: np.ndarray, name: str = "person") -> None:
    if region.dtype != bool or region.ndim != 2:
        raise ValueError(f"{name} must be bool (H,W), got {region.dtype} {region.shape}")


def _check_share(value: float, name: str) -> None:
    if not 0 <= value < 1:
        raise ValueError(f"{name}={value}: a share of the photo between 0 and 1, for example 0.001")


def people_from(
    person: np.ndarray, min_area: float = MIN_AREA, score: np.ndarray | None = None
) -> list[Person]:
    """Connected people of a region, the largest first (equal ones from top left to bottom right).

    Args:
        person: bool (H, W). Pixels that touch by a side or a corner belong together.
        min_area: regions smaller than this share of the photo are left out.
        score: probabilities float (H, W), averaged over each region; 1 when not given.

    Raises:
        ValueError: not a bool (H, W) region, a score of another shape, an impossible share.
    """
    _check_region(person)
    _check_share(min_area, "min_area")
    if score is not None and score.shape != person.shape:
        raise ValueError(f"score {score.shape} does not fit person {person.shape}")
    count, labels, stats, _ = cv2.connectedComponentsWithStats(
        person.view(np.uint8), connectivity=8
    )
    people = []
    for label in range(1, count):
        x0, y0, width, height, area = (int(value) for value in stats[label])
        if area < min_area * person.size:
            continue
        window = (slice(y0, y0 + height), slice(x0, x0 + width))
        inside = labels[window] == label
        mean = 1.0 if score is None else float(score[window][inside].mean(dtype=np.float64))
        box = (y0, x0, y0 + height, x0 + width)
        people.append(Person(inside, box, area, mean, person.shape))
    return sorted(people, key=lambda one: (-one.area, one.box))


def person_of(region: np.ndarray, score: float) -> Person | None:
    """One person from a region bool (H, W), however many parts it has; None if it is empty."""
    rows, columns = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    if not len(rows):
        return None
    box = (int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)
    inside = region[box[0] : box[2], box[1] : box[3]].copy()
    return Person(inside, box, int(inside.sum()), score, region.shape)


def union(people: Iterable[Person], shape: tuple[int, int]) -> np.ndarray:
    """The people's regions as one, bool (H, W): logical or, never a sum.

    Raises:
        ValueError: a person of a photo of another shape.
    """
    region = np.zeros(shape, dtype=bool)
    for one in people:
        if tuple(one.shape) != tuple(shape):
            raise ValueError(f"a person of a photo {one.shape} does not fit a photo {shape}")
        y0, x0, y1, x1 = one.box
        region[y0:y1, x0:x1] |= one.inside
    return region


def fill_holes(person: np.ndarray, max_area: float = MIN_AREA) -> np.ndarray:
    """Fill enclosed background smaller than a share of the photo, as bool (H, W).

    Larger openings stay (the grass between two legs and the ball is no part of the player), and so
    does background that reaches the photo's border.

    Raises:
        ValueError: not a bool (H, W) region, or an impossible share.
    """
    _check_region(person)
    _check_share(max_area, "max_area")
    # Background is joined by sides only: the counterpart of people joined by corners too.
    count, labels, stats, _ = cv2.connectedComponentsWithStats(
        (~person).view(np.uint8), connectivity=4
    )
    x0, y0 = stats[:, cv2.CC_STAT_LEFT], stats[:, cv2.CC_STAT_TOP]
    x1, y1 = x0 + stats[:, cv2.CC_STAT_WIDTH], y0 + stats[:, cv2.CC_STAT_HEIGHT]
    height, width = person.shape
    enclosed = (x0 > 0) & (y0 > 0) & (x1 < width) & (y1 < height)
    enclosed &= stats[:, cv2.CC_STAT_AREA] < max_area * person.size
    enclosed[0] = False  # label 0 is the people themselves
    filled = person.copy()
    for label in np.flatnonzero(enclosed):
        window = (slice(y0[label], y1[label]), slice(x0[label], x1[label]))
        filled[window] |= labels[window] == label
    return filled
