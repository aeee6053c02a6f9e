"""Edges at the photo's own resolution: the guided filter.

The network answers at a few hundred pixels, the photo may have thousands. The guided filter (He et
al. 2013, "Guided Image Filtering", eq. 4 to 8) fits, in every small window, the probability as a
linear function of the photo's brightness: where the photo has an edge, the mask gets it too.
"""

from __future__ import annotations

import cv2
import numpy as np

LUMA = np.array([[0.299, 0.587, 0.114]], dtype=np.float32)
SHARE = 1 / 64  # radius of the windows, as a share of the photo's longest side
EPSILON = 1e-3  # variance of brightness (in [0,1]) below which a window counts as flat
UNSURE = (0.02, 0.98)  # probabilities between which a pixel may change


def _mean(values: np.ndarray, radius: int) -> np.ndarray:
    side = (2 * radius + 1, 2 * radius + 1)
    return cv2.boxFilter(values, cv2.CV_32F, side, borderType=cv2.BORDER_REFLECT)


def guided_filter(guide: np.ndarray, values: np.ndarray, radius: int, epsilon: float) -> np.ndarray:
    """He et al., algorithm 1, for a grey guide.

    Args:
        guide: float32 (H, W) in [0, 1].
        values: float32 (H, W), what is filtered.
        radius: of the square windows, in pixels.
        epsilon: regularisation, in squared units of the guide.

    Returns:
        float32 (H, W); equal to `values` where these are linear in the guide and epsilon is 0.

    Raises:
        ValueError: arrays of other types or shapes, a radius below 1, a negative epsilon.
    """
    for name, array in (("guide", guide), ("values", values)):
        if array.dtype != np.float32 or array.ndim != 2 or array.shape != guide.shape:
            raise ValueError(f"{name} {array.dtype} {array.shape}: expected float32 (H,W), both")
    if radius < 1 or epsilon < 0:
        raise ValueError(f"radius={radius}, epsilon={epsilon}: a window has at least radius 1")
    mean_guide, mean_values = _mean(guide, radius), _mean(values, radius)
    covariance = _mean(cv2.multiply(guide, values), radius)
    covariance -= cv2.multiply(mean_guide, mean_values)
    variance = _mean(cv2.multiply(guide, guide), radius)
    variance -= cv2.multiply(mean_guide, mean_guide)
    variance += max(epsilon, 1e-12)
    slope = cv2.divide(covariance, variance)  # a_k of eq. 5
    offset = mean_values - cv2.multiply(slope, mean_guide)  # b_k of eq. 6
    return cv2.multiply(_mean(slope, radius), guide) + _mean(offset, radius)  # eq. 8


def refine(pixels: np.ndarray, score: np.ndarray, epsilon: float = EPSILON) -> np.ndarray:
    """Probabilities whose edges follow those of the photo.

    Only the box around the pixels of which the network is unsure is looked at: time goes with the
    people, not with the photo.

    Args:
        pixels: the photo, uint8 (H, W, 3).
        score: probability of a person, float32 (H, W).

    Returns:
        float32 (H, W) in [0, 1].

    Raises:
        ValueError: arrays that do not belong together.
    """
    if pixels.dtype != np.uint8 or pixels.shape != (*score.shape, 3) or score.dtype != np.float32:
        raise ValueError(
            f"expected a photo uint8 (H,W,3) and its score float32 (H,W), got {pixels.dtype} "
            f"{pixels.shape} and {score.dtype} {score.shape}"
        )
    unsure = cv2.inRange(score, *UNSURE)
    x, y, width, height = cv2.boundingRect(unsure)
    if not width:
        return score.copy()
    radius = max(2, round(SHARE * max(score.shape)))
    top, left = max(y - 2 * radius, 0), max(x - 2 * radius, 0)
    window = slice(top, y + height + 2 * radius), slice(left, x + width + 2 * radius)
    guide = cv2.transform(pixels[window], LUMA).astype(np.float32) / 255
    filtered = guided_filter(guide, np.ascontiguousarray(score[window]), radius, epsilon)
    result = score.copy()
    chosen = unsure[window] > 0
    result[window][chosen] = np.clip(filtered[chosen], 0, 1)
    return result
