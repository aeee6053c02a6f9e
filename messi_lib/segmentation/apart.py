"""People who touch, told apart by their faces.

Our segmenter answers "is there a person at this pixel?": two people arm in arm are one region.
Where several faces look out of a region, it is shared among them: each pixel goes to the body that
is nearest. A body is a vertical line down from its face, and near is counted in heights of that
face, so that whoever stands in front, and is larger, gets more. Who shows no face is not told
apart; that takes a model of instances, see `instances`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import cv2
import numpy as np

from messi_lib.data.faces import FaceFinder
from messi_lib.segmentation.infer import Segmentation
from messi_lib.segmentation.people import MIN_AREA, Person, people_from, person_of

BODY = 6.0  # length of a body below the face's centre, in heights of the face
LEAST_FACE = 0.4  # height of a face, as a share of the region's highest: less is far off
LEAST_PART = 0.05  # share of the region below which a part is no person
WORTH = 0.005  # share of the photo below which a region is not looked at: no face is large enough
SLIM = 0.4  # width of a region over its height below which one person stands there alone
SIDE = 512  # longest side at which a region is shared out


def tell_apart(
    people: Sequence[Person], faces: np.ndarray, least: float = MIN_AREA
) -> list[Person]:
    """People, the largest first, with each region shared among the faces in it.

    Args:
        people: connected regions (`people.people_from`).
        faces: (n, 5): x0, y0, x1, y1 in pixels of the photo; score. See `data.faces.FaceFinder`.
        least: parts smaller than this share of the photo are no people.

    Returns:
        People whose regions do not overlap and are together the same as before. Whose region has
        one face or none stays as they were.
    """
    parted = [part for person in people for part in _parts(person, faces, least)]
    return sorted(parted, key=lambda one: (-one.area, one.box))


def share_out(hole: np.ndarray, people: Sequence[Person]) -> Iterator[np.ndarray]:
    """The parts of a painted hole, bool `(H,W)` each: connected ones, shared among their people.

    What was painted beside several people who touch belongs to the nearest of them. Whoever is not
    in the hole by half is not in it.
    """
    for part in people_from(hole, 0.0):
        region = part.region
        inside = [one for one in people if _taken(one, region, part.area)]
        if len(inside) < 2:
            yield region
            continue
        number = np.zeros(region.shape, np.int32)
        for name, one in enumerate(inside, 1):
            y0, x0, y1, x1 = one.box
            number[y0:y1, x0:x1][one.inside] = name
        number[~region] = 0
        _, nearest = cv2.distanceTransformWithLabels(
            (number == 0).view(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
        )
        owner = np.zeros(nearest.max() + 1, np.int32)
        owner[nearest[number > 0]] = number[number > 0]
        owned = np.where(region, owner[nearest], 0)
        yield from (owned == name for name in range(1, len(inside) + 1))


def _taken(person: Person, region: np.ndarray, area: int) -> bool:
    y0, x0, y1, x1 = person.box
    inside = np.count_nonzero(region[y0:y1, x0:x1] & person.inside)
    return inside >= max(person.area / 2, LEAST_PART * area)


def _parts(person: Person, faces: np.ndarray, least: float) -> list[Person]:
    y0, x0, y1, x1 = person.box
    x, y = (faces[:, 0] + faces[:, 2]) / 2 - x0, (faces[:, 1] + faces[:, 3]) / 2 - y0
    heights = faces[:, 3] - faces[:, 1]
    row, column = y.astype(int), x.astype(int)
    within = (row >= 0) & (row < y1 - y0) & (column >= 0) & (column < x1 - x0)
    within[within] = person.inside[row[within], column[within]]
    bodies = np.stack([x, y, heights], 1)[within]
    if len(bodies):
        bodies = bodies[bodies[:, 2] >= LEAST_FACE * bodies[:, 2].max()]
    smallest = max(LEAST_PART * person.area, least * person.shape[0] * person.shape[1])
    while len(bodies) > 1:
        nearest = _nearest(person.inside.shape, bodies)
        areas = np.bincount(nearest[person.inside], minlength=len(bodies))
        if areas.min() >= smallest:
            return [_part(person, nearest == number) for number in range(len(bodies))]
        bodies = np.delete(bodies, areas.argmin(), 0)  # its pixels go to the others
    return [person]


def _nearest(shape: tuple[int, int], bodies: np.ndarray) -> np.ndarray:
    """Number of the nearest body at each pixel, int `shape`; bodies (n, 3): x, y, face height."""
    scale = min(SIDE / max(shape), 1)
    rows, columns = (max(round(length * scale), 1) for length in shape)
    y = ((np.arange(rows) + 0.5) * shape[0] / rows)[:, None]
    x = ((np.arange(columns) + 0.5) * shape[1] / columns)[None]
    distances = []
    for centre, top, height in bodies:
        down = (y - top) / height
        distances.append(np.hypot((x - centre) / height, down - down.clip(0, BODY)))
    nearest = np.argmin(distances, 0).astype(np.int16)
    return cv2.resize(nearest, shape[::-1], interpolation=cv2.INTER_NEAREST)


def _part(person: Person, chosen: np.ndarray) -> Person:
    """The chosen pixels of a person's box as a person."""
    region = person.region
    y0, x0, y1, x1 = person.box
    region[y0:y1, x0:x1] &= chosen
    return person_of(region, person.score)


class ByFaces:
    """A finder of people that also tells apart those who touch.

    Args:
        finder: pixels uint8 (H, W, 3) -> Segmentation, such as an `infer.Segmenter`.
        faces: pixels -> boxes, as `data.faces.FaceFinder`; None: this one, loaded when needed.
        least: see `tell_apart`.
    """

    def __init__(
        self,
        finder: Callable[[np.ndarray], Segmentation],
        faces: Callable[[np.ndarray], np.ndarray] | None = None,
        least: float = MIN_AREA,
    ):
        self.finder, self.faces, self.least = finder, faces, least

    def __call__(self, pixels: np.ndarray) -> Segmentation:
        """The people of one photo.

        Raises:
            FileNotFoundError, ValueError: as the finder, and as `FaceFinder`.
        """
        found = self.finder(pixels)
        if not any(_perhaps_several(person) for person in found.people):
            return found  # the face finder takes a tenth of a second
        self.faces = self.faces or FaceFinder()
        people = tell_apart(found.people, self.faces(pixels), self.least)
        return dataclasses.replace(found, people=people)


def _perhaps_several(person: Person) -> bool:
    height, width = person.inside.shape
    return person.share >= WORTH and width > SLIM * height
