"""Holes to learn from: a photo of the subject, with the subject hidden from the generator.

At use, the hole is somebody else's outline, grown; a hand-painted stroke; a box. So all of these
are hidden in training, and sometimes everything, which keeps the generator able to draw without any
context (Saharia et al. 2022, "Palette", hides strokes and boxes for the same reason).
The subject's own outline alone would be a poor teacher: whoever sees it knows the pose.
"""

from __future__ import annotations

import cv2
import numpy as np

from .holes import bounding_box, grow

# Shares of the kinds of holes.
KINDS = {"outline": 0.35, "outlines": 0.25, "box": 0.15, "strokes": 0.15, "all": 0.1}
# Of a figure that is drawn as a layer, all is in the hole.
AROUND = {"outline": 0.3, "outlines": 0.45, "box": 0.15, "all": 0.1}


def self_mask(
    person: np.ndarray,
    rng: np.random.Generator,
    other: np.ndarray,
    kind: str | None = None,
    shares: dict[str, float] = KINDS,
) -> np.ndarray:
    """A hole in an image of the subject, bool (S, S).

    Args:
        person: bool (S, S), where the subject is; all but the strokes hide it entirely.
        other: bool (S, S), where somebody is in another image, for "outlines".
        kind: one of KINDS; None draws one by its share.
        shares: of the kinds, KINDS or AROUND.

    Returns:
        The hole, never empty: "outline", the subject grown by up to an eighth of the side;
        "outlines", this and another person's outline, grown and moved; "box", a box around the
        subject; "strokes", a few thick brush strokes across it; "all", everything.

    Raises:
        ValueError: an unknown kind, or masks of other types or shapes.
    """
    side = person.shape[0]
    for region in (person, other):
        if region.dtype != bool or region.shape != (side, side):
            raise ValueError(f"masks must be bool (S, S), not {region.dtype} {region.shape}")
    if kind is None:
        kind = str(rng.choice(list(shares), p=list(shares.values())))
    if kind not in KINDS:
        raise ValueError(f"unknown kind of hole {kind!r}: use one of {', '.join(KINDS)}")
    if kind == "all" or not person.any():
        return np.ones((side, side), bool)
    if kind == "box":
        return _box(person, rng)
    if kind == "strokes":
        return _strokes(person, rng)
    hole = _grown(person, rng)
    if kind == "outlines" and other.any():
        dy, dx = rng.integers(-side // 8, side // 8 + 1, 2)
        hole |= _grown(_moved(other, int(dy), int(dx)), rng)
    return hole


def _grown(region: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return grow(region, int(rng.integers(0, max(region.shape[0] // 8, 1) + 1)))


def _moved(region: np.ndarray, dy: int, dx: int) -> np.ndarray:
    shift = np.float32([[1, 0, dx], [0, 1, dy]])
    side = region.shape[::-1]
    moved = cv2.warpAffine(region.astype(np.uint8), shift, side, flags=cv2.INTER_NEAREST)
    return moved.astype(bool)


def _box(person: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    side, hole = person.shape[0], np.zeros_like(person)
    top, left, bottom, right = bounding_box(person)
    more = rng.integers(0, max(side // 6, 1) + 1, 4)
    hole[
        max(top - more[0], 0) : bottom + more[1],
        max(left - more[2], 0) : right + more[3],
    ] = True
    return hole


def _strokes(person: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    side, hole = person.shape[0], np.zeros(person.shape, np.uint8)
    places = np.argwhere(person)
    for _ in range(int(rng.integers(1, 4))):
        corners = places[rng.integers(len(places), size=int(rng.integers(2, 5)))]
        corners = corners[:, ::-1] + rng.integers(-side // 6, side // 6 + 1, corners.shape)
        thick = int(rng.integers(max(side // 10, 1), max(side // 4, 2)))
        line = np.ascontiguousarray(corners, np.int32).reshape(-1, 1, 2)
        cv2.polylines(hole, [line], False, 1, thick)
    hole[tuple(places[rng.integers(len(places))])] = 1  # strokes may all have left the picture
    return hole.astype(bool)
