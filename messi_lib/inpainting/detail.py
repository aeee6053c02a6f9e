"""Sharpness and grain: what a small image cannot know of the large photo that it goes into.

A generator draws 32 or 64 pixels where the photo may have thousands. Enlarged, its picture is a
blur without grain, and shows itself by that before anything else. `crisp` enlarges it along its
edges; `match_detail` then brings it to what the known pixels around the hole show: how wide their
edges are, how much they change from pixel to pixel, how much grain they have. What it may add is
bounded, for what the photo shows there can be anything.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch

from .window import without

LIMIT = 512  # side up to which edges are worked on; beyond, they are only scaled
ROUNDS = 4  # steps of the shock filter after each doubling
SOFT = 0.1  # change of slope across a cell, in units of white, from which on an edge counts as one
MAX_BLUR = 3.0  # most that a too sharp patch is blurred, sigma in pixels
MAX_GAIN = 1.6  # most by which the fine contrast of a patch is raised
MAX_GRAIN = 0.014  # standard deviation of what is added in one band, in units of white
BANDS = (0.0, 0.8, 1.6, 3.2)  # between these blurs (sigma in pixels) lie the bands of the grain
BLOCK = 15  # side in pixels of what is called calm or not
TILE = 256  # side of the drawn grain, which is then repeated
SQUARE, SQUARES = 256, 12  # side and number of the squares in which a large photo is measured
ENOUGH = 40  # pixels from which on something can be measured
_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
_FLOOR = 0.004  # gradient of an edge: one level of 256 a pixel


def grey_of(image: np.ndarray) -> np.ndarray:
    """Luma of float32 RGB `(H,W,3)` in [0,1]: float32 `(H,W)`."""
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)


def blurred(image: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur; sigma 0 for none."""
    return image if sigma <= 0 else cv2.GaussianBlur(image, (0, 0), sigma)


def slope(grey: np.ndarray) -> np.ndarray:
    """Size of the gradient of `(H,W)`, per pixel."""
    return cv2.magnitude(
        cv2.Sobel(grey, cv2.CV_32F, 1, 0, scale=1 / 8),
        cv2.Sobel(grey, cv2.CV_32F, 0, 1, scale=1 / 8),
    )


def crisp(patch: torch.Tensor, size: int) -> torch.Tensor:
    """Enlarge a patch towards `size` so that its edges stay edges.

    It is doubled again and again, and after each time its edges are made steeper by a regularised
    shock filter (Gilboa, Sochen and Zeevi 2002, "Regularized shock filters and complex diffusion"):
    on either side of an edge, pixels move towards the lighter or the darker neighbour by as much as
    the image is bent there. Where it is hardly bent, as on a cheek or in the sky, nothing moves.

    Args:
        patch: `(1,3,S,S)` or `(3,S,S)` in [-1,1].
        size: side of the window for which it is made.

    Returns:
        `(1,3,P,P)` in [-1,1], S <= P <= `size` and P not above LIMIT (unless S is); the patch
        itself where `size` is not above S.
    """
    patch = patch.reshape(1, *patch.shape[-3:])
    first = patch.shape[-1]
    image = ((patch[0].float().cpu() + 1) / 2).permute(1, 2, 0).contiguous().numpy()
    side = first
    while side < min(size, LIMIT):
        side = min(side * 2, size, LIMIT)
        image = cv2.resize(image, (side, side), interpolation=cv2.INTER_CUBIC)
        image = _steepen(image, 0.6 * side / first)
    if side == first:
        return patch
    return torch.from_numpy(image.clip(0, 1)).permute(2, 0, 1)[None] * 2 - 1


def _steepen(image: np.ndarray, cell: float) -> np.ndarray:
    """The shock filter on `(P,P,3)`, for edges about `cell` pixels wide."""
    for _ in range(ROUNDS):
        grey = blurred(grey_of(image), max(cell / 2, 1))
        dx, dy = (cv2.Sobel(grey, cv2.CV_32F, *order, scale=1 / 8) for order in ((1, 0), (0, 1)))
        dxx, dyy = (cv2.Sobel(grey, cv2.CV_32F, *order, scale=1 / 4) for order in ((2, 0), (0, 2)))
        dxy = cv2.Sobel(grey, cv2.CV_32F, 1, 1, scale=1 / 4)
        across = dx * dx * dxx + 2 * dx * dy * dxy + dy * dy * dyy
        across /= dx * dx + dy * dy + 1e-8
        bent = np.tanh(across * (cell * cell / SOFT))[..., None]
        lower, upper = cv2.erode(image, _CROSS), cv2.dilate(image, _CROSS)
        image = image + 0.5 * np.where(bent < 0, bent * (image - upper), bent * (lower - image))
    return image


def edge_blur(grey: np.ndarray, region: np.ndarray) -> float | None:
    """How wide the edges in a region are: sigma in pixels of the Gaussian that makes such an edge.

    As Zhuo and Sim 2011, "Defocus map estimation from a single image": a step edge blurred by
    sigma has a slope proportional to 1 / sigma. Blurred once more by a and by b, the ratio R of its
    slopes is sqrt((sigma^2 + b^2) / (sigma^2 + a^2)), which gives sigma. The median over the
    crests of the steepest twentieth of the region; None where that is no edge at all.
    """
    a, b = 1.0, 2.0
    less, more = slope(blurred(grey, a)), slope(blurred(grey, b))
    here = less[region]
    if here.size < ENOUGH:
        return None
    steep = region & (less >= max(np.quantile(here, 0.95), _FLOOR))
    steep &= less >= 0.98 * cv2.dilate(less, np.ones((3, 3), np.uint8))  # in the middle of an edge
    if steep.sum() < ENOUGH // 4:
        return None
    ratio = max(float(np.median(less[steep] / np.maximum(more[steep], 1e-6))), 1.001)
    sigma2 = (b * b - ratio * ratio * a * a) / (ratio * ratio - 1)
    return float(np.sqrt(max(sigma2 - 1 / 3, 0.0)))  # 1/3: the width of the Sobel operator


def energy(grey: np.ndarray, region: np.ndarray) -> float:
    """Gradient energy of a region: root mean square of the slope, most of its grain taken off."""
    return float(np.sqrt(np.mean(slope(blurred(grey, 1.0))[region] ** 2)))


def grain_levels(grey: np.ndarray, region: np.ndarray) -> list[float]:
    """Standard deviation of each band of BANDS in the calmest parts of a region.

    Grain is everywhere; what there is more than in the calmest 15 % is leaves or hair.
    """
    options = {"ksize": (BLOCK, BLOCK), "normalize": False, "borderType": cv2.BORDER_CONSTANT}
    weight = region.astype(np.float32)
    count = np.maximum(cv2.boxFilter(weight, cv2.CV_32F, **options), 1)
    calm = region & (count >= min(BLOCK * BLOCK / 2, count[region].max()))
    levels = []
    for fine, coarse in zip(BANDS, BANDS[1:]):
        band = (blurred(grey, fine) - blurred(grey, coarse)) * weight
        power = cv2.boxFilter(band * band, cv2.CV_32F, **options) / count
        levels.append(float(np.sqrt(np.quantile(power[calm], 0.15))))
    return levels


def draw_grain(
    levels: list[float], shape: tuple[int, int], generator: torch.Generator
) -> np.ndarray:
    """Grain whose bands have these standard deviations: float32 `(H,W)`."""
    margin = 16
    between = list(zip(BANDS, BANDS[1:]))
    side = min(TILE, max(64, *shape))
    white = torch.randn(len(between), side, side, generator=generator).numpy()
    # Wrapped, so that the tile's ends meet.
    white = [np.pad(each, margin, mode="wrap") for each in white]
    bands = [blurred(w, fine) - blurred(w, coarse) for w, (fine, coarse) in zip(white, between)]
    inner = np.s_[margin:-margin, margin:-margin]
    # Neighbouring bands overlap: how much power of each shows in which.
    shown = [
        [np.mean((blurred(b, fine) - blurred(b, coarse))[inner] ** 2) for b in bands]
        for fine, coarse in between
    ]
    power = np.linalg.solve(shown, np.square(levels)).clip(0)
    total = sum(np.float32(np.sqrt(p)) * band[inner] for p, band in zip(power, bands))
    rows, columns = -(-shape[0] // side), -(-shape[1] // side)
    return np.tile(total, (rows, columns))[: shape[0], : shape[1]]


def sampled(
    image: np.ndarray, region: np.ndarray, hidden: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Luma to measure, and where: all of a small image, or squares of a large one.

    Args:
        image: uint8 or float32 RGB `(H,W,3)`, floats in [0,1].
        region: bool `(H,W)`.
        hidden: bool `(H,W)`, pixels of a uint8 image that are not to be seen: filters would carry
            the outline of the person into the region.

    Returns:
        float32 `(h,w)` in [0,1] and bool `(h,w)`. A sharpness of 24 megapixels is seen in a dozen
        squares as well as in all: those that the region fills most.
    """
    if max(region.shape) > 4 * SQUARE and min(region.shape) >= SQUARE:
        height, width = (length // SQUARE for length in region.shape)
        blocks = region[: height * SQUARE, : width * SQUARE]
        count = blocks.reshape(height, SQUARE, width, SQUARE).sum((1, 3))
        best = np.argsort(-count, axis=None, kind="stable")[:SQUARES]
        corners = [(row * SQUARE, column * SQUARE) for row, column in zip(*divmod(best, width))]
        boxes = [np.s_[y : y + SQUARE, x : x + SQUARE] for y, x in corners]
        image = np.concatenate([image[box] for box in boxes])
        hidden = None if hidden is None else np.concatenate([hidden[box] for box in boxes])
        region = np.concatenate([np.pad(region[box][8:-8, 8:-8], 8) for box in boxes])
    if hidden is not None:
        image = without(np.ascontiguousarray(image), hidden)
    if image.dtype == np.uint8:
        image = image.astype(np.float32) / 255
    return grey_of(image), region


def sharpness(old: np.ndarray, around: np.ndarray, hidden: np.ndarray) -> float:
    """How wide the edges of a photo are, sigma in pixels, MAX_BLUR at most; 0 if nobody knows.

    Args:
        old, around, hidden: as in `match_detail`.
    """
    there, around = sampled(old, around, hidden)
    return min(edge_blur(there, around) or 0.0, MAX_BLUR)


def match_detail(
    new: np.ndarray,
    old: np.ndarray,
    generated: np.ndarray,
    around: np.ndarray,
    hidden: np.ndarray,
    generator: torch.Generator,
) -> np.ndarray:
    """Bring what was generated to the sharpness and the grain of the photo around it.

    Args:
        new: float32 `(H,W,3)` in [0,1], a part of the photo as it was generated.
        old: uint8 `(H,W,3)`, the same part as it is.
        generated: bool `(H,W)`, where `new` is looked at.
        around: bool `(H,W)`, the known pixels where `old` is looked at.
        hidden: bool `(H,W)`, the holes: `old` is not read there.
        generator: draws the grain.

    Returns:
        `new`, changed in place or anew, about [0,1]; as it was where too little is known.
    """
    here, generated = sampled(new, generated)
    there, around = sampled(old, around, hidden)
    if generated.sum() < ENOUGH or around.sum() < ENOUGH:
        return new
    wanted, given = edge_blur(there, around), edge_blur(here, generated)
    if wanted is not None and given is not None and given < wanted:
        softer = min(np.sqrt(wanted**2 - given**2), MAX_BLUR)
        new, here = blurred(new, softer), blurred(here, softer)
    gain = min(energy(there, around) / max(energy(here, generated), 1e-6), MAX_GAIN)
    levels = zip(grain_levels(there, around), grain_levels(here, generated))
    missing = [min(np.sqrt(max(a * a - b * b, 0.0)), MAX_GRAIN) for a, b in levels]
    added = draw_grain(missing, new.shape[:2], generator)
    if gain > 1:  # a player on an even lawn has more contrast than the lawn: never taken off
        grey = grey_of(new)
        added += (grey - blurred(grey, 2.0)) * (gain - 1)
    new += added[..., None]
    return new
