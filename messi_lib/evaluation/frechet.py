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


def check_features(
    *sets: np.ndarray | Tensor,
    least: int = 2,
    names: Sequence[str] = ("features_a", "features_b"),
    dtype: torch.dtype = torch.float64,
) -> list[Tensor]:
    """Features (n, d) as tensors of one type on the device of the first.

    Args:
        least: smallest number of images in a set.
        names: of the sets, for the messages.

    Raises:
        ValueError: not two-dimensional, fewer than `least` images, other widths, values that are
            no numbers.
    """
    tensors = [v if isinstance(v, Tensor) else torch.from_numpy(np.array(v)) for v in sets]
    result = []
    for name, values in zip(names, tensors, strict=True):
        if values.ndim != 2:
            raise ValueError(f"{name} has shape {tuple(values.shape)}, not (n, d)")
        if len(values) < least:
            raise ValueError(
                f"{name} holds {len(values)} image(s): at least {least} are needed, "
                + ("since one image has no spread" if least == 2 else "give more")
            )
        if values.shape[1] != tensors[0].shape[1]:
            raise ValueError(
                f"{names[0]} has width {tensors[0].shape[1]}, {name} {values.shape[1]}: use "
                "the same extractor for both"
            )
        values = values.to(tensors[0].device, dtype)
        if not torch.isfinite(values).all():
            raise ValueError(f"{name} holds values that are no numbers (NaN or infinite)")
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
    return _distance(_factor(a), _factor(b))


def _distance(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> float:
    root = torch.linalg.svdvals(a[1] @ b[1].T).sum()
    spread = a[1].square().sum() + b[1].square().sum()
    return max(float((a[0] - b[0]).square().sum() + spread - 2 * root), 0.0)


def frechet_jackknife(
    features_a: np.ndarray | Tensor, features_b: np.ndarray | Tensor, groups: int = 12
) -> tuple[float, float]:
    """The Frechet distance and its standard error from a delete-group jackknife.

    Each side is split at random (fixed seed) into groups; each group is left out once, first those
    of a, then those of b, and the two variances are added (Efron and Stein 1981). Resampling with
    replacement instead would fill the sets with copies and shift the distance itself. The error
    says how far another draw of as many images would fall, not how far off this many images are:
    the bias of small sets is larger and is in all of them alike.

    Costs two distances and 2 * groups times the eigenvalues of a matrix of side min(n, m, d), about
    the third of a distance each: what is not left out is not computed again.

    Args:
        features_a, features_b: (n, d) and (m, d), n, m >= 3.
        groups: on each side, at most as many as images.

    Returns:
        The distance, equal to `frechet_distance`, and its standard error.

    Raises:
        ValueError: groups < 2, or features that do not fit (see `check_features`).
    """
    if groups < 2:
        raise ValueError(f"groups={groups}: at least 2 are needed")
    a, b = check_features(features_a, features_b, least=3)
    middle = (a.mean(0) + b.mean(0)) / 2  # distances do not change, rounding gets smaller
    a, b = a - middle, b - middle
    factors = _factor(a), _factor(b)
    variance = 0.0
    for values, fixed in ((a, factors[1]), (b, factors[0])):
        without = _left_out(values, *fixed, groups=min(groups, len(values)))
        variance += (len(without) - 1) * float(without.var(correction=0))
    return _distance(*factors), variance**0.5


def _left_out(values: Tensor, mean: Tensor, factor: Tensor, groups: int) -> Tensor:
    """Distance of `values` (n, d), each group left out once, to a fixed mean and factor: (groups,).

    With P = X F^T for the centred rows X and the fixed factor F, the singular values are the roots
    of the eigenvalues of P P^T or P^T P, whichever is smaller. Without some rows, P P^T loses rows
    and columns, P^T P a small product, and both the shift of the mean.
    """
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(values), generator=generator).to(values.device)
    centre = values.mean(0)
    values = values - centre
    projected = values @ factor.T
    wide = len(projected) <= projected.shape[1]
    gram = projected @ projected.T if wide else projected.T @ projected
    squares, spread = values.square().sum(1), factor.square().sum()
    results = []
    for group in order.tensor_split(groups):
        kept = torch.ones(len(values), dtype=torch.bool, device=values.device)
        kept[group] = False
        count = int(kept.sum())
        shift = -values[group].sum(0) / count  # of the mean: all rows sum to zero
        if wide:
            part = gram[kept][:, kept]
            rows = part.mean(1)
            part = part - rows[:, None] - rows + rows.mean()
        else:
            moved = -projected[group].sum(0) / count
            part = gram - projected[group].T @ projected[group] - count * torch.outer(moved, moved)
        roots = torch.linalg.eigvalsh(part).clamp(min=0).sqrt().sum()
        total = squares[kept].sum() - count * shift.square().sum()
        gap = (centre + shift - mean).square().sum()
        results.append(gap + spread + total / (count - 1) - 2 * roots / (count - 1) ** 0.5)
    return torch.stack(results)


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
