"""Whom to replace: numbers from 1 by size, chosen by name or number, and shown in a picture."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from ..segmentation.people import Person

SIDE = 1600  # longest side of the picture with the numbers
CHOSEN, LEFT = (230, 60, 130), (120, 130, 140)


def parse_people(people: str | Sequence[int]) -> str | tuple[int, ...]:
    """`"all"`, `"largest"`, or numbers counted from 1 (`"1,3"` or a sequence), the largest being 1.

    Raises:
        ValueError: anything else.
    """
    if people in ("all", "largest"):
        return people
    try:
        parts = people.split(",") if isinstance(people, str) else people
        numbers = tuple(sorted({int(part) for part in parts}))
    except (TypeError, ValueError):
        numbers = ()
    if not numbers or numbers[0] < 1:
        raise ValueError(f"people={people!r}: use all, largest, or numbers from 1 such as 1,3")
    return numbers


def choose(
    people: Sequence[Person], which: str | Sequence[int] = "all", min_area: float = 0.0
) -> tuple[tuple[int, ...], list[str]]:
    """Numbers (from 1) of the people to replace, and warnings.

    Args:
        people: the largest first.
        which: see `parse_people`.
        min_area: people smaller than this share of the photo are left alone.
    """
    which = parse_people(which)
    large = [n for n, person in enumerate(people, 1) if person.share >= min_area]
    if not people:
        return (), ["no person was found: the photo is unchanged"]
    if not large:
        return (), [f"all {len(people)} people are smaller than min_area: the photo is unchanged"]
    if which == "all":
        return tuple(large), []
    if which == "largest":
        return (large[0],), []
    missing = [n for n in which if n not in large]
    notes = [f"there is no person {n}: found {len(large)}" for n in missing]
    chosen = tuple(n for n in which if n in large)
    return chosen, notes if chosen else [*notes, "the photo is unchanged"]


def numbered(
    pixels: np.ndarray, people: Sequence[Person], chosen: Sequence[int], side: int = SIDE
) -> np.ndarray:
    """The photo with everybody's number, for `--people`: uint8 `(h,w,3)`, at most `side` long.

    Who is chosen is tinted pink, the others grey.
    """
    height, width = pixels.shape[:2]
    scale = min(1.0, side / max(height, width))
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    picture = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    places = []
    for number, person in enumerate(people, 1):
        y0, x0, y1, x1 = (round(edge * scale) for edge in person.box)
        y1, x1 = min(max(y1, y0 + 1), size[1]), min(max(x1, x0 + 1), size[0])
        if y0 >= y1 or x0 >= x1:  # a speck at the border of a large photo
            continue
        inside = person.inside.astype(np.uint8)
        inside = cv2.resize(inside, (x1 - x0, y1 - y0), interpolation=cv2.INTER_NEAREST)
        colour = np.array(CHOSEN if number in chosen else LEFT, np.float32)
        part = picture[y0:y1, x0:x1]
        part[inside > 0] = np.rint(0.5 * part[inside > 0] + 0.5 * colour).astype(np.uint8)
        depth = cv2.distanceTransform(np.pad(inside, 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
        row, column = np.unravel_index(depth.argmax(), depth.shape)
        places.append((str(number), (x0 + int(column), y0 + int(row))))
    letter = max(min(size) / 600, 0.6)
    for text, (x, y) in places:
        (w, h), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, letter, 1)
        x, y = min(x - w // 2, size[0] - w - 2), min(y + h // 2, size[1] - 2)
        corner = max(x, 2), max(y, h + 2)  # near the border a number moves in
        for colour, thick in (((0, 0, 0), 4), ((255, 255, 255), 1)):
            cv2.putText(
                picture, text, corner, cv2.FONT_HERSHEY_SIMPLEX, letter, colour,
                round(thick * max(letter, 1)), cv2.LINE_AA,
            )  # fmt: skip
    return picture
