"""How good a person region is: IoU and Boundary IoU, per image and over a whole data set.

Boundary IoU (Cheng et al. 2021, arXiv 2103.16562, eq. 1) compares only the inner bands of width d
along both outlines: it sees blocky edges that the area-bound IoU forgives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor


def _checked(pred: Tensor, target: Tensor, ignore: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Bool regions `(N,H,W)`; leading dimensions are flattened."""
    if ignore is None:
        ignore = torch.zeros_like(target)
    for name, region in (("pred", pred), ("target", target), ("ignore", ignore)):
        if region.dtype != torch.bool or region.dim() < 2 or region.shape != target.shape:
            raise ValueError(
                f"{name} {region.dtype} {tuple(region.shape)}: expected bool like target "
                f"{tuple(target.shape)}"
            )
    shape = (-1, *target.shape[-2:])
    return pred.reshape(shape), target.reshape(shape), ignore.reshape(shape)


def _ratio(intersection: Tensor, union: Tensor) -> Tensor:
    # Two empty regions agree: "nobody here" said of a photo without people is right.
    return torch.where(union > 0, intersection / union.clamp_min(1), torch.ones_like(intersection))


def _counts(pred: Tensor, target: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
    intersection = (pred & target & counted).flatten(1).sum(1)
    union = ((pred | target) & counted).flatten(1).sum(1)
    return intersection.double(), union.double()


def iou(pred: Tensor, target: Tensor, ignore: Tensor | None = None) -> Tensor:
    """Intersection over union of each image, float64 `(N,)`; 1 where both are empty.

    Args:
        pred, target, ignore: bool `(...,H,W)` of one shape; N is the product of the leading
            dimensions. Pixels of `ignore` count nowhere.

    Raises:
        ValueError: regions that are not bool, or of different shapes.
    """
    pred, target, ignore = _checked(pred, target, ignore)
    return _ratio(*_counts(pred, target, ~ignore))


def inner_band(region: Tensor, width: int) -> Tensor:
    """Pixels of a bool region `(N,H,W)` nearer than `width` to its outside, bool `(N,H,W)`.

    `width` erosions with a 3x3 square; what lies beyond the photo's border is outside, so that the
    border cuts regions (as in the published implementation).
    """
    outside = F.pad((~region).float()[:, None], (1, 1, 1, 1), value=1.0)
    # Erosion by `width` 3x3 squares is one erosion by a square of side 2 * width + 1; separable.
    side = 2 * width + 1
    grown = F.max_pool2d(outside, (side, 1), stride=1, padding=(width, 0))
    grown = F.max_pool2d(grown, (1, side), stride=1, padding=(0, width))
    return region & (grown[:, 0, 1:-1, 1:-1] > 0)


def band_width(height: int, width: int, share: float = 0.02) -> int:
    """Width of the band in pixels: `share` of the diagonal, rounded, at least 1."""
    return max(1, round(share * (height**2 + width**2) ** 0.5))


def boundary_iou(
    pred: Tensor, target: Tensor, ignore: Tensor | None = None, share: float = 0.02
) -> Tensor:
    """Boundary IoU of each image, float64 `(N,)`; 1 where both regions are empty.

    Args:
        pred, target, ignore: as in `iou`.
        share: width of the band, as a share of the diagonal (0.02 as published; 0.005 is strict).
    """
    pred, target, ignore = _checked(pred, target, ignore)
    width = band_width(*target.shape[-2:], share)
    return _ratio(*_counts(inner_band(pred, width), inner_band(target, width), ~ignore))


@dataclass
class Accumulator:
    """Quality over a data set, image after image.

    Attributes:
        rows: one per image: intersection and union in pixels, `iou`, Boundary IoU at 2% and 0.5% of
            the diagonal, in this order.
    """

    rows: list[tuple[float, float, float, float, float]] = field(default_factory=list)

    def add(self, pred: Tensor, target: Tensor, ignore: Tensor | None = None) -> None:
        """Count regions bool `(...,H,W)`; images of different sizes in different calls."""
        pred, target, ignore = _checked(pred, target, ignore)
        intersection, union = _counts(pred, target, ~ignore)
        columns = (
            intersection,
            union,
            _ratio(intersection, union),
            boundary_iou(pred, target, ignore, 0.02),
            boundary_iou(pred, target, ignore, 0.005),
        )
        self.rows += zip(*(column.tolist() for column in columns))

    def result(self, chosen: Sequence[int] | None = None) -> dict[str, float]:
        """Means over the images; `chosen`: positions of those that count, None: all.

        Returns:
            `mean_iou` (over images) and `mean_iou_95`, half the width of its 95% interval (normal
            approximation), `accumulated_iou` (all pixels together), `boundary_iou_2pct`,
            `boundary_iou_05pct`, `n_images`.

        Raises:
            ValueError: nothing was counted.
        """
        rows = self.rows if chosen is None else [self.rows[position] for position in chosen]
        if not rows:
            raise ValueError("no image was evaluated: the data set is empty")
        intersection, union, ious, wide, strict = torch.tensor(rows, dtype=torch.float64).unbind(1)
        spread = float(ious.std()) if len(rows) > 1 else float("nan")
        return {
            "mean_iou": float(ious.mean()),
            "mean_iou_95": 1.96 * spread / len(rows) ** 0.5,
            "accumulated_iou": float(_ratio(intersection.sum(), union.sum())),
            "boundary_iou_2pct": float(wide.mean()),
            "boundary_iou_05pct": float(strict.mean()),
            "n_images": len(rows),
        }
