"""What the encoder is shown, so that its latents help without telling the answer.

`context`: the person is blanked; training and use see the same, nothing can leak. `pose`: of the
person only the coarsest map, without colours and surroundings, and where the hole is; what it can
leak is little. `everything`: the photo as it is, person and all: an upper bound that says how much
there is to gain by leaking, and no condition to use.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..images import resize
from ..profiles import unknown
from ..segmentation.model import PersonSegmenter

SOURCES = ("context", "pose", "everything")
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def blank(images: Tensor, hole: Tensor) -> Tensor:
    """Photos as the encoder sees them: the hole filled with the mean colour of what is kept.

    Args:
        images: (N, 3, S, S) in [-1, 1]. hole: bool (N, 1, S, S).

    Returns:
        (N, 3, S, S); nothing of it depends on the pixels inside the hole, its outline does show.

    Raises:
        ValueError: a hole of another type or shape.
    """
    _check_hole(images, hole)
    keep = ~hole
    # where, not a product: 0 times a NaN inside the hole would still be a NaN.
    total = torch.where(hole, 0.0, images).sum((2, 3), keepdim=True)
    mean = total / keep.sum((2, 3), keepdim=True).clamp(min=1)
    return torch.where(hole, mean, images)


def context_latents(
    segmenter: PersonSegmenter, images: Tensor, hole: Tensor, level: int, batch: int = 16
) -> Tensor:
    """Encoder map `level` of photos whose hole is blanked.

    Args:
        images: (N, 3, S, S) in [-1, 1]. hole: bool (N, 1, S, S).
        level: 0 to 3, from fine to coarse.

    Returns:
        (N, L, h, w) float32, where `images` are.

    Raises:
        ValueError: a level the encoder does not have, a hole of another type or shape.
    """
    return encoded(segmenter, blank(images, hole), level, batch)


def pose_latents(
    segmenter: PersonSegmenter, images: Tensor, hole: Tensor, batch: int = 16
) -> Tensor:
    """The coarsest map of the person in grey, on nothing, and the hole's share of each cell.

    Args:
        images: (N, 3, S, S) in [-1, 1], with the person whose pose is wanted in the hole.
        hole: bool (N, 1, S, S).

    Returns:
        (N, L + 1, h, w) float32; nothing of it depends on the surroundings or on hues.

    Raises:
        ValueError: a hole of another type or shape.
    """
    _check_hole(images, hole)
    grey = (images * images.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)
    person = torch.where(hole, grey, 0.0).expand_as(images)
    coarsest = encoded(segmenter, person, 3, batch)
    share = F.adaptive_avg_pool2d(hole.to(coarsest), coarsest.shape[2:])
    return torch.cat([coarsest, share], 1)


@torch.no_grad()
def encoded(segmenter: PersonSegmenter, images: Tensor, level: int, batch: int = 16) -> Tensor:
    """Encoder map `level` (N, L, h, w) of photos as they are, resized to the encoder's size.

    Raises:
        ValueError: a level the encoder does not have.
    """
    place = next(segmenter.parameters()).device
    was_training = segmenter.training
    segmenter.eval()  # the same photo must give the same latents
    maps = []
    for part in resize(images, segmenter.config.image_size).split(batch):
        features = segmenter.features(part.to(place))
        if not 0 <= level < len(features):
            raise ValueError(f"level={level}: the encoder has maps 0 to {len(features) - 1}")
        maps.append(features[level].float().to(images.device))
    segmenter.train(was_training)
    return torch.cat(maps)


def latents_from(
    source: str,
    segmenter: PersonSegmenter,
    images: Tensor,
    hole: Tensor,
    level: int,
    batch: int = 16,
) -> Tensor:
    """The latents of that source, see `SOURCES`; `pose` always reads the coarsest map.

    Raises:
        ValueError: an unknown source, and as `context_latents`.
    """
    if source == "context":
        return context_latents(segmenter, images, hole, level, batch)
    if source == "pose":
        return pose_latents(segmenter, images, hole, batch)
    if source == "everything":
        return encoded(segmenter, images, level, batch)
    raise unknown("source", source, list(SOURCES))


def _check_hole(images: Tensor, hole: Tensor) -> None:
    wanted = (len(images), 1, *images.shape[2:])
    if hole.dtype != torch.bool or hole.shape != wanted:
        raise ValueError(f"hole must be bool {wanted}, not {hole.dtype} {tuple(hole.shape)}")
