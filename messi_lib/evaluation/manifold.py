"""Precision, recall, density and coverage: are the images good, and are they all there?

Each set is a region, the union of balls around its features that reach to the k-th neighbour within
the set. Precision: share of generated images in the region of the real ones; recall: share of real
ones in the region of the generated (Kynkaanniemi et al. 2019, eq. 1 and 2). One lonely real image
has a huge ball, and precision believes whatever falls into it. Density counts balls instead of
asking for one, coverage asks how many real balls hold a generated image (Naeem et al. 2020). All
depend on the number of images: compare them at equal n and k only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from messi_lib.evaluation.frechet import check_features

BLOCK = 1024  # rows of the distance matrix at a time


@dataclass(frozen=True)
class Prdc:
    """Shares in [0, 1], but `density`, which is 1 on average for a perfect generator and has no
    upper limit; `n` images on each side, balls to the `k`-th neighbour."""

    precision: float
    recall: float
    density: float
    coverage: float
    n: int
    k: int


def squared_distances(rows: Tensor, others: Tensor) -> Tensor:
    """Squared Euclidean distances (n, m) through one matrix product, rounding below 0 cut off."""
    products = rows @ others.T
    squares = rows.square().sum(1)[:, None] + others.square().sum(1)
    return squares.sub_(products, alpha=2).clamp_(min=0)


def _radii(values: Tensor, k: int) -> Tensor:
    """Squared distance of each row to its k-th neighbour, itself left out: (n,)."""
    found = []
    for start in range(0, len(values), BLOCK):
        squares = squared_distances(values[start : start + BLOCK], values)
        squares.diagonal(start).fill_(torch.inf)  # by place: rounding may hide the own zero
        found.append(squares.kthvalue(k, 1).values)
    return torch.cat(found)


def prdc(real: np.ndarray | Tensor, generated: np.ndarray | Tensor, k: int = 5) -> Prdc:
    """Precision, recall, density and coverage of a generator.

    Args:
        real, generated: features (n, d), equally many, without copies (copies shrink the balls and
            spoil all four numbers); computed in float64 on the device of `real`.
        k: neighbour that a ball reaches to; 5 throughout the course.

    Raises:
        ValueError: other counts on the two sides, k out of 1..n-1, or features that do not fit
            (see `frechet.check_features`).
    """
    names = ("real", "generated")
    real, generated = check_features(real, generated, names=names)
    n = len(real)
    if n != len(generated):
        raise ValueError(
            f"{n} real and {len(generated)} generated images: the four numbers depend on the "
            f"counts, subsample the larger set to {min(n, len(generated))}"
        )
    if not 1 <= k < n:
        raise ValueError(f"k={k} with {n} images a side: give 1 to {n - 1}")
    middle = real.mean(0)  # products of centred features are smaller, and so is their rounding
    real, generated = real - middle, generated - middle
    real_radii, generated_radii = _radii(real, k), _radii(generated, k)
    balls = torch.zeros(n, dtype=torch.int64, device=real.device)  # real balls around a generated
    covered = recalled = 0
    for start in range(0, n, BLOCK):
        squares = squared_distances(real[start : start + BLOCK], generated)
        inside = squares <= real_radii[start : start + BLOCK, None]
        balls += inside.sum(0)
        covered += int(inside.any(1).sum())
        recalled += int((squares <= generated_radii).any(1).sum())
    return Prdc(
        precision=int((balls > 0).sum()) / n,
        recall=recalled / n,
        density=int(balls.sum()) / (k * n),
        coverage=covered / n,
        n=n,
        k=k,
    )
