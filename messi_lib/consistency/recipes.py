"""What a run does at each step: its objective, with the schedules, target and teacher it needs.

The objectives themselves are pure functions (`objectives`, `discrete`). Here stands when each is
used, and with what settings: on which grid of noise levels, how the target follows the student.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn

from ..profiles import ConsistencyConfig, unknown
from .denoiser import Denoiser
from .discrete import cd_loss, ct_loss, ct_scales, ct_target_rate, ict_loss, ict_scales
from .objectives import Losses, ect_loss, edm_loss

SCALES = {"ct": (2, 150), "ict": (10, 1280), "cd": (40, 40)}  # as published
OBJECTIVES = ("ect", "edm", "ct", "cd", "ict")
# Network evaluations per image and step, a backward pass counted as two: the unit of `equal
# compute`. CD runs its teacher twice (Heun) besides student and target.
COST = {"edm": 3, "ect": 4, "ct": 4, "ict": 4, "cd": 6}


def stage_of(config: ConsistencyConfig, step: int) -> int:
    """Stage of the default recipe at `step` (counted from 0).

    Returns:
        -1 in the EDM stage; 0, 1, ... `ect_stages - 1` in consistency tuning.
    """
    if config.objective != "ect":
        return -1 if config.objective == "edm" else 0
    first = round(config.edm_fraction * config.span)
    if step < first:
        return -1
    return min(
        (step - first) * config.ect_stages // max(config.span - first, 1), config.ect_stages - 1
    )


def passes(config: ConsistencyConfig, steps: int | None = None) -> int:
    """Network evaluations per image summed over a run's steps (see `COST`): its cost per image."""
    steps = config.steps if steps is None else steps
    if config.objective != "ect":
        return COST[config.objective] * steps
    first = min(round(config.edm_fraction * config.span), steps)
    return COST["edm"] * first + COST["ect"] * (steps - first)


def check_objective(objective: str, taught: bool) -> None:
    """Refuse what cannot be trained.

    Args:
        taught: whether there is a teacher.

    Raises:
        ValueError: an unknown objective; distillation without a teacher, or a teacher for nothing.
    """
    if objective not in OBJECTIVES:
        raise unknown("objective", objective, list(OBJECTIVES))
    if (objective == "cd") != taught:
        raise ValueError(
            "objective='cd' distils a diffusion model: give one trained with objective='edm' "
            "as teacher (and none to the other objectives)"
        )


class Recipe:
    """The losses of a run, step by step.

    Args:
        denoiser: the network that is trained.
        teacher: a diffusion denoiser, for `cd`; student and target begin as its copies.

    Attributes:
        target: the slow copy of CT and CD, part of the run's state; None for the others, which are
            their own target.

    Raises:
        ValueError: an unknown objective, or distillation without a teacher.
    """

    def __init__(
        self, config: ConsistencyConfig, denoiser: nn.Module, teacher: nn.Module | None = None
    ):
        check_objective(config.objective, teacher is not None)
        self.config = config
        self.teacher = teacher
        if teacher is not None:
            denoiser.load_state_dict(teacher.state_dict())
        self.target: nn.Module | None = None
        if config.objective in ("ct", "cd"):
            self.target = copy.deepcopy(denoiser).requires_grad_(False)

    def scales(self, step: int) -> int:
        """N(k), the levels of the grid at `step`; for `ct`, `ict` and `cd`."""
        config = self.config
        start, end = config.scales or SCALES[config.objective]
        if config.objective == "ct":
            return ct_scales(step, config.span, start, end)
        if config.objective == "ict":
            return ict_scales(step, config.span, start, end)
        return end

    def __call__(
        self,
        denoiser: Denoiser,
        images: Tensor,
        generator: torch.Generator,
        step: int,
        **condition: Any,
    ) -> Losses:
        """Losses of clean images (B, ...) in [-1, 1] at `step`, counted from 0."""
        config = self.config
        stage = stage_of(config, step)
        tuning = config.objective == "ect" and stage >= 0
        set_dropout(denoiser, config.ect_dropout if tuning else config.dropout)
        if config.objective == "ect" or config.objective == "edm":
            if not tuning:
                levels = {"p_mean": config.edm_p_mean, "p_std": config.edm_p_std}
                return edm_loss(denoiser, images, generator, **levels, **condition)
            return ect_loss(
                denoiser,
                images,
                generator,
                stage=stage,
                p_mean=config.ect_p_mean,
                p_std=config.ect_p_std,
                q=config.ect_q,
                huber_c=config.ect_huber_c,
                **condition,
            )
        scales = self.scales(step)
        if config.objective == "ict":
            return ict_loss(
                denoiser,
                images,
                generator,
                scales=scales,
                p_mean=config.ect_p_mean,
                p_std=config.ect_p_std,
                huber_c=0.00054 * math.sqrt(images[0].numel()),  # iCT, section 3.3
                **condition,
            )
        common = {"scales": scales, "distance": config.distance, **condition}
        if config.objective == "ct":
            return ct_loss(denoiser, self.target, images, generator, **common)
        return cd_loss(denoiser, self.target, images, generator, teacher=self.teacher, **common)

    @torch.no_grad()
    def after_step(self, denoiser: nn.Module, step: int) -> None:
        """Let the target follow: theta- <- mu theta- + (1 - mu) theta, after step `step`."""
        if self.target is None:
            return
        rate = self.config.target_rate
        if self.config.objective == "ct":
            start = (self.config.scales or SCALES["ct"])[0]
            rate = ct_target_rate(self.scales(step), start, rate)
        for slow, fast in zip(self.target.parameters(), denoiser.parameters()):
            slow.lerp_(fast, 1 - rate)


def set_dropout(denoiser: nn.Module, rate: float) -> None:
    """The probability of every dropout layer."""
    for module in denoiser.modules():
        if isinstance(module, nn.Dropout):
            module.p = rate
