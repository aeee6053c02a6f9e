"""One training loop for every chapter: a chapter hands it a network, a loss and batches by
position.

The randomness of a step comes from `(seed, step)` alone and data by position, so the same command
run again goes on where the run stopped and gives the same weights as a run that never stopped.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
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


class NonFiniteLoss(ValueError):
    """Raised by a loss function that can say where it broke; the loop adds the step and saves."""


@dataclass
class TrainResult:
    """What a training leaves in memory; its files are in the run's folder."""

    model: nn.Module
    ema: dict[str, Tensor]  # averaged weights, a state dict of `model`
    step: int
    seconds: float
    stats: list[dict] = field(default_factory=list)


def learning_rate(config: TrainConfig, step: int) -> float:
    """Linear warm-up, then constant or cosine to zero at `config.steps`; `step` counts from 0.

    With the cosine, whose length is the run's, the warm-up takes a tenth of the run at most: one
    copied from a long run would be all of a short one.
    """
    warmup = min(config.warmup, config.steps // 10 if config.lr_schedule == "cosine" else math.inf)
    warm = min((step + 1) / max(warmup, 1), 1.0)
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
    fused = {} if config.optimizer == "radam" else {"fused": True}  # RAdam has no fused kernel
    return kinds[config.optimizer](
        [{"params": members, "scale": scale} for scale, members in groups.items()],
        lr=config.lr,
        weight_decay=config.weight_decay,
        **fused,
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


def microbatches(batch: Any, size: int) -> Iterator[tuple[Any, float]]:
    """Parts of a batch with at most `size` images, and the share of the batch that each is.

    Args:
        batch: a tensor, or a tuple or list of tensors of equal length.
        size: images per part; 0 for the whole batch.
    """
    tensors = batch if isinstance(batch, (tuple, list)) else (batch,)
    total = len(tensors[0])
    if not size or size >= total:
        yield batch, 1.0
        return
    for start in range(0, total, size):
        part = tuple(tensor[start : start + size] for tensor in tensors)
        share = len(part[0]) / total
        yield (part if isinstance(batch, (tuple, list)) else part[0]), share


def train(
    run: Run,
    model: nn.Module,
    loss_fn: LossFn,
    batch_at: BatchAt,
    config: TrainConfig,
    *,
    on_log: Callable[[dict, nn.Module, PowerEMA], None] | None = None,
    lr_scales: Mapping[str, float] | None = None,
    after_step: Callable[[nn.Module, int], None] | None = None,
    slow: Mapping[str, nn.Module] | None = None,
    quiet: bool = False,
) -> TrainResult:
    """Train until `config.steps`, from the run's newest state when it has one.

    Args:
        loss_fn: `(model, batch, generator, step) -> (scalar loss, statistics)`, the loss a mean
            over the images. All randomness must come from `generator` (or the global one, which is
            seeded alike), never from outside.
        batch_at: `step -> batch`, the same batch whenever it is asked.
        on_log: called every `log_every` steps with the logged line, the model and its average.
        lr_scales: as in `make_optimizer`.
        after_step: called with the model and the step (from 0) after each update of the weights.
        slow: further networks whose weights belong to the run's state, by name: a target network.

    Raises:
        ValueError: a non-finite loss (with the step; the state before it is saved), a bad
            configuration.
    """
    slow = dict(slow or {})
    place = next(model.parameters()).device
    if config.channels_last:
        for network in (model, *slow.values()):
            network.to(memory_format=torch.channels_last)
    optimizer = make_optimizer(model, config, lr_scales)
    ema = PowerEMA(model, config.ema_std, device=config.ema_device or None, every=config.ema_every)
    files = StateFiles(run.checkpoints)
    start = ema.last = files.load(model, ema.weights, optimizer, slow)
    if config.compile:  # in place, so that names stay; eager random numbers: dropout masks agree
        model.compile(options={"fallback_random": True})
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
        optimizer.zero_grad(set_to_none=True)
        stats: dict[str, float] = {}
        try:
            for part, share in microbatches(batch, config.microbatch):
                with autocast(config.precision, place):
                    loss, values = loss_fn(model, part, generator, step)
                if not torch.isfinite(loss):
                    raise NonFiniteLoss(f"the loss is {loss.item()}")
                (loss * share).backward()
                for name, value in {"loss": float(loss.detach()), **values}.items():
                    stats[name] = stats.get(name, 0.0) + share * value
            if config.clip:
                norm = nn.utils.clip_grad_norm_(model.parameters(), config.clip)
                stats["gradient_norm"] = float(norm)
                if not torch.isfinite(norm):
                    raise NonFiniteLoss(f"the gradient's norm is {norm.item()}")
        except NonFiniteLoss as error:
            raise ValueError(
                f"run {run.name!r}: {error} at step {step}; "
                f"{_keep(files, step, model, ema, optimizer, slow)}. "
                f"Start a new run with a lower lr than {config.lr:g}, or with clip=1"
            ) from error
        optimizer.step()
        if after_step is not None:
            after_step(model, step)
        done = step + 1
        for name, value in stats.items():
            seen.setdefault(name, []).append(value)
        logging = done % config.log_every == 0 or done == config.steps
        saving = done % config.save_every == 0 or done == config.steps
        ema.update(model, done, now=logging or saving)

        if logging:
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
        if saving:
            files.save(done, model, ema.weights, optimizer, slow)
        result.step = done
    result.seconds = time.perf_counter() - began
    return result


def _keep(
    files: StateFiles,
    step: int,
    model: nn.Module,
    ema: PowerEMA,
    optimizer: torch.optim.Optimizer,
    slow: Mapping[str, nn.Module],
) -> str:
    """Save the state before a step that failed, unless it is broken itself; says what is kept."""
    try:
        if step:
            ema.update(model, step, now=True)
            path = files.save(step, model, ema.weights, optimizer, slow)
            return f"the state before it is saved in {path}"
    except ValueError:  # weights that are not finite: the damage was done earlier
        pass
    return f"the last good state in {files.folder} is kept"


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
