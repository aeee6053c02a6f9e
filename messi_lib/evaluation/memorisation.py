"""Does a generator paint, or does it copy its training photos? Answers with error bars.

FID and KID to the training photos are best for a photocopier. What shows copying is the distance
of each generated image to its nearest training photo, in pixels or in features:

- much nearer than the second nearest, d1 / d2 < 1/3: a copy (Yoon et al. 2023, Gu et al. 2023).
- nearer than nearly all photos that the training never saw (the holdout) are.
- Z_U, the rank test of all those distances against the holdout's (Meehan et al. 2020).

Z_U also falls for a generator that is only blurred: a blurred image is nearer to *every* photo. So
it counts here only if the images are drawn to the training photos rather than to the holdout.
Remove near-copies among the training photos first: they make d2 small, which hides a copy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from messi_lib.evaluation.frechet import check_features
from messi_lib.evaluation.manifold import squared_distances
from messi_lib.images import resize, to_tensor, to_uint8

CLOSE = 1 / 3  # of the distance to the second nearest
ALLOWED = 0.01  # share of close images that is no reason for a flag
BELOW = 0.05  # quantile of the holdout's distances
BLOCK = 512  # rows of the distance matrix, or images, at a time
SHORTLIST = 8  # training photos whose distance is computed without a matrix product's rounding


class Nearest(NamedTuple):
    """For each image: index of the nearest training photo (int64), distance to it, and the ratio
    of that to the distance of the second nearest (0 for an exact copy), each (N,)."""

    index: np.ndarray
    distance: np.ndarray
    ratio: np.ndarray


@dataclass(frozen=True)
class Audit:
    """What `audit` finds.

    space: of the distances, for the report: "pixels", or an extractor's name.
    share_close: share of images with d1 / d2 < 1/3; close_low, close_high its 95% Wilson interval.
    holdout_close: the same share for the holdout, which copies nothing.
    share_below: share nearer to a training photo than the nearest 5% of the holdout; 5% for a
        generator that copies nothing (with fewer than 19 holdout photos: the nearest of them all,
        and 1 / (n_holdout + 1)).
    z_u: rank test of the distances, below 0 if generated images are nearer than the holdout.
    z_drawn: above 0 if their nearest photo, among training and holdout, is a training photo more
        often than shuffled labels would make it; 0 on average for any generator without copies.
    flagged: see `audit`.
    """

    space: str
    n_generated: int
    n_train: int
    n_holdout: int
    share_close: float
    close_low: float
    close_high: float
    holdout_close: float
    share_below: float
    z_u: float
    z_drawn: float
    flagged: bool
    nearest: Nearest = field(repr=False, compare=False)

    def closest(self, n: int = 20) -> list[tuple[int, int, float, float]]:
        """The n images most likely copied, lowest ratio first: (generated index, training index,
        distance, ratio)."""
        index, distance, ratio = self.nearest
        order = np.lexsort((distance, ratio))[: max(n, 0)]
        return [(int(i), int(index[i]), float(distance[i]), float(ratio[i])) for i in order]


def wilson_interval(hits: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Confidence interval of a share, honest also for few hits (Wilson 1927); z: 1.96 for 95%.

    Raises:
        ValueError: no cases, or hits out of 0..n.
    """
    if not 0 <= hits <= n or n < 1:
        raise ValueError(f"{hits} hits among {n} cases: give 0 <= hits <= n and n >= 1")
    share, spread = hits / n, z * z / n
    middle = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / n + spread / (4 * n)) / (1 + spread)
    return max(middle - half, 0.0), min(middle + half, 1.0)


def mann_whitney_z(a: np.ndarray, b: np.ndarray) -> float:
    """Z of the rank sum test of a (n,) against b (m,): below 0 if a is mostly smaller.

    Normal approximation with the correction for ties; 0 if all values are equal.
    """
    n, m = len(a), len(b)
    ordered = np.sort(b)
    left, right = (np.searchsorted(ordered, a, side) for side in ("left", "right"))
    larger = (left + right).sum() / 2  # pairs in which a is the larger, ties counted as halves
    counts = np.unique(np.concatenate([a, b]), return_counts=True)[1].astype(float)
    total = n + m
    ties = (counts**3 - counts).sum() / (total * (total - 1))
    variance = n * m / 12 * (total + 1 - ties)
    return float((larger - n * m / 2) / math.sqrt(variance)) if variance > 0 else 0.0


def _nearest(images: Tensor, train: Tensor, flipped: Tensor | None) -> Nearest:
    """Nearest and second nearest training photo of each image, either way round."""
    parts = []
    for rows in images.split(BLOCK):
        squares = squared_distances(rows, train)
        if flipped is not None:
            squares = torch.minimum(squares, squared_distances(rows, flipped))
        listed = squares.topk(min(SHORTLIST, len(train)), largest=False).indices
        # A product's rounding hides the zero distance of an exact copy: the few candidates again.
        exact = _direct(rows, train, listed)
        if flipped is not None:
            exact = torch.minimum(exact, _direct(rows, flipped, listed))
        distances, places = exact.topk(2, largest=False)
        parts.append((listed.gather(1, places[:, :1])[:, 0], distances))
    index = torch.cat([part[0] for part in parts]).cpu().numpy()
    first, second = torch.cat([part[1] for part in parts]).cpu().numpy().T
    ratio = np.divide(first, second, out=np.zeros_like(first), where=second > 0)
    return Nearest(index, first, ratio)


def _direct(rows: Tensor, others: Tensor, listed: Tensor) -> Tensor:
    """Distances (n, k) of each row to others[listed], float64, from differences."""
    columns = [(rows - others[column]).double().norm(dim=1) for column in listed.unbind(1)]
    return torch.stack(columns, 1)


def _drawn(images: Tensor, train: Tensor, holdout: Tensor) -> float:
    """Z of the number of images whose nearest photo is a training photo.

    Without copying, the names "training" and "holdout" are shuffled labels of the photos. Each
    photo has as weight the number of images nearest to it, so mean and variance of the weights
    that the training photos collect are those of a draw without replacement: exact for any
    generator, also if all its images are nearest to one photo.
    """
    photos = torch.cat([train, holdout])
    chosen = torch.cat([squared_distances(rows, photos).argmin(1) for rows in images.split(BLOCK)])
    weights = torch.bincount(chosen, minlength=len(photos)).double()
    total, n, m = len(photos), len(train), len(holdout)
    variance = n * m / (total * (total - 1)) * (weights - weights.mean()).square().sum()
    excess = weights[:n].sum() - n * weights.mean()
    return float(excess / variance.sqrt()) if variance > 0 else 0.0


def audit(
    generated: np.ndarray | Tensor,
    train: np.ndarray | Tensor,
    holdout: np.ndarray | Tensor,
    *,
    space: str,
    train_flipped: np.ndarray | Tensor | None = None,
) -> Audit:
    """Compare generated images with the photos of the training and with others like them.

    `flagged` is True if one of these holds:

    1. At least two images are close (d1 / d2 < 1/3), and the lower end of the share's interval is
       above 1%; if holdout photos are close as well, above the upper end of *their* interval: then
       closeness is in the nature of these images.
    2. z_u < -3 and z_drawn > 3: the images as a whole are nearer to the training photos than
       unseen photos are, and to them in particular.

    5% of copies among 100 or more images are flagged. Below about 10% only the first rule sees
    them, and it needs d2 to be honest: no near-copies within `train`. The second takes photos as
    exchangeable: if whole shoots are held out, photos of one shoot count as if they were
    independent, and a generator of the training shoots' style alone can be flagged. Look at the
    pairs.

    Args:
        generated, train, holdout: features or pixels (N, d), float, of one scale; computed in
            float32 on the device of `generated`. Holdout: photos of the same kind, by the same
            crop, that the training never saw.
        space: what the numbers are: "pixels", or the extractor's name.
        train_flipped: the training photos mirrored left to right, in the same order: a copy may be
            the mirror image of its photo.

    Raises:
        ValueError: no images, fewer than two training photos, or arrays that do not fit.
    """
    names = ("generated", "train", "holdout")
    sets = (generated, train, holdout)
    generated, train, holdout = check_features(*sets, least=1, names=names, dtype=torch.float32)
    if len(train) < 2:
        raise ValueError("train holds 1 image: at least 2 are needed, for a second nearest")
    # Products of centred values round less; distances stay what they are.
    middle = train.mean(0)
    flipped = None
    if train_flipped is not None:
        names = ("train", "train_flipped")
        _, flipped = check_features(train, train_flipped, least=1, names=names, dtype=torch.float32)
        if len(flipped) != len(train):
            raise ValueError(
                f"train holds {len(train)} images, train_flipped {len(flipped)}: give the same "
                "photos in the same order"
            )
        flipped = flipped - middle
    generated, train, holdout = generated - middle, train - middle, holdout - middle
    found, unseen = (_nearest(images, train, flipped) for images in (generated, holdout))
    hits, unseen_hits = (int((each.ratio < CLOSE).sum()) for each in (found, unseen))
    low, high = wilson_interval(hits, len(generated))
    limit = wilson_interval(unseen_hits, len(holdout))[1] if unseen_hits else ALLOWED
    # This method, unlike numpy's own, leaves 5% of *further* photos below, whatever the count.
    bound = np.quantile(unseen.distance, BELOW, method="weibull")
    z_u = mann_whitney_z(found.distance, unseen.distance)
    z_drawn = _drawn(generated, train, holdout)
    return Audit(
        space=space,
        n_generated=len(generated),
        n_train=len(train),
        n_holdout=len(holdout),
        share_close=hits / len(generated),
        close_low=low,
        close_high=high,
        holdout_close=unseen_hits / len(holdout),
        share_below=float((found.distance < bound).mean()),
        z_u=z_u,
        z_drawn=z_drawn,
        flagged=(hits >= 2 and low > max(limit, ALLOWED)) or (z_u < -3 and z_drawn > 3),
        nearest=found,
    )


def pixel_vectors(images: np.ndarray, size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Images as long vectors, and the same mirrored left to right, for distances in pixels.

    Args:
        images: uint8 (N, H, H, 3), square: others would be stretched.
        size: side to which they are resized, antialiased; small, since copies differ in detail.

    Returns:
        Two float32 arrays (N, 3 * size * size) with values in [-1, 1].

    Raises:
        ValueError: another type or shape.
    """
    if images.ndim != 4 or images.shape[1] != images.shape[2]:
        raise ValueError(f"expected square images (N, H, H, 3), not {images.shape}")
    if size < 1:
        raise ValueError(f"size={size}: give the side in pixels")
    blocks = [images[start : start + BLOCK] for start in range(0, len(images), BLOCK)]
    planes = [resize(to_tensor(block), size) for block in blocks]
    whole = torch.cat(planes) if planes else torch.empty(0, 3, size, size)
    return whole.flatten(1).numpy(), whole.flip(3).flatten(1).numpy()


def pairs_sheet(
    generated: np.ndarray,
    train: np.ndarray,
    pairs: list[tuple[int, int, float, float]],
    columns: int = 4,
) -> np.ndarray:
    """Picture of suspicious pairs: each generated image, and beside it its training photo.

    Args:
        generated, train: uint8 (N, H, H, 3), square; photos are resized to the generated images.
        pairs: from `Audit.closest`: index of an image, index of a photo, and the rest unused.
        columns: pairs in a row.

    Returns:
        uint8 (height, width, 3), white between the pairs.

    Raises:
        ValueError: no pairs, fewer than one column, or images of another shape.
    """
    if not pairs or columns < 1:
        raise ValueError(f"{len(pairs)} pairs in {columns} columns: give at least one of each")
    for name, images in (("generated", generated), ("train", train)):
        if images.ndim != 4 or images.shape[1] != images.shape[2]:
            raise ValueError(f"{name}: expected square images (N, H, H, 3), not {images.shape}")
    side = generated.shape[1]
    left = generated[[pair[0] for pair in pairs]]
    right = to_uint8(resize(to_tensor(train[[pair[1] for pair in pairs]]), side))
    if left.dtype != np.uint8 or left.shape != right.shape:
        raise ValueError(f"expected uint8 RGB images, not {generated.dtype} {generated.shape}")
    gap = max(side // 8, 2)
    columns = min(columns, len(pairs))
    rows = -(-len(pairs) // columns)
    sheet = np.full((rows * (side + gap) + gap, columns * (2 * side + gap) + gap, 3), 255, np.uint8)
    for number, (image, photo) in enumerate(zip(left, right)):
        top = gap + number // columns * (side + gap)
        start = gap + number % columns * (2 * side + gap)
        sheet[top : top + side, start : start + 2 * side] = np.concatenate([image, photo], 1)
    return sheet
