"""What of a photo is kept to recognise it again: a perceptual hash and local features.

The hash (the signs of a few low frequencies) survives re-encoding, resizing and brightening; local
features (SIFT, Lowe 2004) survive cropping as well. Both are also known of the mirrored photo: the
hash is taken twice, and a SIFT descriptor is mirrored by reordering its 128 numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from messi_lib.images import check_pixels

SIDE = 320  # longest side in pixels at which photos are compared
SHORTEST = 8  # a line of pixels is made this wide, so that filters fit in
FEATURES = 160  # the strongest per photo

# A descriptor holds 4 x 4 cells (down, across) of 8 directions, in the frame of its own direction.
# Mirroring the photo turns that frame's second axis round: rows and directions run backwards.
_MIRROR = (
    np.arange(128).reshape(4, 4, 8)[::-1][:, :, -np.arange(8) % 8].reshape(-1)
)


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """What `duplicates` compares. About 100 kB a photo.

    Attributes:
        grey: uint8 (h, w), the longest side SIDE.
        points: float32 (n, 2), x and y of the features in `grey`.
        descriptors: uint8 (n, 128), SIFT.
        hashes: uint64 (2,): perceptual hash of the photo, and of the photo mirrored.
        content: names the bytes of the file; equal names are equal photos.
    """

    grey: np.ndarray
    points: np.ndarray
    descriptors: np.ndarray
    hashes: np.ndarray
    content: str = ""

    def unit_descriptors(self, mirrored: bool = False) -> np.ndarray:
        """RootSIFT, float32 (n, 128) of length 1, of the photo or of the photo mirrored.

        Source: Arandjelovic and Zisserman, "Three things everyone should know to improve object
        retrieval" (2012), section 3.
        """
        values = self.descriptors.astype(np.float32)
        values = np.sqrt(values / np.maximum(values.sum(1, keepdims=True), 1))
        return values[:, _MIRROR] if mirrored else values

    def mirrored_points(self) -> np.ndarray:
        """`points` in the photo mirrored left to right."""
        return self.points * (-1, 1) + np.float32((self.grey.shape[1] - 1, 0))


def small_grey(pixels: np.ndarray, side: int = SIDE) -> np.ndarray:
    """uint8 (H, W, 3) -> uint8 (h, w): grey, the longest side `side`, the other at least 8."""
    check_pixels(pixels)
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    size = max(SHORTEST, round(width * scale)), max(SHORTEST, round(height * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return cv2.cvtColor(cv2.resize(pixels, size, interpolation=how), cv2.COLOR_RGB2GRAY)


def perceptual_hash(grey: np.ndarray) -> np.uint64:
    """64 bits: which of the lowest 8 x 8 frequencies of uint8 (h, w) exceed their median.

    Equal shots differ in few bits (up to about 8), unrelated ones in about 32.
    """
    tiny = cv2.resize(grey, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = cv2.dct(tiny)[:8, :8].reshape(-1)
    low[0] = 0  # the mean brightness says nothing about the picture
    return np.packbits(low > np.median(low)).view(np.uint64)[0]


def fingerprint(pixels: np.ndarray, content: str = "") -> Fingerprint:
    """Fingerprint of a photo, uint8 (H, W, 3).

    Args:
        content: hash of the file's bytes, if there is a file.

    Raises:
        ValueError: not such an array.
    """
    grey = small_grey(pixels)
    found, descriptors = cv2.SIFT_create(nfeatures=FEATURES).detectAndCompute(grey, None)
    points = np.array([feature.pt for feature in found], np.float32).reshape(-1, 2)
    if descriptors is None:  # nothing to hold on to: an even surface
        descriptors = np.zeros((0, 128))
    hashes = np.array([perceptual_hash(grey), perceptual_hash(grey[:, ::-1])])
    return Fingerprint(grey, points, descriptors.astype(np.uint8), hashes, content)
