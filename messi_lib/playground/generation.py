"""One result of the playground, kept small, and what soft strokes make of it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from ..images import Photo
from ..inpainting.holes import bounding_box
from ..profiles import ReplaceConfig
from ..replace import Replacement, close_up


@dataclass(frozen=True, eq=False)
class Generation:
    """A photo with a hole filled, and all that makes it again: what was painted and the settings.

    Only the box that contains the changes is stored: a result on a photo of 24 megapixels would
    else take 120 MB, and a history holds many.
    """

    photo: Photo
    box: tuple[int, int, int, int]  # y0, x0, y1, x1: outside it nothing changed
    patch: np.ndarray  # uint8 (y1-y0, x1-x0, 3)
    hole_inside: np.ndarray  # bool (y1-y0, x1-x0)
    changed_inside: np.ndarray  # bool (y1-y0, x1-x0)
    painted: np.ndarray  # as it was given, (H, W): bool, or strength uint8 of 0 to 255
    config: ReplaceConfig
    seconds: dict[str, float]
    warnings: list[str]
    badness: float  # what orders candidates, see `replace.candidates`

    @property
    def pixels(self) -> np.ndarray:
        """The result, uint8 (H, W, 3); equals the photo wherever `changed` is False."""
        pixels = self.photo.pixels.copy()
        pixels[self._inside] = self.patch
        return pixels

    @property
    def hole(self) -> np.ndarray:
        """What was generated anew, bool (H, W)."""
        return self._full(self.hole_inside)

    @property
    def changed(self) -> np.ndarray:
        """The hole and its feather, bool (H, W)."""
        return self._full(self.changed_inside)

    @property
    def _inside(self) -> tuple[slice, slice]:
        y0, x0, y1, x1 = self.box
        return slice(y0, y1), slice(x0, x1)

    def _full(self, part: np.ndarray) -> np.ndarray:
        region = np.zeros(self.photo.pixels.shape[:2], bool)
        region[self._inside] = part
        return region

    def close_up(self) -> np.ndarray:
        """The changes and a little around them, uint8 (h, w, 3): what tells candidates apart."""
        return close_up(self.pixels, self.changed)


def keep(done: Replacement, strength: np.ndarray, config: ReplaceConfig) -> Generation:
    """The Generation of a Replacement; where strokes were soft, the photo shines through.

    Args:
        done: of the hole `strength > 0`.
        strength: bool (H, W), or uint8 of 0 to 255.
    """
    box = bounding_box(done.changed)
    y0, x0, y1, x1 = box
    inside = slice(y0, y1), slice(x0, x1)
    changed, patch = done.changed[inside], done.pixels[inside]
    if strength.dtype != bool:
        weight = _spread(strength[inside])
        patch, changed = _mixed(done.photo.pixels[inside], patch, changed, weight)
    return Generation(
        done.photo, box, patch.copy(), done.hole[inside].copy(), changed.copy(), strength, config,
        done.seconds, done.warnings, done.badness,
    )  # fmt: skip


def _spread(strength: np.ndarray) -> np.ndarray:
    """Each pixel that is not painted gets the strength of the nearest painted one.

    The hole is a little larger than what was painted, and so the new rim of a soft stroke is soft.
    """
    painted = strength > 0
    if painted.all() or not painted.any():
        return strength
    _, nearest = cv2.distanceTransformWithLabels(
        (~painted).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    values = np.zeros(nearest.max() + 1, np.uint8)
    values[nearest[painted]] = strength[painted]
    return values[nearest]


def _mixed(
    photo: np.ndarray, result: np.ndarray, changed: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Result over photo by weight (uint8), and where that may differ from the photo."""
    share = weight[..., None] / np.float32(255)
    mixed = np.rint(photo + share * (result.astype(np.float32) - photo)).astype(np.uint8)
    return np.where((weight == 255)[..., None], result, mixed), changed & (weight > 0)
