"""Finds photos of the same shot (re-encoded, resized, mirrored, cropped) and of the same scene.

Candidates share local features or a perceptual hash; none is believed before the two photos have
been laid over each other and their pixels compared. "duplicate" means the same shot: the aligned
pixels agree everywhere. "related" means the same scene, such as a burst: the photos fit each other,
but something moved. Related photos may both be kept; they only must not be divided between
training and holdout.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from messi_lib.data.download import progress
from messi_lib.data.fingerprints import Fingerprint

DUPLICATE, RELATED = "duplicate", "related"
ALIKE = 0.92  # cosine of two descriptors that may show the same spot
VOTES = 6  # spots that two photos have in common before they are looked at
CANDIDATES = 40  # per photo and orientation, those with the most votes
HASH_BITS = 8  # at most so many of 64 differ
WINDOW = 25  # pixels, side of the windows whose contents must agree
CROPPED = 1.15  # a photo that shows things so much larger than another is a crop of it
FLAT = 6.0  # grey levels: windows with less variation on both sides have nothing to compare


@dataclass(frozen=True)
class Pair:
    """Two photos that show the same.

    Attributes:
        first, second: their numbers, first < second.
        level: "duplicate" or "related".
        mirrored: whether one is the mirror image of the other.
        spots: number of local features that lie in the same place (0: found by the hash alone).
        correlation: of the aligned grey values, -1 to 1.
        scale: how much larger the second shows things, both photos brought to equal size.
    """

    first: int
    second: int
    level: str
    mirrored: bool = False
    spots: int = 0
    correlation: float = 1.0
    scale: float = 1.0


def _feature_candidates(prints: Sequence[Fingerprint]) -> set[tuple[int, int, bool]]:
    """Pairs (i, j, mirrored), i < j, whose features look alike often."""
    counts = [len(entry.points) for entry in prints]
    start = np.concatenate([[0], np.cumsum(counts)])
    owner = np.repeat(np.arange(len(prints)), counts)
    everything = torch.from_numpy(np.concatenate([p.unit_descriptors() for p in prints]))
    votes: list[dict[tuple[int, int], int]] = [{}, {}]
    for i in progress(range(len(prints) - 1), len(prints) - 1, "comparing photos"):
        if not counts[i]:
            continue
        later = everything[start[i + 1] :]
        for mirrored in (False, True):
            rows = torch.from_numpy(prints[i].unit_descriptors(mirrored))
            row, column = (rows @ later.T > ALIKE).nonzero(as_tuple=True)
            # One vote per feature of i and photo j, however many features of j look like it.
            other = owner[start[i + 1] :][column.numpy()]
            once = np.unique(np.stack([other, row.numpy()]), axis=1)[0]
            for j, number in Counter(once.tolist()).items():
                if number >= VOTES:
                    votes[mirrored][i, j] = number
    found = set()
    for mirrored, table in enumerate(votes):
        of_photo: dict[int, list[tuple[int, int, int]]] = {}
        for (i, j), number in table.items():
            for photo in (i, j):
                of_photo.setdefault(photo, []).append((-number, i, j))
        for ranked in of_photo.values():
            found |= {(i, j, bool(mirrored)) for _, i, j in sorted(ranked)[:CANDIDATES]}
    return found


def _hash_candidates(prints: Sequence[Fingerprint]) -> set[tuple[int, int, bool]]:
    """Pairs (i, j, mirrored), i < j, whose perceptual hashes nearly agree."""
    hashes = np.array([entry.hashes for entry in prints])
    found = set()
    for i in range(len(prints) - 1):
        for mirrored in (False, True):
            differing = np.bitwise_count(hashes[i + 1 :, 0] ^ hashes[i, int(mirrored)])
            near = np.flatnonzero(differing <= HASH_BITS) + i + 1
            found |= {(i, int(j), mirrored) for j in near}
    return found


def _fit(a: Fingerprint, b: Fingerprint, mirrored: bool) -> tuple[np.ndarray, int, float] | None:
    """The similarity (2, 3) that lays a (or a mirrored) over b, by its common features.

    Returns:
        the map, the number of features that agree with it, the share of b's area they span; None
        if there is no such map, or one that turns or scales a photo as nobody would.
    """
    left = torch.from_numpy(a.unit_descriptors(mirrored))
    right = torch.from_numpy(b.unit_descriptors())
    if len(left) < VOTES or len(right) < VOTES:
        return None
    alike = left @ right.T
    best = alike.topk(2, dim=1)
    nearest = best.indices[:, 0]
    mutual = alike.argmax(0)[nearest] == torch.arange(len(left))
    # Lowe's ratio test; 1 - cosine is half the squared distance: 0.72 is 0.85 squared.
    clear = 1 - best.values[:, 0] < 0.72 * (1 - best.values[:, 1])
    chosen = (mutual & clear).numpy()
    if chosen.sum() < VOTES:
        return None
    source = (a.mirrored_points() if mirrored else a.points)[chosen].astype(np.float32)
    target = b.points[nearest.numpy()[chosen]]
    transform, agrees = cv2.estimateAffinePartial2D(
        source, target, method=cv2.RANSAC, ransacReprojThreshold=4, maxIters=400, confidence=0.99
    )
    if transform is None:
        return None
    there = np.unique(target[agrees.ravel() > 0].round(), axis=0)  # one spot has several features
    scale = float(np.hypot(*transform[:, 0]))
    upright = transform[0, 0] > 0.94 * scale  # turned by less than 20 degrees
    if len(there) < VOTES or not upright or not 1 / 12 < scale < 12:
        return None
    return transform, len(there), float(np.ptp(there, axis=0).prod() / b.grey.size)


def _agreement(a: np.ndarray, b: np.ndarray, transform: np.ndarray) -> tuple[float, float, float]:
    """How well grey photos uint8 agree where `transform` lays a over b.

    Returns:
        the overlap as a share of the smaller photo; the correlation in it; the correlation that
        nine tenths of the windows with any structure exceed.
    """
    full = np.vstack([transform, [0, 0, 1]])
    scale = float(np.hypot(*transform[:, 0]))
    if scale > 1:  # compare at the coarser scale: enlarging invents no detail
        a, b, full, scale = b, a, np.linalg.inv(full), 1 / scale
    blurred = [cv2.GaussianBlur(a, (0, 0), 1.2 / scale), cv2.GaussianBlur(b, (0, 0), 1.5)]
    height, width = b.shape
    x = cv2.warpAffine(blurred[0], full[:2], (width, height)).astype(np.float32)
    y = blurred[1].astype(np.float32)
    both = cv2.warpAffine(np.ones_like(a), full[:2], (width, height), flags=cv2.INTER_NEAREST)
    both = cv2.erode(both, np.ones((3, 3), np.uint8), borderValue=0)
    overlap = float(both.sum() / max(min(b.size, a.size * scale**2), 1))
    inside = both > 0
    if inside.sum() < 300:
        return overlap, 0.0, 0.0
    u, v = x[inside], y[inside]
    if max(u.std(), v.std()) < FLAT / 3:  # two even surfaces
        same = float(abs(u.mean() - v.mean()) < 3)
        return overlap, same, same
    overall = float(np.corrcoef(u, v)[0, 1]) if min(u.std(), v.std()) > 0.1 else 0.0

    def mean(values: np.ndarray) -> np.ndarray:
        return cv2.blur(values, (side, side))

    side = min(WINDOW, height, width)
    mean_x, mean_y = mean(x), mean(y)
    var_x, var_y = mean(x * x) - mean_x**2, mean(y * y) - mean_y**2
    local = (mean(x * y) - mean_x * mean_y) / np.sqrt(np.maximum(var_x, 4) * np.maximum(var_y, 4))
    whole = cv2.erode(both, np.ones((side, side), np.uint8), borderValue=0) > 0
    structured = whole & (np.maximum(var_x, var_y) > FLAT**2)
    if structured.sum() < 50:
        return overlap, overall, overall
    return overlap, overall, float(np.quantile(local[structured], 0.1))


def _level(spots: int, spread: float, overlap: float, overall: float, local: float) -> str | None:
    """What the numbers of `_fit` and `_agreement` mean; tuned on 443 press photos of one man.

    Faces of one man, laid over each other, correlate up to 0.75, and a sponsor's name on two shirts
    has 40 spots in common: neither may make a pair.
    """
    if overlap < 0.4:
        return None
    if (overall > 0.95 and local > 0.6) or (spots >= 20 and overall > 0.88 and local > 0.75):
        return DUPLICATE
    many = spots >= 20 and overall > 0.65 or spots >= 12 and overall > 0.75
    if many and spread > 0.05 or spots >= 8 and overall > 0.88:
        return RELATED
    return None


def compare(a: Fingerprint, b: Fingerprint, mirrored: bool = False) -> Pair | None:
    """The pair (0, 1) of two photos, if they show the same shot or scene, else None."""
    source = np.ascontiguousarray(a.grey[:, ::-1]) if mirrored else a.grey
    fit = _fit(a, b, mirrored)
    if fit is not None:
        transform, spots, spread = fit
        overlap, overall, local = _agreement(source, b.grey, transform)
        level = _level(spots, spread, overlap, overall, local)
        if level is not None:
            scale = float(np.hypot(*transform[:, 0]))
            return Pair(0, 1, level, mirrored, spots, round(overall, 4), round(scale, 4))
    ratio = np.divide(b.grey.shape, a.grey.shape)
    if abs(ratio[0] / ratio[1] - 1) > 0.04:  # the hash ignores proportions
        return None
    whole = np.array([[ratio[1], 0, (ratio[1] - 1) / 2], [0, ratio[0], (ratio[0] - 1) / 2]])
    overlap, overall, local = _agreement(source, b.grey, whole)
    level = _level(0, 0, overlap, overall, local)
    return level and Pair(0, 1, level, mirrored, 0, round(overall, 4), 1.0)


def find_duplicates(prints: Sequence[Fingerprint]) -> list[Pair]:
    """All pairs of photos that show the same shot or scene, sorted; time grows as their square.

    Of equal contents only the first is compared; the others get the same pairs.
    """
    first: dict[str, int] = {}
    different, pairs = [], []
    copies: dict[int, list[int]] = {}
    for number, entry in enumerate(prints):
        original = first.setdefault(entry.content, number) if entry.content else number
        if original == number:
            different.append(number)
        else:
            pairs.append(Pair(original, number, DUPLICATE))
            copies.setdefault(original, [original]).append(number)
    chosen = [prints[number] for number in different]
    if len(chosen) < 2:
        return pairs
    found: dict[tuple[int, int], Pair] = {}
    candidates = sorted(_feature_candidates(chosen) | _hash_candidates(chosen))
    for i, j, mirrored in progress(candidates, len(candidates), "checking pairs"):
        pair = compare(chosen[i], chosen[j], mirrored)
        if pair is None:
            continue
        key = different[i], different[j]
        known = found.get(key)  # a symmetrical picture fits its own mirror image
        if known is None or pair.correlation > known.correlation:
            found[key] = Pair(
                *key, pair.level, mirrored, pair.spots, pair.correlation, pair.scale
            )
    for pair in found.values():
        for one in copies.get(pair.first, [pair.first]):
            for other in copies.get(pair.second, [pair.second]):
                low, high = sorted((one, other))
                scale = pair.scale if low == one else round(1 / pair.scale, 4)
                pairs.append(dataclasses.replace(pair, first=low, second=high, scale=scale))
    return sorted(pairs, key=lambda pair: (pair.first, pair.second))


def keep_best(
    scores: Sequence[float], pairs: Iterable[Pair], sizes: Sequence[int] | None = None
) -> dict[int, int]:
    """Photos that are superfluous, each with the better photo of the same shot that is kept.

    The best photo is kept and its own duplicates go, then the best of the others, and so on: along
    a chain of crops nothing is dropped for a photo that does not show it. A duplicate that shows
    more of the scene is better as long as it has half the score.

    Args:
        scores: the higher the better, one per photo.
        sizes: decide between photos of equal scores, the larger is better; then the earlier one.
    """
    neighbours: dict[int, set[int]] = {}
    wider: dict[int, set[int]] = {}
    for pair in pairs:
        if pair.level != DUPLICATE:
            continue
        for one, other, closer in (
            (pair.first, pair.second, 1 / pair.scale),
            (pair.second, pair.first, pair.scale),
        ):
            neighbours.setdefault(one, set()).add(other)
            if closer > CROPPED:
                wider.setdefault(one, set()).add(other)

    def better(number: int) -> tuple[float, int, int]:
        return scores[number], sizes[number] if sizes else 0, -number

    left, dropped = set(neighbours), {}
    while left:
        best, seen = max(left, key=better), set()
        while best not in seen:
            seen.add(best)
            views = wider.get(best, set()) & left - seen
            enough = [number for number in views if scores[number] >= scores[best] / 2 > 0]
            best = max(enough, key=better, default=best)
        for other in neighbours[best] & left:
            dropped[other] = best
        left -= neighbours[best] | {best}
    return dropped


def group(n: int, pairs: Iterable[Pair], largest: int = 0) -> tuple[list[int], list[Pair]]:
    """Photos that belong on one side of a split.

    Args:
        n: number of photos.
        largest: related pairs are not followed beyond this many photos (0: any number), lest chains
            of weak links swallow the collection; the strongest are followed first. Duplicates
            always stay together.

    Returns:
        per photo the lowest number in its group; and the related pairs that were given up.
    """
    parent, size = list(range(n)), [1] * n

    def root(number: int) -> int:
        while parent[number] != number:
            parent[number] = parent[parent[number]]
            number = parent[number]
        return number

    given_up = []
    for pair in sorted(pairs, key=lambda p: (p.level != DUPLICATE, -p.spots, p.first, p.second)):
        low, high = sorted((root(pair.first), root(pair.second)))
        if low == high:
            continue
        if pair.level == RELATED and largest and size[low] + size[high] > largest:
            given_up.append(pair)
            continue
        parent[high] = low
        size[low] += size[high]
    return [root(number) for number in range(n)], given_up
