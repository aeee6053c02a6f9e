"""What moves the weights: optimiser, learning rate over the run, and the precision of a step."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import nn

from ..profiles import TrainConfig


def learning_rate(config: TrainConfig, step: int) -> float:
    """Linear warm-up, then constant or cosine to zero at `config.span`; `step` counts from 0.

    With the cosine, whose length is the run's, the warm-up takes a tenth of the run at most: one
    copied from a long run would be all of a short one.
    """
    warmup = min(config.warmup, config.span // 10 if config.lr_schedule == "cosine" else math.inf)
    warm = min((step + 1) / max(warmup, 1), 1.0)
    if config.lr_schedule == "constant":
        return config.lr * warm
    if config.lr_schedule == "cosine":
        return config.lr * warm * 0.5 * (1 + math.cos(math.pi * min(step / config.span, 1.0)))
    raise ValueError(f"lr_schedule={config.lr_schedule!r}: use 'constant' or 'cosine'")


def make_optimizer(
    model: nn.Module, config: TrainConfig, lr_scales: Mapping[str, float] | None = None
) -> torch.optim.Optimizer:
    """Adam, AdamW or RAdam over the parameters that train.

    Args:
        lr_scales: factors of the learning rate by name prefix, for instance `{"encoder.": 0.2}`.
    """
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "radam": torch.optim.RAdam}
    if config.optimizer not in kinds:
        raise ValueError(f"optimizer={config.optimizer!r}: use {', '.join(map(repr, kinds))}")
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            scales = [s for prefix, s in (lr_scales or {}).items() if name.startswith(prefix)]
            groups.setdefault(math.prod(scales), []).append(parameter)
    if not groups:
        raise ValueError("nothing to train: every parameter is frozen")
    fused = {} if config.optimizer == "radam" else {"fused": True}  # RAdam has no fused kernel
    return kinds[config.optimizer](
        [{"params": members, "scale": scale} for scale, members in groups.items()],
        lr=config.lr,
        weight_decay=config.weight_decay,
        **fused,
    )


def set_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group the learning rate of this step, times its own scale."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["scale"]


def autocast(precision: str, place: torch.device) -> torch.autocast:
    """The context in which a forward pass is computed; weights and losses stay float32.

    Args:
        precision: "fp32", "bf16" or "auto", which is bf16 on GPUs that compute in it and float32
            elsewhere: most CPUs are many times slower in bf16.

    Raises:
        ValueError: another precision.
    """
    if precision not in ("auto", "fp32", "bf16"):
        raise ValueError(f"precision={precision!r}: use 'auto', 'fp32' or 'bf16'")
    native = place.type == "cuda" and torch.cuda.is_bf16_supported()
    wanted = precision == "bf16" or (precision == "auto" and native)
    return torch.autocast(place.type, dtype=torch.bfloat16, enabled=wanted)


def drawing_autocast(precision: str, place: torch.device) -> torch.autocast:
    """`autocast` for sampling: as in the training on a GPU, and float32 everywhere else.

    A CPU thus draws the same images bit for bit, whatever the training's precision was. Speed and
    quality of samples in bf16 have not been measured on a GPU yet.
    """
    return autocast(precision if place.type == "cuda" else "fp32", place)
