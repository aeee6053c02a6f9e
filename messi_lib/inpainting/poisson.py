"""Poisson blending: the gradients of the patch, the colours of the photo at its edge.

Perez, Gangnet and Blake 2003, "Poisson image editing": the blended image is the patch plus a
membrane, the solution of Laplace's equation inside that takes the difference between photo and
patch at the edge (eq. 5).
"""

from __future__ import annotations

import cv2
import numpy as np

SIDE = 160  # the membrane is solved at most at this side: it is smooth, and 160^2 cells take 0.2 s


def membrane(difference: np.ndarray, inside: np.ndarray, edge: np.ndarray) -> np.ndarray:
    """Laplace's equation with the given values at the edge.

    Args:
        difference: float32 `(H,W,C)`, read at the edge only.
        inside: bool `(H,W)`, where the membrane is wanted.
        edge: bool `(H,W)`, outside of it: the pixels that hold the membrane. Where it has no such
            neighbour, as at the photo's border, it ends level (its derivative is 0).

    Returns:
        float32 `(H,W,C)`: the membrane inside, the difference at the edge, 0 elsewhere. Regions
        with a side of more than SIDE pixels are solved on coarser cells. 0 without an edge.
    """
    result = np.where(edge[..., None], difference, 0).astype(np.float32)
    if not edge.any() or not inside.any():
        return result
    height, width = inside.shape
    factor = max(-(-max(height, width) // SIDE), 1)
    values, held, free = result, edge, inside
    if factor > 1:
        cells = (-(-width // factor), -(-height // factor))
        share = cv2.resize(edge.astype(np.float32), cells, interpolation=cv2.INTER_AREA)
        values = cv2.resize(result, cells, interpolation=cv2.INTER_AREA)
        values = values.reshape(*share.shape, -1) / np.maximum(share, 1e-6)[..., None]
        held = share > 0
        free = cv2.resize(inside.astype(np.float32), cells, interpolation=cv2.INTER_AREA) > 0
    solved = _solve(values, held, free & ~held)
    if factor > 1:
        solved = cv2.resize(solved, (width, height), interpolation=cv2.INTER_LINEAR)
        solved = solved.reshape(height, width, -1)
    result[inside] = solved[inside]
    return result


def _solve(values: np.ndarray, held: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Each free cell is the mean of its neighbours, free or held; `(H,W,C)`."""
    from scipy import sparse  # imports slowly, and few blend this way
    from scipy.sparse.linalg import splu

    result = np.where(held[..., None], values, 0).astype(np.float64)
    count = int(free.sum())
    number = np.full(free.shape, -1)
    number[free] = np.arange(count)
    known = np.zeros((count, values.shape[2]))
    degree, rows, columns = np.zeros(count), [], []
    for axis in (0, 1):
        for first, second in ((slice(None, -1), slice(1, None)), (slice(1, None), slice(None, -1))):
            here = (first, slice(None)) if axis == 0 else (slice(None), first)
            next_ = (second, slice(None)) if axis == 0 else (slice(None), second)
            both = free[here] & free[next_]
            rows.append(number[here][both])
            columns.append(number[next_][both])
            np.add.at(degree, number[here][both], 1)
            anchored = free[here] & held[next_]
            np.add.at(degree, number[here][anchored], 1)
            np.add.at(known, number[here][anchored], result[next_][anchored])
    # Cells that reach no held one have no solution; a trace of weight draws them to 0.
    rows, columns = np.concatenate(rows), np.concatenate(columns)
    links = sparse.coo_matrix((np.ones(len(rows)), (rows, columns)), (count, count))
    if count:
        result[free] = splu((sparse.diags(degree + 1e-9) - links).tocsc()).solve(known)
    return result.astype(np.float32)
