"""Training the adapters: does the generator fit its surroundings better when it may look at them?

The condition is *context-only*: the person is blanked before the photo is encoded, so training and
use see the same thing and the answer cannot leak through the encoder (chapter 06, "the leakage
trap"). Only the adapters train; the generator and the encoder stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..consistency.objectives import ect_loss
from ..profiles import ConsistencyConfig, FusionConfig
from ..runs import Run
from ..training.loop import TrainResult, train
from ..training.sampler import PositionSampler
from .conditioned import ConditionedDenoiser
from .sources import blank, context_latents

__all__ = ["blank", "consistency_loss", "context_latents", "fusion_loss", "train_fusion"]


def consistency_loss(
    denoiser: nn.Module,
    images: Tensor,
    generator: torch.Generator,
    *,
    stage: int | None = None,
    **condition: Any,
) -> Tensor:
    """ECT loss of each image (B,), with the same condition and dropout mask on both sides.

    Noise levels and distance are those the generator was trained with.

    Args:
        stage: of consistency tuning, see `objectives.ect_partner`; None: the generator's last.
        condition: what else the denoiser takes (`inject`, `condition`).
    """
    config = denoiser.config or ConsistencyConfig()
    return ect_loss(
        denoiser,
        images.to(next(denoiser.parameters()).device),
        generator,
        stage=config.ect_stages - 1 if stage is None else stage,
        p_mean=config.ect_p_mean,
        p_std=config.ect_p_std,
        q=config.ect_q,
        huber_c=config.ect_huber_c,
        **condition,
    ).loss


def fusion_loss(
    conditioned: ConditionedDenoiser,
    images: Tensor,
    latents: Tensor | None,
    generator: torch.Generator,
    *,
    stage: int | None = None,
) -> Tensor:
    """`consistency_loss` of each image (B,) with its latents; `latents` None: without."""
    inject = None if latents is None else conditioned.inject(conditioned.condition(latents))
    return consistency_loss(conditioned, images, generator, stage=stage, inject=inject)


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
