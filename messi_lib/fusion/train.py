"""Training the adapters: does the generator fit its surroundings better when it may look at them?

The condition is *context-only*: the person is blanked before the photo is encoded, so training and
use see the same thing and the answer cannot leak through the encoder (chapter 06, "the leakage
trap"). Only the adapters train; the generator and the encoder stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..consistency.objectives import ect_loss
from ..images import resize
from ..profiles import ConsistencyConfig, FusionConfig
from ..runs import Run
from ..segmentation.model import PersonSegmenter
from ..training.loop import TrainResult, train
from ..training.sampler import PositionSampler
from .conditioned import ConditionedDenoiser


def blank(images: Tensor, hole: Tensor) -> Tensor:
    """Photos as the encoder sees them: the hole filled with the mean colour of what is kept.

    Args:
        images: (N, 3, S, S) in [-1, 1]. hole: bool (N, 1, S, S).

    Returns:
        (N, 3, S, S); nothing of it depends on the pixels inside the hole, its outline does show.

    Raises:
        ValueError: a hole of another type or shape.
    """
    if hole.dtype != torch.bool or hole.shape != (len(images), 1, *images.shape[2:]):
        wanted = (len(images), 1, *images.shape[2:])
        raise ValueError(f"hole must be bool {wanted}, not {hole.dtype} {tuple(hole.shape)}")
    keep = ~hole
    # where, not a product: 0 times a NaN inside the hole would still be a NaN.
    total = torch.where(hole, 0.0, images).sum((2, 3), keepdim=True)
    mean = total / keep.sum((2, 3), keepdim=True).clamp(min=1)
    return torch.where(hole, mean, images)


@torch.no_grad()
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
    place = next(segmenter.parameters()).device
    was_training = segmenter.training
    segmenter.eval()  # the same photo must give the same latents
    maps = []
    for part in resize(blank(images, hole), segmenter.config.image_size).split(batch):
        features = segmenter.features(part.to(place))
        if not 0 <= level < len(features):
            raise ValueError(f"level={level}: the encoder has maps 0 to {len(features) - 1}")
        maps.append(features[level].float().to(images.device))
    segmenter.train(was_training)
    return torch.cat(maps)


def fusion_loss(
    conditioned: ConditionedDenoiser,
    images: Tensor,
    latents: Tensor | None,
    generator: torch.Generator,
    *,
    stage: int | None = None,
) -> Tensor:
    """ECT loss of each image (B,), with the same condition on both sides; `latents` None: without.

    Noise levels and distance are those the generator was trained with.

    Args:
        stage: of consistency tuning, see `objectives.ect_partner`; None: the generator's last.
    """
    config = conditioned.config or ConsistencyConfig()
    inject = None if latents is None else conditioned.inject(conditioned.condition(latents))
    return ect_loss(
        conditioned,
        images.to(next(conditioned.parameters()).device),
        generator,
        stage=config.ect_stages - 1 if stage is None else stage,
        p_mean=config.ect_p_mean,
        p_std=config.ect_p_std,
        q=config.ect_q,
        huber_c=config.ect_huber_c,
        inject=inject,
    ).loss


def train_fusion(
    run: Run,
    config: FusionConfig,
    conditioned: ConditionedDenoiser,
    images: Tensor,
    latents: Tensor,
    *,
    shuffled: bool = False,
    on_log: Callable | None = None,
    quiet: bool = False,
) -> TrainResult:
    """Train the adapters on images (N, 3, S, S) with their latents (N, L, h, w).

    Args:
        shuffled: the control: every image gets another image's latents (always the same one's, so
            that it could learn pairs by heart as well), so that only the added parameters can help.

    Raises:
        ValueError: latents and images that do not pair up.
    """
    if len(images) != len(latents):
        raise ValueError(f"{len(images)} images but {len(latents)} latents: give one each")
    sampler = PositionSampler(len(images), config.batch, config.seed)
    partner = torch.arange(len(images)).roll(1) if shuffled else torch.arange(len(images))

    def batch_at(step: int, share: slice = slice(None)) -> tuple[Tensor, Tensor]:
        index = sampler(step)[share]
        return images[index], latents[partner[index]]

    def loss_fn(model, batch, generator, step):
        loss = fusion_loss(model, *batch, generator, stage=config.stage).mean()
        return loss, {"ect": float(loss.detach())}

    return train(run, conditioned, loss_fn, batch_at, config, on_log=on_log, quiet=quiet)
