"""Kernel inception distance: unbiased at any number of images, with an honest error bar.

KID is the squared maximum mean discrepancy under k(x, y) = (x.y / d + 1)^3 (Binkowski et al. 2018,
section 3; estimator: Gretton et al. 2012, eq. 3). All pairs are used at once, rather than the mean
over random subsets, whose printed "std" depends on the subset size and is no error of the result.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from messi_lib.evaluation.frechet import check_features

BLOCK = 1024  # rows of the kernel matrix at a time


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b.T / a.shape[1] + 1) ** 3


def _row_sums(a: Tensor, b: Tensor) -> Tensor:
    """Sum over b of k(a_i, b), for each i."""
    return torch.cat([_kernel(rows, b).sum(1) for rows in a.split(BLOCK)])


def _within(a: Tensor) -> Tensor:
    """Sum over j != i of k(a_i, a_j), for each i."""
    return _row_sums(a, a) - (a.square().sum(1) / a.shape[1] + 1) ** 3


def kid(features_a: np.ndarray | Tensor, features_b: np.ndarray | Tensor) -> tuple[float, float]:
    """Unbiased KID and its leave-one-out jackknife standard error.

    Args:
        features_a, features_b: (n, d) and (m, d), n, m >= 3; independent samples without copies.

    Returns:
        The value (zero on average, hence often negative, if both sets have one source) and its
        standard error. Multiply both by 1,000 to compare with published tables.

    Raises:
        ValueError: too few images or features that do not fit (see `frechet.check_features`).
    """
    a, b = check_features(features_a, features_b, least=3)
    n, m = len(a), len(b)
    rows_a, rows_b = _within(a), _within(b)
    cross_a, cross_b = _row_sums(a, b), _row_sums(b, a)
    sum_a, sum_b, cross = rows_a.sum(), rows_b.sum(), cross_a.sum()
    mean_a, mean_b = sum_a / (n * (n - 1)), sum_b / (m * (m - 1))
    value = mean_a + mean_b - 2 * cross / (n * m)
    # The estimate without image i, in closed form: i's row and column leave the sums.
    without_a = (
        (sum_a - 2 * rows_a) / ((n - 1) * (n - 2)) + mean_b - 2 * (cross - cross_a) / ((n - 1) * m)
    )
    without_b = (
        mean_a + (sum_b - 2 * rows_b) / ((m - 1) * (m - 2)) - 2 * (cross - cross_b) / (n * (m - 1))
    )
    variance = (n - 1) * without_a.var(correction=0) + (m - 1) * without_b.var(correction=0)
    return float(value), float(variance.sqrt())
