"""The default recipe: an EDM stage, then easy consistency tuning, in one network and one run.

No teacher, no target copy, no perceptual network. A run that is stopped in its first stage is still
a diffusion model, and its Heun samples are the quality that the second stage can hope for.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from .. import images as pixels
from ..profiles import ConsistencyConfig
from ..runs import Run, device, to_json
from ..training.checkpoints import save_weights
from ..training.ema import PowerEMA
from ..training.loop import TrainResult, train
from ..training.sampler import PositionSampler
from .denoiser import Denoiser, build_denoiser
from .objectives import ect_loss, edm_loss


def stage_of(config: ConsistencyConfig, step: int) -> int:
    """-1 in the EDM stage; 0, 1, ... `ect_stages - 1` in consistency tuning. `step` counts from
    0."""
    first = round(config.edm_fraction * config.steps)
    if step < first:
        return -1
    return min(
        (step - first) * config.ect_stages // max(config.steps - first, 1), config.ect_stages - 1
    )


def make_batches(config: ConsistencyConfig, images: np.ndarray) -> Callable[[int], Tensor]:
    """`step -> (batch, 3, S, S)` in [-1, 1], flipped left-right at random when `config.flip`.

    Raises:
        ValueError: images of another size, or fewer than a batch.
    """
    expected = (config.image_size, config.image_size, 3)
    if images.ndim != 4 or images.shape[1:] != expected or images.dtype != np.uint8:
        raise ValueError(
            f"images of shape {images.shape} and type {images.dtype}: expected "
            f"uint8 (N, {expected[0]}, {expected[1]}, 3)"
        )
    sampler = PositionSampler(len(images), config.batch, config.seed)

    def batch_at(step: int) -> Tensor:
        batch = images[sampler(step).numpy()]
        if config.flip:
            coin = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
            flipped = torch.rand(len(batch), generator=coin) < 0.5
            for index in flipped.nonzero()[:, 0].tolist():  # as bytes, ten times faster than later
                batch[index] = cv2.flip(batch[index], 1)
        return pixels.to_tensor(batch)

    return batch_at


def make_loss(config: ConsistencyConfig):
    """The loss of a step: EDM first, then ECT with its stage; see `stage_of`."""

    def loss_fn(
        denoiser: Denoiser, batch: Tensor, generator: torch.Generator, step: int
    ) -> tuple[Tensor, dict[str, float]]:
        batch = batch.to(next(denoiser.parameters()).device)
        stage = stage_of(config, step)
        if stage < 0:
            loss = edm_loss(
                denoiser, batch, generator, p_mean=config.edm_p_mean, p_std=config.edm_p_std
            ).mean()
            return loss, {"edm": float(loss.detach())}
        loss = ect_loss(
            denoiser,
            batch,
            generator,
            stage=stage,
            p_mean=config.ect_p_mean,
            p_std=config.ect_p_std,
            q=config.ect_q,
            huber_c=config.ect_huber_c,
        ).mean()
        return loss, {"ect": float(loss.detach()), "stage": float(stage)}

    return loss_fn


def train_consistency(
    run: Run,
    config: ConsistencyConfig,
    images: np.ndarray,
    *,
    on_log: Callable[[dict, Denoiser, PowerEMA], None] | None = None,
    quiet: bool = False,
) -> TrainResult:
    """Train (or go on with) a generator on uint8 images (N, S, S, 3) and export its EMA weights.

    The export, `run.folder/generator.safetensors`, is what `load_denoiser` reads.
    """
    torch.manual_seed(config.seed)
    denoiser = build_denoiser(config).to(device())
    result = train(
        run,
        denoiser,
        make_loss(config),
        make_batches(config, images),
        config,
        on_log=on_log,
        quiet=quiet,
    )
    export_denoiser(
        run.folder / "generator.safetensors", config, result.ema, {"steps": str(result.step)}
    )
    return result


def averaged(denoiser: Denoiser, ema: dict[str, Tensor]) -> Denoiser:
    """A copy of the denoiser in eval mode that carries the averaged weights."""
    copied = copy.deepcopy(denoiser)
    copied.load_state_dict(ema)
    return copied.eval().requires_grad_(False)


def export_denoiser(
    path: Path, config: ConsistencyConfig, state: dict[str, Tensor], notes: dict[str, str]
) -> Path:
    """Write weights for `load_denoiser`, in half precision, with their configuration."""
    metadata = {"kind": "generator", "config": json.dumps(to_json(config)), **notes}
    return save_weights(path, state, metadata)
