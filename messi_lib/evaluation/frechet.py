"""The Frechet distance between two sets of features, for any number of images.

FID is |m_a - m_b|^2 + Tr(C_a + C_b - 2 (C_a C_b)^(1/2)) with means m and covariances C (Heusel et
al. 2017, eq. 6; Dowson and Landau 1982). With Xa the centred features divided by sqrt(n - 1), C_a
is Xa^T Xa, and the eigenvalues of C_a C_b are the squared singular values of Xa Xb^T. So the last
trace is the nuclear norm of an n x m matrix: no d x d matrix, no matrix root, never complex.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor


def check_features(*sets: np.ndarray | Tensor, least: int = 2) -> list[Tensor]:
    """Features (n, d) as float64 tensors on the device of the first.

    Raises:
        ValueError: not two-dimensional, fewer than `least` images, other widths, values that are
            no numbers.
    """
    tensors = [v if isinstance(v, Tensor) else torch.from_numpy(np.array(v)) for v in sets]
    result = []
    for letter, values in zip("ab", tensors):
        if values.ndim != 2:
            raise ValueError(f"features_{letter} has shape {tuple(values.shape)}, not (n, d)")
        if len(values) < least:
            raise ValueError(
                f"features_{letter} holds {len(values)} image(s): at least {least} are needed, "
                "since one image has no spread"
            )
        if values.shape[1] != tensors[0].shape[1]:
            raise ValueError(
                f"features_a has width {tensors[0].shape[1]}, features_b {values.shape[1]}: use "
                "the same extractor for both"
            )
        values = values.to(tensors[0].device, torch.float64)
        if not torch.isfinite(values).all():
            raise ValueError(
                f"features_{letter} holds values that are no numbers (NaN or infinite)"
            )
        result.append(values)
    return result


def _factor(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (d,) and X (min(n, d), d) with X^T X the unbiased covariance."""
    mean = features.mean(0)
    centred = (features - mean) / (len(features) - 1) ** 0.5
    if len(centred) > centred.shape[1]:
        centred = torch.linalg.qr(centred, mode="r").R  # X = QR, and X^T X = R^T R
    return mean, centred


def frechet_distance(features_a: np.ndarray | Tensor, features_b: np.ndarray | Tensor) -> float:
    """Frechet distance between Gaussians fitted to two sets of features.

    Equal to `pytorch_fid.fid_score.calculate_frechet_distance` of their means and covariances,
    within 1e-5 relative for n <= d (where that one is the less exact) and 1e-9 for n > d.

    Args:
        features_a, features_b: (n, d) and (m, d), n, m >= 2; computed in float64 on their device.

    Returns:
        A number >= 0; rounding below zero is cut off.

    Raises:
        ValueError: see `check_features`.
    """
    a, b = check_features(features_a, features_b)
    mean_a, factor_a = _factor(a)
    mean_b, factor_b = _factor(b)
    root = torch.linalg.svdvals(factor_a @ factor_b.T).sum()
    spread = factor_a.square().sum() + factor_b.square().sum()
    return max(float((mean_a - mean_b).square().sum() + spread - 2 * root), 0.0)


def check_distinct(images: Iterable[np.ndarray], names: Sequence[str] | None = None) -> None:
    """Refuse a set in which an image occurs twice: uint8 (N, H, W, 3) or single arrays.

    Copies raise neither the rank nor the truth of a covariance: FID hardly moves and only looks as
    if it came from more images, while KID and all neighbour statistics are spoilt (post-mortem 11).

    Args:
        names: of the images, for the message; else their numbers.

    Raises:
        ValueError: naming how many copies there are, and the first pair.
    """
    first: dict[bytes, int] = {}
    copies = []
    for number, image in enumerate(images):
        content = hashlib.sha256(np.ascontiguousarray(image)).digest()
        if content in first:
            copies.append((first[content], number))
        first.setdefault(content, number)
    if copies:
        pair = [names[number] if names else f"image {number}" for number in copies[0]]
        total = len(first) + len(copies)
        raise ValueError(
            f"{len(copies)} of {total} images are copies of others ({pair[0]} and {pair[1]}): a "
            "set filled up with copies spoils FID and KID, remove them"
        )
