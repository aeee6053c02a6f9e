"""One training loop for every chapter: a chapter hands it a network, a loss and batches by
position.

The randomness of a step comes from `(seed, step)` alone and data by position, so the same command
run again goes on where the run stopped and gives the same weights as a run that never stopped.
Several processes share each batch (`distributed`), one computes it in parts (`parts`): the numbers
are the same.
"""

from __future__ import annotations

import contextlib
import json
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..profiles import TrainConfig
from ..runs import Run
from .control import StopRequests, locked
from .distributed import Ranks, current
from .ema import PowerEMA
from .feed import BatchAt, batches
from .gradients import Gradients, LossFn, NonFiniteLoss, clock
from .optimizer import learning_rate, make_optimizer, set_rate
from .store import Export, Store


@dataclass
class TrainResult:
    """What a training leaves in memory; its files are in the run's folder."""

    model: nn.Module
    ema: dict[str, Tensor]  # averaged weights, a state dict of `model`
    step: int
    seconds: float
    stats: list[dict] = field(default_factory=list)
    stopped: str = ""  # who asked to stop before the last step
    split: dict[str, float] = field(default_factory=dict)  # seconds by what they were spent on


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
    export: Export | None = None,
    quiet: bool = False,
) -> TrainResult:
    """Train until `config.steps`, from the run's newest state when it has one.

    Args:
        loss_fn: `(model, batch, generator, step) -> (scalar loss, statistics)`, the loss a mean
            over the images. All randomness must come from `generator` (or the global one, which is
            seeded alike), never from outside.
        batch_at: `step -> batch`, the same batch whenever it is asked. With several processes it is
            asked `(step, share)`, for the images of that slice only.
        on_log: called every `log_every` steps with the logged line, the model and its average; with
            several processes on the first one only.
        lr_scales: as in `make_optimizer`.
        after_step: called with the model and the step (from 0) after each update of the weights.
        slow: further networks whose weights belong to the run's state, by name: a target network.
        export: `(path, averaged weights)`, writes a snapshot; None: plain half-precision weights.

    Raises:
        ValueError: a non-finite loss (with the step; the state before it is saved), a bad
            configuration, a full disk, another process that trains this run, ranks that disagree.
        KeyboardInterrupt: Ctrl-C, after the step, its state saved.
    """
    ranks = current()
    ranks.agree("the configuration", json.dumps(asdict(config), default=str, sort_keys=True))
    with contextlib.ExitStack() as held:
        if ranks.main:
            ranks.together(lambda: held.enter_context(locked(run.folder)))
        else:
            ranks.together(lambda: None)
        stop = held.enter_context(StopRequests(run.folder if ranks.main else None))
        loop = ranks.together(
            lambda: _Loop(run, model, loss_fn, config, ranks, lr_scales, after_step, slow, export)
        )
        loop.quiet = quiet or not ranks.main
        loop.on_log = on_log
        return loop.go(batch_at, stop)


class _Loop:
    """The state of one call of `train`."""

    quiet = False
    on_log: Callable[[dict, nn.Module, PowerEMA], None] | None = None

    def __init__(
        self, run: Run, model: nn.Module, loss_fn: LossFn, config: TrainConfig, ranks: Ranks,
        lr_scales: Mapping[str, float] | None, after_step: Callable | None,
        slow: Mapping[str, nn.Module] | None, export: Export | None,
    ):  # fmt: skip
        self.run, self.model, self.config, self.ranks = run, model, config, ranks
        self.after_step = after_step
        slow = dict(slow or {})
        self.place = next(model.parameters()).device
        if config.channels_last:
            for network in (model, *slow.values()):
                network.to(memory_format=torch.channels_last)
        self.optimizer = make_optimizer(model, config, lr_scales)
        self.ema = PowerEMA(
            model, config.ema_std, device=config.ema_device or None, every=config.ema_every
        )
        self.store = Store(run, config, model, self.ema, self.optimizer, slow, export)
        self.start = self.store.load()
        run.keep_config(config)
        self.slow, self.loss_fn = slow, loss_fn
        self.split: dict[str, float] = {}
        self.seen: dict[str, list[float]] = {}  # a stage may have its own statistics

    def clock(self, what: str) -> contextlib.AbstractContextManager:
        return clock(self.split, what)

    def go(self, batch_at: BatchAt, stop: StopRequests) -> TrainResult:
        config, ranks, model = self.config, self.ranks, self.model
        ranks.agree("the step of the newest state", self.start)
        ranks.send(model, *self.slow.values())  # equal already, unless one was made unseeded
        if config.compile:  # in place: names stay; eager random numbers: dropout masks agree
            model.compile(options={"fallback_random": True})
        self.gradients = Gradients(self.run.name, model, self.loss_fn, config, ranks, self.split)
        share = (ranks.share(config.batch),) if ranks.size > 1 else ()
        steps = range(self.start, config.steps)
        result = TrainResult(model, self.ema.weights, self.start, 0.0, split=self.split)
        model.train()
        feed = batches(lambda step: batch_at(step, *share), steps, config.workers)
        with contextlib.closing(feed):
            self.steps(feed, steps, stop, result)
        if result.step:
            result.ema = self.ema.fresh(model, result.step)
        if stop.interrupted:
            raise KeyboardInterrupt
        return result

    def steps(
        self, feed: Iterator[Any], steps: range, stop: StopRequests, result: TrainResult
    ) -> None:
        """The visible loop: a batch, a step, the average; a line, a state when they are due."""
        config, ranks = self.config, self.ranks
        began = last = time.perf_counter()
        first = self.start
        for step in steps:
            with self.clock("data"):
                batch = ranks.together(lambda: next(feed))
            lr = learning_rate(config, step)
            set_rate(self.optimizer, lr)
            stopping = self.update(batch, step, stop)
            done = result.step = step + 1
            ended = done == config.steps or stopping
            with self.clock("average"):
                ranks.average_buffers(self.model)
                self.ema.update(self.model, done)
            if done % config.log_every == 0 or ended:
                now = time.perf_counter()
                line = self.line(lr, done, (done - first) * config.batch / (now - last))
                left = (now - began) / (done - self.start) * (config.steps - done)
            else:
                line = left = None
            saving = done % config.save_every == 0 or ended
            if saving:
                ranks.check_same(self.model)
            if saving or line is not None or done in self.store.plan.snapshots:
                ranks.together(lambda: self.write(done, saving, line, left, result))  # noqa: B023
            if line is not None:
                last, first = time.perf_counter(), done
            result.seconds = time.perf_counter() - began
            if stopping and done < config.steps:
                result.stopped = stop.asked or "another rank"
                stop.honoured()
                if not self.quiet:
                    print(f"{result.stopped}: stopped at step {done} of {config.steps}, the state "
                          "is saved; the same command goes on", flush=True)  # fmt: skip
                break

    def write(
        self, done: int, saving: bool, line: dict | None, left: float | None, result: TrainResult
    ) -> None:
        """In this order: a step that is in a state has its line and its snapshot, also after
        `kill -9`; what may fail or take long (measurements, pictures) comes last."""
        if line is not None:
            line = self.store.log(done, **line)
            result.stats.append(line)
            if not self.quiet:
                _report(line, self.config.steps, left)
        self.store.snapshot(done)
        if saving:
            self.store.save(done)
        if line is None:
            return
        if self.on_log is not None and self.ranks.main:
            self.on_log(line, self.model, self.ema)
            self.model.train()

    def update(self, batch: Any, step: int, stop: StopRequests) -> bool:
        """One step of the optimiser; returns whether it is to be the last for now."""
        try:
            stats, stopping = self.gradients(batch, step, stop)
        except NonFiniteLoss as error:
            raise ValueError(
                f"run {self.run.name!r}: {error} at step {step}; {self.store.keep(step)}. Start a "
                f"new run with a lower lr than {self.config.lr:g}, or with clip=1"
            ) from error
        with self.clock("optimizer"):
            self.optimizer.step()
            if self.after_step is not None:
                self.after_step(self.model, step)
        for name, value in stats.items():
            self.seen.setdefault(name, []).append(value)
        return stopping

    def line(self, lr: float, done: int, rate: float) -> dict:
        """Statistics since the last line: means over steps and ranks."""
        means = {name: sum(values) / len(values) for name, values in self.seen.items()}
        self.seen = {}
        memory = self.ranks.most(_peak_memory(self.place))
        more = {"lr": lr, "ema_beta": self.ema.decay(done), "memory_gb": memory}
        return self.ranks.mean(means) | more | {"images_per_second": rate}


def _peak_memory(place: torch.device) -> float:
    """Most memory so far, in GB: of the GPU, or of this process."""
    if place.type == "cuda":
        return torch.cuda.max_memory_allocated(place) / 1e9
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes * (1 if sys.platform == "darwin" else 1024) / 1e9


def _report(line: dict, steps: int, left: float) -> None:
    hidden = ("time", "images_per_second", "ema_beta")
    shown = "  ".join(
        f"{name} {value:.4g}"
        for name, value in line.items()
        if isinstance(value, float) and name not in hidden
    )
    print(
        f"step {line['step']}/{steps}  {shown}  {line['images_per_second']:.0f} images/s  "
        f"{left / 60:.1f} min left",
        file=sys.stdout,
        flush=True,
    )
