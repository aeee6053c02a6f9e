"""One training loop for every chapter: a chapter hands it a network, a loss and batches by
position.

The randomness of a step comes from `(seed, step)` alone and data by position, so the same command
run again goes on where the run stopped and gives the same weights as a run that never stopped.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..profiles import TrainConfig
from ..runs import Run, seed_generator
from .checkpoints import StateFiles
from .ema import PowerEMA
from .feed import BatchAt, batches

LossFn = Callable[[nn.Module, Any, torch.Generator, int], tuple[Tensor, dict[str, float]]]


@dataclass
class TrainResult:
    """What a training leaves in memory; its files are in the run's folder."""

    model: nn.Module
    ema: dict[str, Tensor]  # averaged weights, a state dict of `model`
    step: int
    seconds: float
    stats: list[dict] = field(default_factory=list)


def learning_rate(config: TrainConfig, step: int) -> float:
    """Linear warm-up, then constant or cosine to zero at `config.steps`; `step` counts from 0."""
    warm = min((step + 1) / max(config.warmup, 1), 1.0)
    if config.lr_schedule == "constant":
        return config.lr * warm
    if config.lr_schedule == "cosine":
        return config.lr * warm * 0.5 * (1 + math.cos(math.pi * min(step / config.steps, 1.0)))
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
    return kinds[config.optimizer](
        [{"params": members, "scale": scale} for scale, members in groups.items()],
        lr=config.lr,
        weight_decay=config.weight_decay,
    )


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


def train(
    run: Run,
    model: nn.Module,
    loss_fn: LossFn,
    batch_at: BatchAt,
    config: TrainConfig,
    *,
    on_log: Callable[[dict, nn.Module, PowerEMA], None] | None = None,
    lr_scales: Mapping[str, float] | None = None,
    quiet: bool = False,
) -> TrainResult:
    """Train until `config.steps`, from the run's newest state when it has one.

    Args:
        loss_fn: `(model, batch, generator, step) -> (scalar loss, statistics)`. All randomness must
            come from `generator` (or the global one, which is seeded alike), never from outside.
        batch_at: `step -> batch`, the same batch whenever it is asked.
        on_log: called every `log_every` steps with the logged line, the model and its average.
        lr_scales: as in `make_optimizer`.

    Raises:
        ValueError: a non-finite loss (with the step; the last state stays), a bad configuration.
    """
    optimizer = make_optimizer(model, config, lr_scales)
    place = next(model.parameters()).device
    ema = PowerEMA(model, config.ema_std)
    files = StateFiles(run.checkpoints)
    start = files.load(model, ema.weights, optimizer)
    model.train()
    result = TrainResult(model, ema.weights, start, 0.0)
    began = last = time.perf_counter()
    seen: dict[str, list[float]] = {}  # statistics since the last line; a stage may have its own
    first = start
    steps = range(start, config.steps)
    for step, batch in zip(steps, batches(batch_at, steps, config.workers)):
        lr = learning_rate(config, step)
        for group in optimizer.param_groups:
            group["lr"] = lr * group["scale"]
        generator = seed_generator(config.seed, "step", step)
        torch.manual_seed(generator.initial_seed())  # dropout
        with autocast(config.precision, place):
            loss, stats = loss_fn(model, batch, generator, step)
        if not torch.isfinite(loss):
            raise ValueError(
                f"run {run.name!r}: the loss is {loss.item()} at step {step}; "
                f"the last state in {run.checkpoints} is kept. Lower lr ({config.lr:g})"
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if config.clip:
            stats["gradient_norm"] = float(
                nn.utils.clip_grad_norm_(model.parameters(), config.clip)
            )
        optimizer.step()
        done = step + 1
        ema.update(model, done)
        for name, value in {"loss": float(loss.detach()), **stats}.items():
            seen.setdefault(name, []).append(value)

        if done % config.log_every == 0 or done == config.steps:
            now = time.perf_counter()
            line = run.log(
                done,
                **{name: sum(values) / len(values) for name, values in seen.items()},
                lr=lr,
                images_per_second=(done - first) * config.batch / (now - last),
            )
            result.stats.append(line)
            if not quiet:
                _report(line, config.steps, (now - began) / (done - start) * (config.steps - done))
            if on_log is not None:
                on_log(line, model, ema)
                model.train()
            last, seen, first = time.perf_counter(), {}, done
        if done % config.save_every == 0 or done == config.steps:
            files.save(done, model, ema.weights, optimizer)
        result.step = done
    result.seconds = time.perf_counter() - began
    return result


def _report(line: dict, steps: int, left: float) -> None:
    shown = "  ".join(
        f"{name} {value:.4g}"
        for name, value in line.items()
        if isinstance(value, float) and name not in ("time", "images_per_second")
    )
    print(
        f"step {line['step']}/{steps}  {shown}  {line['images_per_second']:.0f} images/s  "
        f"{left / 60:.1f} min left",
        file=sys.stdout,
        flush=True,
    )
