"""How good a person region is: IoU and Boundary IoU, per image and over a whole data set.

Boundary IoU (Cheng et al. 2021, arXiv 2103.16562, eq. 1) compares only the inner bands of width d
along both outlines: it sees blocky edges that the area-bound IoU forgives.
"""

from __future__ import annotations

from dataclasses import dataclass

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
    """IoU of a data set, image after image: the mean over images, and over all pixels together."""

    intersection: float = 0.0
    union: float = 0.0
    total: float = 0.0
    boundary: float = 0.0
    images: int = 0

    def add(self, pred: Tensor, target: Tensor, ignore: Tensor | None = None) -> None:
        """Count regions bool `(...,H,W)`; images of different sizes in different calls."""
        pred, target, ignore = _checked(pred, target, ignore)
        intersection, union = _counts(pred, target, ~ignore)
        self.intersection += float(intersection.sum())
        self.union += float(union.sum())
        self.total += float(_ratio(intersection, union).sum())
        self.boundary += float(boundary_iou(pred, target, ignore).sum())
        self.images += len(target)

    def result(self) -> dict[str, float]:
        """`mean_iou` (over images), `accumulated_iou`, `boundary_iou_2pct`, `n_images`.

        Raises:
            ValueError: nothing was counted.
        """
        if not self.images:
            raise ValueError("no image was evaluated: the data set is empty")
        return {
            "mean_iou": self.total / self.images,
            "accumulated_iou": self.intersection / self.union if self.union else 1.0,
            "boundary_iou_2pct": self.boundary / self.images,
            "n_images": self.images,
        }
