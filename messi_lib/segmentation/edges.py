"""Edges at the photo's own resolution: the guided filter.

The network answers at a few hundred pixels, the photo may have thousands. The guided filter (He et
al. 2013, "Guided Image Filtering", eq. 4 to 8) fits, in every small window, the probability as a
linear function of the photo's brightness: where the photo has an edge, the mask gets it too. Its
coefficients are smooth, so they are found on a coarser grid and enlarged (He and Sun 2015, "Fast
Guided Filter", arXiv 1505.00996); the photo that they multiply stays at full resolution.
"""

from __future__ import annotations

import cv2
import numpy as np

SHARE = 1 / 64  # radius of the windows, as a share of the photo's longest side
EPSILON = 1e-3  # variance of brightness (in [0,1]) below which a window counts as flat
UNSURE = (0.02, 0.98)  # probabilities between which a pixel may change
STRIDE = 4  # of the grid of coefficients, in pixels; at most half the radius
STRIP = 64  # rows that are finished together, so that they stay in the processor's cache


def _mean(values: np.ndarray, radius: int) -> np.ndarray:
    side = (2 * radius + 1, 2 * radius + 1)
    return cv2.boxFilter(values, cv2.CV_32F, side, borderType=cv2.BORDER_REFLECT)


def _coarse(values: np.ndarray, stride: int) -> np.ndarray:
    """Means over squares of `stride` pixels; the last row and column are repeated to fill them."""
    if stride == 1:
        return values
    height, width = values.shape
    bottom, right = -height % stride, -width % stride
    if bottom or right:
        values = cv2.copyMakeBorder(values, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
    # By whole numbers OpenCV is five times as fast as by any other factor.
    size = (width + right) // stride, (height + bottom) // stride
    return cv2.resize(values, size, interpolation=cv2.INTER_AREA)


def _fine(coarse: np.ndarray, rows: slice, shape: tuple[int, int], stride: int) -> np.ndarray:
    """Rows of the bilinear enlargement of a map from `_coarse` to `shape`."""
    if stride == 1:
        return coarse[rows].copy()
    first = max(rows.start // stride - 1, 0)  # a row more on either side: what bilinear looks at
    last = -(-min(rows.stop, shape[0]) // stride) + 1
    part = coarse[first:last]
    large = cv2.resize(part, (part.shape[1] * stride, part.shape[0] * stride))
    top = rows.start - first * stride
    return large[top : top + min(rows.stop, shape[0]) - rows.start, : shape[1]]


def guided_filter(
    guide: np.ndarray, values: np.ndarray, radius: int, epsilon: float, stride: int = 1
) -> np.ndarray:
    """He et al., algorithm 1, for a grey guide.

    Args:
        guide: float32 (H, W) in [0, 1].
        values: float32 (H, W), what is filtered.
        radius: of the square windows, in pixels.
        epsilon: regularisation, in squared units of the guide.
        stride: find the coefficients on every `stride`-th pixel of both axes (2015, algorithm 2).

    Returns:
        float32 (H, W); equal to `values` where these are linear in the guide, epsilon is 0 and
        the stride 1.

    Raises:
        ValueError: arrays of other types or shapes, a radius or stride below 1, a negative epsilon.
    """
    for name, array in (("guide", guide), ("values", values)):
        if array.dtype != np.float32 or array.ndim != 2 or array.shape != guide.shape:
            raise ValueError(f"{name} {array.dtype} {array.shape}: expected float32 (H,W), both")
    if radius < 1 or epsilon < 0 or stride < 1:
        raise ValueError(
            f"radius={radius}, epsilon={epsilon}, stride={stride}: a window has at least radius 1"
        )
    small, wanted = (_coarse(array, stride) for array in (guide, values))
    radius = max(1, round(radius / stride))
    mean_guide, mean_values = _mean(small, radius), _mean(wanted, radius)
    covariance = _mean(cv2.multiply(small, wanted), radius)
    covariance -= cv2.multiply(mean_guide, mean_values)
    variance = _mean(cv2.multiply(small, small), radius)
    variance -= cv2.multiply(mean_guide, mean_guide)
    variance += max(epsilon, 1e-12)
    slope = cv2.divide(covariance, variance)  # a_k of eq. 5
    offset = mean_values - cv2.multiply(slope, mean_guide)  # b_k of eq. 6
    slope, offset = _mean(slope, radius), _mean(offset, radius)
    result = np.empty_like(guide)
    for rows in range(0, len(guide), STRIP):
        part = slice(rows, rows + STRIP)
        a, b = (_fine(m, part, guide.shape, stride) for m in (slope, offset))
        cv2.add(cv2.multiply(a, guide[part], dst=a), b, dst=result[part])  # eq. 8
    return result


def refine(pixels: np.ndarray, score: np.ndarray, epsilon: float = EPSILON) -> np.ndarray:
    """Probabilities whose edges follow those of the photo.

    Only the box around the pixels of which the network is unsure is looked at: time goes with the
    people, not with the photo. One megapixel takes about 4 ms of one core.

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
    result = score.copy()
    if not width:
        return result
    radius = max(2, round(SHARE * max(score.shape)))
    top, left = max(y - 2 * radius, 0), max(x - 2 * radius, 0)
    window = slice(top, y + height + 2 * radius), slice(left, x + width + 2 * radius)
    guide = cv2.cvtColor(pixels[window], cv2.COLOR_RGB2GRAY).astype(np.float32)
    guide *= 1 / 255
    stride = min(STRIDE, radius // 2)
    filtered = guided_filter(guide, score[window], radius, epsilon, stride)
    np.copyto(result[window], np.clip(filtered, 0, 1, out=filtered), where=unsure[window] > 0)
    return result
