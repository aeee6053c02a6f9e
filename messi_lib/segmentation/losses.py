"""Losses of the segmenter, each over the pixels that count, and their weighted sum.

Cross-entropy is the historical loss. Soft Dice and soft Jaccard (IoU) look at regions, so that
small people count as much as large ones; the boundary-weighted cross-entropy looks at the ring
where masks go wrong. Region losses of an image without people are undefined: there cross-entropy
alone speaks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

RING_WEIGHT = 4.0  # a pixel of the ring counts 1 + 4 times
RING_SHARE = 0.01  # half the ring's width, as a share of the diagonal


def dilate(region: Tensor, radius: int) -> Tensor:
    """Grow a bool region `(B,1,H,W)` by `radius` pixels (square neighbourhood)."""
    side = 2 * radius + 1
    return F.max_pool2d(region.float(), side, stride=1, padding=radius) > 0


def ring(person: Tensor, radius: int | None = None) -> Tensor:
    """Pixels within `radius` of the outline, on either side, bool `(B,1,H,W)`.

    The photo's own border is no outline. `radius` None: 1% of the diagonal, at least 1.
    """
    if radius is None:
        diagonal = (person.shape[-2] ** 2 + person.shape[-1] ** 2) ** 0.5
        radius = max(1, round(RING_SHARE * diagonal))
    return dilate(person, radius) & dilate(~person, radius)


def _per_image(values: Tensor) -> Tensor:
    return values.flatten(1).sum(1)


def bce(logits: Tensor, person: Tensor, ignore: Tensor) -> Tensor:
    """Cross-entropy with logits, mean over the counted pixels of the batch; scalar."""
    return _weighted_bce(logits, person, (~ignore).to(logits.dtype))


def boundary(logits: Tensor, person: Tensor, ignore: Tensor) -> Tensor:
    """Cross-entropy where the ring around the outlines counts five times; scalar.

    The weights are normalised by their sum, so that the value stays comparable with `bce`.
    """
    weight = 1 + RING_WEIGHT * ring(person & ~ignore).to(logits.dtype)
    return _weighted_bce(logits, person, weight * ~ignore)


def _weighted_bce(logits: Tensor, person: Tensor, weight: Tensor) -> Tensor:
    entropy = F.binary_cross_entropy_with_logits(logits, person.to(logits.dtype), reduction="none")
    return (entropy * weight).sum() / weight.sum().clamp_min(1.0)


def _overlap(logits: Tensor, person: Tensor, ignore: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    counted = ~ignore
    probability = torch.sigmoid(logits) * counted
    target = (person & counted).to(logits.dtype)
    return _per_image(probability * target), _per_image(probability), _per_image(target)


def _over_people(loss: Tensor, target: Tensor) -> Tensor:
    """Mean over the images with people; zero, with a gradient, when there are none."""
    people = (target > 0).to(loss.dtype)
    return (loss * people).sum() / people.sum().clamp_min(1.0)


def dice(logits: Tensor, person: Tensor, ignore: Tensor) -> Tensor:
    """1 - soft Dice, 1 - 2 |P T| / (|P| + |T|), mean over the images with people; scalar."""
    both, predicted, target = _overlap(logits, person, ignore)
    return _over_people(1 - 2 * both / (predicted + target).clamp_min(1e-6), target)


def iou(logits: Tensor, person: Tensor, ignore: Tensor) -> Tensor:
    """1 - soft Jaccard, 1 - |P T| / (|P| + |T| - |P T|), mean over the images with people; scalar.

    The union subtracts the intersection: without that, no prediction reaches 1 (post-mortem 3).
    """
    both, predicted, target = _overlap(logits, person, ignore)
    return _over_people(1 - both / (predicted + target - both).clamp_min(1e-6), target)


LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "bce": bce,
    "dice": dice,
    "iou": iou,
    "boundary": boundary,
}


def weighted_loss(
    terms: Iterable[tuple[str, float]], logits: Tensor, person: Tensor, ignore: Tensor
) -> tuple[Tensor, dict[str, float]]:
    """Weighted sum of named losses.

    Args:
        terms: pairs (name in `LOSSES`, weight).
        logits: `(B,1,h,w)`; brought to the size of `person` by bilinear interpolation if smaller.
        person, ignore: bool `(B,1,H,W)`; pixels of `ignore` count nowhere.

    Returns:
        the scalar loss, and the unweighted value of each term.

    Raises:
        ValueError: no terms, an unknown name, or regions that are not bool or of other shapes.
    """
    terms = tuple(terms)
    unknown = [name for name, _ in terms if name not in LOSSES]
    if unknown or not terms:
        raise ValueError(f"loss terms {terms}: use pairs of {', '.join(LOSSES)} and a weight")
    if person.dtype != torch.bool or ignore.dtype != torch.bool or person.shape != ignore.shape:
        raise ValueError(
            f"person {person.dtype} {tuple(person.shape)} and ignore {ignore.dtype} "
            f"{tuple(ignore.shape)} must be bool regions of one shape"
        )
    if person.shape[:2] != logits.shape[:2] or logits.shape[1] != 1:
        raise ValueError(f"logits {tuple(logits.shape)} do not fit person {tuple(person.shape)}")
    if logits.shape != person.shape:
        logits = F.interpolate(logits, size=person.shape[-2:], mode="bilinear", align_corners=False)
    logits = logits.float()
    total, values = logits.new_zeros(()), {}
    for name, weight in terms:
        value = LOSSES[name](logits, person, ignore)
        total = total + weight * value
        values[name] = float(value.detach())
    return total, values
