"""The memorisation audit of a set of samples, in pixels and in features, as entries of a report.

With a holdout it is `memorisation.audit`. Without one nothing tells how near unseen photos come;
what is left is the first of its rules: the share of images whose nearest training photo is three
times as near as the second.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from messi_lib.evaluation.frechet import check_features
from messi_lib.evaluation.memorisation import (
    ALLOWED,
    CLOSE,
    _nearest,
    audit,
    pixel_vectors,
    wilson_interval,
)

SIDE = 64  # px, at most, at which pixels are compared
FIELDS = (
    "n_generated", "n_train", "n_holdout", "share_close", "close_low", "close_high",
    "holdout_close", "share_below", "z_u", "z_drawn", "flagged",
)  # fmt: skip
Pairs = list[tuple[int, int, float, float]]  # image, training photo, distance, ratio


@dataclass(frozen=True)
class Space:
    """Where distances are taken: vectors (N, d) of the photos.

    Args:
        name: "pixels", or the extractor's.
        train: of the training photos; `flipped` of the same, mirrored; None: no mirrored copies
            are looked for.
        holdout: of photos that the training never saw, or None.
    """

    name: str
    train: np.ndarray
    flipped: np.ndarray | None
    holdout: np.ndarray | None

    def audit(self, generated: np.ndarray, shown: int) -> tuple[dict, Pairs]:
        """The numbers on vectors (n, d) of generated images, and the closest pairs."""
        entry: dict = {"space": self.name, "mirrored": self.flipped is not None}
        if self.holdout is not None:
            found = audit(
                generated, self.train, self.holdout, space=self.name, train_flipped=self.flipped
            )
            return entry | {name: getattr(found, name) for name in FIELDS}, found.closest(shown)
        sets = [generated, self.train] + ([] if self.flipped is None else [self.flipped])
        names = ("generated", "train", "train_flipped")[: len(sets)]
        sets = check_features(*sets, least=2, names=names, dtype=torch.float32)
        index, distance, ratio = _nearest(*sets, *[None] * (3 - len(sets)))
        hits = int((ratio < CLOSE).sum())
        low, high = wilson_interval(hits, len(ratio))
        entry |= dict.fromkeys(FIELDS)
        entry |= {
            "n_generated": len(generated),
            "n_train": len(self.train),
            "n_holdout": 0,
            "share_close": hits / len(ratio),
            "close_low": low,
            "close_high": high,
            "flagged": hits >= 2 and low > ALLOWED,
        }
        order = np.lexsort((distance, ratio))[:shown]
        pairs = [(int(i), int(index[i]), float(distance[i]), float(ratio[i])) for i in order]
        return entry, pairs


def pixel_space(real: np.ndarray, holdout: np.ndarray | None) -> Space:
    """Pixels of uint8 (N, S, S, 3) photos, at no more than 64 px: copies differ in detail."""
    side = min(real.shape[1], SIDE)
    train, flipped = pixel_vectors(real, side)
    unseen = None if holdout is None else pixel_vectors(holdout, side)[0]
    return Space("pixels", train, flipped, unseen)


def pixels_of(images: np.ndarray) -> np.ndarray:
    """Vectors of uint8 (N, S, S, 3) images that compare with `pixel_space`."""
    return pixel_vectors(images, min(images.shape[1], SIDE))[0]
